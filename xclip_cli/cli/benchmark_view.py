"""What a person sees of a benchmark: what is being done on stderr, the table on stdout."""

from collections.abc import Sequence
from pathlib import Path

from xclip_cli.benchmark.settings import AccuracySettings, SpeedSettings
from xclip_cli.cli import console, options, progress
from xclip_cli.cli.tag_view import print_skip_counts
from xclip_cli.errors import Interrupted
from xclip_cli.files import make_folder
from xclip_cli.labels import LabelSet
from xclip_cli.runs.batch import find_videos


def show_speed(settings: SpeedSettings, output: Path | None) -> None:
    """Two tables on stdout: all networks, then where the time of ours goes."""
    from xclip_cli.benchmark import speed

    if output:
        make_folder(output)
    with console.err().status("starting") as status:
        found = speed.run(settings, lambda text: status.update(console.shown(text)))
    for name, value in found.machine.items():
        console.print_line(f"{name}: {value}")
    console.print_table(speed.COLUMNS, found.rows)
    console.out().print()
    console.print_table(speed.PART_COLUMNS, [row for row in found.rows if row["ours"]])
    if output:
        found.write(output)
        console.print_line(f"{output}: speed.csv, speed.json, speed.png")


def show_decoding(paths: Sequence[str], recursive: bool, threads: int, timeout_seconds: float) -> int:
    """A row for each file and reader; gives the exit code: 1 where a file failed."""
    from xclip_cli.benchmark import decoding  # apart: it needs no torch

    named, listed = options.read_paths(list(paths))
    found = find_videos(named, recursive, listed)
    print_skip_counts(found, quiet=False)
    for reason in found.unreadable.values():
        console.print_warning(reason)
    videos = [path for path in found.videos if path not in found.unreadable]
    rows = []
    with console.err().status("decoding") as status:
        for row in decoding.run(videos, threads, timeout_seconds):
            rows.append(row)
            status.update(f"{len(rows)} of {len(videos) * len(decoding.installed())}")
    console.print_table(decoding.COLUMNS, [row.row for row in rows])
    return 1 if found.unreadable or any(row.error for row in rows) else 0


def show_accuracy(
    data: str, label_set: LabelSet | None, settings: AccuracySettings, output: Path | None, command: str
) -> int:
    """A row for each variant; gives the exit code: 1 where a clip failed."""
    from xclip_cli.benchmark import accuracy, report

    with progress.bar("measuring") as update:
        try:
            found = accuracy.run(data, label_set, settings, output, update)
        except KeyboardInterrupt:
            raise Interrupted("stopped", "with -o FOLDER run the same command again to go on") from None
    for name, value in found.facts.items():
        console.print_line(f"{name}: {value}")
    for line in found.warnings:
        console.print_warning(line)
    rows = report.rows(found)
    console.print_rows(tuple(rows[0]), [tuple(row.values()) for row in rows])
    failed = [result for result in found.results[0] if result.error is not None]
    for result in failed:
        console.print_warning(f"not measured: {result.video}: {result.error}")
    if output:
        report.write(found, output, command)
        console.print_line(f"{output}: report.md, accuracy.csv, classes.csv, confusion.png, ...")
    return 1 if failed else 0
