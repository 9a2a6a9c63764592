"""What a person sees of a benchmark: what is being done on stderr, the table on stdout."""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xclip_cli.batch import find_videos
from xclip_cli.cli import console, options
from xclip_cli.cli.report import count_skipped
from xclip_cli.errors import Interrupted
from xclip_cli.labels import LabelSet
from xclip_cli.settings import AccuracySettings, SpeedSettings

_SPEED_HEADS = (
    "network", "weights", "frames", "M param", "GMAC", "+text", "p50 ms", "p95 ms", "clips/s", "batch", "% of matmul",
    "MB", "K400 %",
)  # fmt: skip
_PART_HEADS = (
    "one clip, ms", "decode", "preprocess", "encoder", "text, 10 labels", "400", "scoring, 10 labels", "400",
)  # fmt: skip
_DECODE_HEADS = ("file", "reader", "size", "frames", "8 frames: frames/s", "all: frames/s", "error")


def show_speed(settings: SpeedSettings, output: Path | None) -> None:
    """Two tables on stdout: all networks, then where the time of ours goes."""
    from xclip_cli.benchmark import speed

    with console.err().status("starting") as status:
        found = speed.run(settings, lambda text: status.update(console.shown(text)))
    for name, value in found.machine.items():
        console.print_line(f"{name}: {value}")
    rows = [
        (
            row.name, row.weights, str(row.num_frames), f"{row.parameters:.1f}", f"{row.gigamacs:.1f}",
            _number(row.gigamacs_with_text, 1), f"{row.latency_p50:.1f}", f"{row.latency_p95:.1f}",
            f"{row.throughput:.2f}", str(row.batch), f"{row.of_matrix_percent:.0f}", _number(row.memory, 0),
            _number(row.accuracy, 1),
        )
        for row in found.rows
    ]  # fmt: skip
    console.print_rows(_SPEED_HEADS, rows)
    parts = [
        (
            row.name, _number(row.decode, 1), _number(row.preprocess, 1), f"{row.latency_p50:.1f}",
            _number(row.text_10, 1), _number(row.text_400, 1), _number(row.scoring_10, 1), _number(row.scoring_400, 1),
        )
        for row in found.rows
        if row.ours
    ]  # fmt: skip
    console.out().print()
    console.print_rows(_PART_HEADS, parts)
    if output:
        found.write(output)
        console.print_line(f"{output}: speed.csv, speed.json, speed.png")


def show_decoding(paths: Sequence[str], recursive: bool, threads: int, timeout_seconds: float) -> int:
    """A row for each file and reader; gives the exit code: 1 where a file failed."""
    from xclip_cli.benchmark import decoding

    named, listed = options.read_paths(list(paths))
    found = find_videos(named, recursive, listed)
    count_skipped(found.skipped, quiet=False)
    for reason in found.unreadable.values():
        console.print_warning(reason)
    videos = [path for path in found.videos if path not in found.unreadable]
    rows = []
    with console.err().status("decoding") as status:
        for row in decoding.run(videos, threads, timeout_seconds):
            rows.append(row)
            status.update(f"{len(rows)} of {len(videos) * len(decoding.installed())}")
    size = [f"{row.width}x{row.height}" if row.width else "-" for row in rows]
    cells = [
        (
            row.path, row.reader, size[i], str(row.num_frames or "-"), _number(row.clip_rate, 1),
            _number(row.whole_rate, 1), row.error or "-",
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    console.print_rows(_DECODE_HEADS, cells)
    return 1 if found.unreadable or any(row.error for row in rows) else 0


def show_accuracy(
    data: str, label_set: LabelSet | None, settings: AccuracySettings, output: Path | None, command: str
) -> int:
    """A row for each variant; gives the exit code: 1 where a clip failed."""
    from xclip_cli.benchmark import accuracy, report

    columns = TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    hidden = not console.err().is_terminal
    with Progress(*columns, console=console.err(), disable=hidden, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=None)
        try:
            found = accuracy.run(
                data,
                label_set,
                settings,
                output,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            raise Interrupted("stopped", "with -o FOLDER run the same command again to go on") from None
    for name, value in found.facts.items():
        console.print_line(f"{name}: {value}")
    for line in found.warnings:
        console.print_warning(line)
    console.print_rows(report.HEADS, report.rows(found))
    failed = [result for result in found.results[0] if result.error is not None]
    for result in failed:
        console.print_warning(f"not measured: {result.video}: {result.error}")
    if output:
        report.write(found, output, command)
        console.print_line(f"{output}: report.md, accuracy.csv, classes.csv, confusion.png, ...")
    return 1 if failed else 0


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
