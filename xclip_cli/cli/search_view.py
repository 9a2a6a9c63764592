"""What a person sees of a search, and the files that it writes."""

import os
from pathlib import Path

from xclip_cli.cli import console
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import check_destination, make_folder, write_text
from xclip_cli.index.search import Answer, results
from xclip_cli.outputs import MOMENT_FORMATS
from xclip_cli.results import SCORE_DIGITS, Moment, moment_rows
from xclip_cli.settings import TagSettings


def choose_format(asked: str | None, output: str | None, target: Path | None) -> str:
    """What was asked for, else what the file is called; without one a table for a person who looks, CSV for a pipe.

    Raises UsageError for a table in a file and for a suffix of no format.
    """
    if asked is None and target is None:
        return "table" if output is None and console.stdout_is_terminal() else "csv"
    name = asked or target.suffix.lower().lstrip(".")
    if target and name not in MOMENT_FORMATS:
        raise UsageError(
            f"{str(target)!r} would be of the format {name!r}: known ones are {', '.join(MOMENT_FORMATS)}",
            "rename the output, or add --format csv",
        )
    return name


def check_files(target: Path | None, report: Path | None, cut: Path | None, overwrite: bool) -> None:
    """Raises UsageError where a file would be lost, OutputError where the folder for cuts cannot be made."""
    if target is not None:
        check_destination(target)
        if target.exists() and not overwrite:
            raise UsageError(f"the output {str(target)!r} exists", "add --overwrite to replace it")
    if report is not None:
        from xclip_cli.cli.tag_files import check_file

        check_file("--report", report, (".html", ".htm"), (), overwrite)
    if cut is not None:
        make_folder(cut)


def show(answer: Answer, query: str, model: str, format_name: str, target: Path | None, quiet: bool) -> None:
    """The moments, to the file or to stdout; on stderr what was passed over."""
    if format_name == "table":
        _print_table(answer.moments)
    else:
        text = MOMENT_FORMATS[format_name]().moments(list(moment_rows(answer.moments, query, model)))
        _write(text, target)
    if quiet:
        return
    if not answer.windows:
        console.print_warning("nothing is indexed there")
    elif answer.moments and not any(moment.stands_out for moment in answer.moments):
        console.print_warning(
            f"nothing stands out: among {answer.windows} windows chance alone finds some that fit as well as these"
        )
    if answer.lost:
        count = "1 video that is" if len(answer.lost) == 1 else f"{len(answer.lost)} videos that are"
        console.print_warning(f"passed over: {count} gone or changed since, such as {answer.lost[0]}: run xclip index")
    if target:
        console.print_line(f"{len(answer.moments)} moments -> {target}")


def _write(text: str, target: Path | None) -> None:
    if target is None:
        return console.write(text.encode())
    try:
        write_text(target, text, follow_link=True)
    except OSError as error:
        raise OutputError(f"cannot write {str(target)!r}: {error.strerror}", "free space, or use another -o") from error


def _print_table(moments: list[Moment]) -> None:
    for moment in moments:
        bar = console.score_bar(moment.score)
        when = f"{console.clock(moment.start_seconds)} - {console.clock(moment.end_seconds)}"
        score = f"{moment.score:.{SCORE_DIGITS}f}{' ' if moment.stands_out else '?'}"
        console.out().print(f"{score:>8} {bar}  {when}  {console.shown(_near(moment.video))}")


def _near(path: str) -> str:
    """The path as seen from here, where it lies below."""
    here = os.path.join(os.path.realpath("."), "")
    return path[len(here) :] if path.startswith(here) else path


def write_files(
    answer: Answer, query: str, model: str, settings: TagSettings, report: Path | None, cut: Path | None, quiet: bool
) -> int:
    """Writes the report and the cuts; gives how many moments could not be cut, each of which is named on stderr."""
    if report is not None:
        from xclip_cli.cli.tag_files import write_report

        write_report(report, results(answer.moments, query, model), settings, quiet, f"Moments: {query}")
    if cut is None:
        return 0
    from xclip_cli.cli import cuts

    parts = [cuts.Part(moment.video, moment.start_seconds, moment.end_seconds, query) for moment in answer.moments]
    videos = [moment.video for moment in answer.moments]
    return cuts.write(parts, videos, cut, settings.decode_timeout_seconds, quiet)
