"""What a person sees of a run: the table, the progress bar, warnings and the closing line."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from xclip_cli.batch import Batch
from xclip_cli.cli import console
from xclip_cli.errors import Interrupted, OutputError, VideoError
from xclip_cli.outputs import FORMATS
from xclip_cli.outputs.base import printable, render
from xclip_cli.results import SCORE_DIGITS, Segment, VideoResult

_BAR_WIDTH = 24
_GO_ON = "with -o FILE nothing finished is lost: run the same command again to go on"


def default_format(output: str | None) -> str:
    """A table for a person who looks, CSV for a pipe or an explicit `-o -`."""
    return "table" if output is None and console.stdout_is_terminal() else "csv"


def announce(job: Batch) -> None:
    """Says on stderr what is about to run."""
    settings, labels = job.settings, job.label_set
    console.err().print(
        f"{len(job.videos)} videos, {len(labels.labels)} labels of {labels.name}, model {settings.model} on "
        f"{settings.device} in {settings.dtype}, {settings.num_clips} x {settings.num_crops} views, {settings.reader}",
        markup=False,
    )


def one_line(text: str) -> str:
    """Text with its control characters written out, so that a file's name cannot command the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in printable(text))


def watch(
    job: Batch, results: Iterable[VideoResult], bar: bool, strict: bool, quiet: bool, verbose: bool
) -> Iterator[VideoResult]:
    """Passes results on, with warnings, failures and, if `bar`, progress on stderr. Raises VideoError if `strict`."""
    hidden = not bar or quiet or len(job.videos) < 2 or not console.err().is_terminal
    columns = (
        TextColumn("tagging"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} [red]{task.fields[failures]}"),
        TimeRemainingColumn(),
    )
    # stdout is for data: a bar must not take it over
    with Progress(*columns, console=console.err(), disable=hidden, transient=True, redirect_stdout=False) as progress:
        progress.add_task("", total=len(job.videos), rate="", failures="")
        try:
            for result in results:
                _tell(result, quiet, verbose)
                _advance(progress, job)
                if strict and result.error is not None:
                    raise VideoError(f"{one_line(result.video)} failed and --strict was asked for", _GO_ON)
                yield result
        except KeyboardInterrupt:
            raise Interrupted(f"stopped after {job.finished} of {len(job.videos)} videos", _GO_ON) from None


def _advance(progress: Progress, job: Batch) -> None:
    [task] = progress.tasks
    rate = f"{task.speed:.1f} videos/s" if task.speed else ""
    failures = f"{job.failed} failed" if job.failed else ""
    progress.update(task.id, completed=job.finished, rate=rate, failures=failures)


def _tell(result: VideoResult, quiet: bool, verbose: bool) -> None:
    if result.error is not None:
        console.err().print(f"[red]failed:[/] {escape(one_line(result.video))}: {escape(one_line(result.error))}")
    elif not quiet:
        for warning in result.warnings:
            console.print_warning(f"{one_line(result.video)}: {one_line(warning)}")
        if verbose:
            console.err().print(f"[dim]done: {escape(one_line(result.video))}[/]")


def summarise(job: Batch, target: Path | None, seconds: float, quiet: bool, verbose: bool) -> None:
    """Says on stderr how a run ended."""
    if not quiet and (verbose or target or job.failed):
        where = f" -> {target}" if target else ""
        counts = f"{job.finished - job.failed} tagged ({job.resumed} before), {job.failed} failed"
        console.err().print(f"{counts}, {seconds:.1f} s{escape(where)}")


def print_results(format_name: str, results: Iterable[VideoResult]) -> None:
    """Writes results to stdout as they come."""
    if format_name == "table":
        for result in results:
            _print_table(result)
        return
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    for piece in render(FORMATS[format_name](), results):
        try:
            sys.stdout.write(piece)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            console.discard_stdout()
            raise OutputError(
                f"cannot write to standard output: {error.strerror}", "free space, or use -o FILE"
            ) from error


def _print_table(result: VideoResult) -> None:
    for segment in result.segments:
        name = escape(one_line(result.video))
        console.out().print(f"[bold]{name}[/]  [dim]{segment.end_seconds - segment.start_seconds:.1f} s[/]")
        console.out().print(_table(segment))


def _table(segment: Segment) -> Table:
    table = Table.grid(padding=(0, 2))
    for tag in segment.tags:
        score = tag.score or 0.0
        filled = round(score * _BAR_WIDTH)
        bar = f"[green]{'█' * filled}[/][dim]{'░' * (_BAR_WIDTH - filled)}[/]"
        table.add_row("", escape(tag.label), bar, "" if tag.score is None else f"{score:.{SCORE_DIGITS}f}")
    return table
