"""What a person sees of tagging: the table, the progress bar, warnings and the closing line."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.table import Table

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.cli import console, cuts, progress
from xclip_cli.errors import Interrupted, UsageError, VideoError
from xclip_cli.files import index_dir, make_folder
from xclip_cli.index.build import IndexedTags
from xclip_cli.index.store import Store
from xclip_cli.labels import typed
from xclip_cli.outputs import FORMATS, check_format, format_of
from xclip_cli.results import SCORE_DIGITS, Segment, VideoResult
from xclip_cli.runs.batch import Batch
from xclip_cli.runs.find import LINK, Found
from xclip_cli.runs.shards import Shard
from xclip_cli.settings import TagSettings

_MAX_REASONS = 8
_GO_ON = "with -o FILE nothing finished is lost: run the same command again to go on"


def choose_format(asked: str | None, output: str | None, target: Path | None) -> str:
    """What was asked for, else what the file is called; without one a table for a person who looks, CSV for a pipe.

    An explicit `-o -` is a pipe. Raises UsageError for a table in a file and for a suffix of no format,
    MissingExtraError for a format that takes a package which is not installed.
    """
    if target and asked == "table":
        raise UsageError("a table is for the terminal, not for a file", "use --format csv, json or jsonl")
    if asked is None and target is None:
        return "table" if output is None and console.stdout_is_terminal() else "csv"
    name = asked or format_of(target)
    if name != "table":
        check_format(name)
    return name


def choose_shard(text: str | None, format_name: str) -> Shard | None:
    """The shard, if one was asked for. Raises UsageError, also for a format that gives each video a file of its own."""
    if text is None:
        return None
    shard = Shard.parse(text)
    if format_name in FORMATS and FORMATS[format_name].one_video:
        raise UsageError(f"--shard gives rows, and {format_name} a file of each video", "use csv, json or jsonl")
    return shard


def announce(job: Batch, typed_labels: Sequence[str], quiet: bool, verbose: bool) -> None:
    """Says on stderr what may be wrong about the labels and the model and, if `verbose`, what is about to run."""
    if not quiet:
        model = job.checkpoint
        for note in job.label_set.notes:
            console.print_line(note)
        warnings = typed.typed_warnings(typed_labels, job.label_set, model.default_labels)
        for line in (*warnings, *job.label_set.calibration_warnings(model.name, model.fingerprint), *model.warnings):
            console.print_warning(line)
        if job.part is not None:
            part = job.part
            console.print_line(f"shard {part.number}/{part.of}: {len(job.videos)} of {_plural(part.videos, 'video')}")
    if not verbose:
        return
    settings, labels = job.settings, job.label_set
    console.print_line(
        f"{len(job.videos)} videos, {len(labels.labels)} labels of {labels.name}, model {settings.model} on "
        f"{settings.device} in {settings.dtype}, {settings.num_clips} x {settings.num_crops} views, {settings.reader}"
    )


@contextmanager
def indexed_tags(
    folder: Path | None, checkpoint: Checkpoint, settings: TagSettings, quiet: bool
) -> Iterator[IndexedTags]:
    """The engine of --from-index; says on stderr where its numbers are not those of tagging."""
    with Store(folder or index_dir()) as store:
        engine = IndexedTags(store, checkpoint, settings)
        for line in () if quiet else engine.warnings:
            console.print_warning(line)
        yield engine


def print_skipped(path: str, reason: str) -> None:
    """Names on stderr a file that is left out."""
    console.err().print(f"[dim]skipped ({reason}): {console.shown(path)}[/]")


def print_skip_counts(found: Found, quiet: bool) -> None:
    """Says on stderr what holds no video, and in one line how many files were left out and why."""
    for line in () if quiet else found.warnings:
        console.print_warning(line)
    skipped = found.skipped
    if skipped and not quiet:
        common = skipped.most_common(_MAX_REASONS)
        parts = [_times(count, reason) for reason, count in sorted(common, key=lambda item: item[0] == LINK)]
        if rest := skipped.total() - sum(count for _, count in common):
            parts.append(f"{rest} x others")
        console.print_line(f"{_plural(skipped.total(), 'file')} skipped: {', '.join(parts)}")


def _times(count: int, reason: str) -> str:
    return _plural(count, LINK) if reason == LINK else f"{count} x {reason}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def watch(
    job: Batch, results: Iterable[VideoResult], bar: bool, strict: bool, quiet: bool, verbose: bool
) -> Iterator[VideoResult]:
    """Passes results on, with warnings, failures and progress on stderr. Raises VideoError if `strict`.

    Without `bar` the results go to the same terminal: progress is shown only while the next one is waited for.
    """
    update = progress.Bar("tagging", len(job.videos), quiet, "videos/s")
    job.on_progress = lambda seconds, end: update.within(job.finished, seconds, end, job.failed)
    with update.visible() if bar else nullcontext():
        try:
            for result in results if bar else _each(results, update):
                tell(result, quiet, verbose)
                update(job.finished, failed=job.failed)
                if strict and result.error is not None:
                    raise VideoError(f"{result.video} failed and --strict was asked for", _GO_ON)
                yield result
        except KeyboardInterrupt:
            raise Interrupted(f"stopped after {job.finished} of {len(job.videos)} videos", _GO_ON) from None


def _each(results: Iterable[VideoResult], update: progress.Bar) -> Iterator[VideoResult]:
    results = iter(results)
    while True:
        with update.visible():
            result = next(results, None)
        if result is None:
            return
        yield result


def tell(result: VideoResult, quiet: bool, verbose: bool) -> None:
    """Says on stderr that a video failed, and what was made do with."""
    if result.error is not None:
        console.print_named("red", "failed:", f"{result.video}: {result.error}")
    elif not quiet:
        for warning in result.warnings:
            console.print_warning(f"{result.video}: {warning}")
        if verbose:
            console.err().print(f"[dim]done: {console.shown(result.video)}, read by {result.reader}[/]")


def summarise(job: Batch, target: Path | None, seconds: float, quiet: bool, verbose: bool) -> None:
    """Says on stderr how a run ended."""
    if not quiet and (verbose or target or job.failed):
        where = f" -> {console.shown(str(target))}" if target else ""
        counts = f"{job.finished - job.failed} tagged ({job.resumed} before), {job.failed} failed"
        console.err().print(f"{counts}, {seconds:.1f} s{where}")


def print_results(format_name: str, results: Iterable[VideoResult], num_videos: int) -> None:
    """Writes results to stdout as they come. Raises UsageError for what a terminal or one document cannot hold."""
    if format_name == "table":
        for result in results:
            _print_table(result)
        return
    if FORMATS[format_name].one_video and num_videos > 1:
        hint = f"name a folder for a file of each: -o subtitles --format {format_name}"
        raise UsageError(f"{format_name} has the subtitles of one video, and {num_videos} were given", hint)
    if not FORMATS[format_name].for_terminal and console.stdout_is_terminal():
        hint = f"name a file: -o tags{FORMATS[format_name].suffix}"
        raise UsageError(f"{format_name} is not for a terminal", hint)
    for piece in FORMATS[format_name]().pieces(results):
        console.write(piece)


def _print_table(result: VideoResult) -> None:
    if not result.segments:
        return
    seconds = max(segment.end_seconds for segment in result.segments)
    console.out().print(f"[bold]{console.shown(result.video)}[/]  [dim]{seconds:.1f} s[/]")
    console.out().print(_table(result.segments))


def _table(segments: Sequence[Segment]) -> Table:
    """A row per tag; those of a timeline say from when to when."""
    table = Table.grid(padding=(0, 2))
    for segment in segments:
        for tag in segment.tags:
            score = "" if tag.score is None else f"{tag.score:.{SCORE_DIGITS}f}"
            span = f"{console.clock(segment.start_seconds)} - {console.clock(segment.end_seconds)}"
            when = "" if tag.peak_score is None else span
            table.add_row(when, console.shown(tag.label), console.score_bar(tag.score or 0.0), score)
    return table


def prepare_cuts(folder: Path, settings: TagSettings) -> None:
    """Makes the folder for --cut. Raises UsageError without --window, OutputError where it cannot be made."""
    if settings.window_seconds is None:
        raise UsageError("--cut takes the segments of a timeline", "add --window auto")
    make_folder(folder)


def cut_segments(job: Batch, folder: Path, quiet: bool) -> int:
    """Writes every segment with a label to a file of its own, names on stderr what fails, and gives how many did."""
    segments = [(r.video, s, s.tags[0]) for r in job.results for s in r.segments if s.tags[0].peak_score is not None]
    parts = [cuts.Part(video, s.start_seconds, s.end_seconds, tag.label) for video, s, tag in segments]
    return cuts.write(parts, job.videos, folder, job.settings.decode_timeout_seconds, quiet)
