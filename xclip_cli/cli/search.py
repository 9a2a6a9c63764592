"""`xclip search`: a sentence or an example in, moments of indexed videos out."""

import re
import time
from pathlib import Path

import typer

from xclip_cli.cli import console, options
from xclip_cli.errors import UsageError
from xclip_cli.files import index_dir
from xclip_cli.settings import TagSettings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def search(
    sentence: options.Question = None,
    like: options.Like = None,
    in_: options.In = None,
    since: options.Since = None,
    top_k: options.NumMoments = 20,
    index: options.IndexFolder = None,
    model: options.Model = TagSettings.model,
    device: options.Device = TagSettings.device,
    decode_timeout: options.DecodeTimeout = TagSettings.decode_timeout_seconds,
    output: options.MomentsOutput = None,
    format: options.MomentsFormat = None,
    overwrite: options.OverwriteFiles = False,
    report: options.Report = None,
    cut: options.CutMoments = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find moments in indexed videos (see `xclip index`) by a sentence, or by what is like a video.

    Scores are cosines of the sentence and the moment's best window. A terminal gets a table, a pipe gets CSV.
    """
    if (sentence is None) == (like is None):
        raise UsageError("a search takes a sentence or --like, one of them", 'xclip search "a dog jumping"')
    from xclip_cli.cli import progress
    from xclip_cli.cli import search_view as view
    from xclip_cli.index.index import Index  # here, so that every other command starts without it

    started = time.perf_counter()
    target = None if output in (None, "-") else Path(output)
    format_name = view.choose_format(format.value if format else None, output, target)
    view.check_files(target, report, cut, overwrite)
    if in_ is not None and not in_.exists():
        raise UsageError(f"--in is {str(in_)!r}: there is no such folder or video", "check the path")
    changed_since = None if since is None else time.time() - _seconds(since)
    with Index(index or index_dir(), model, device=device, decode_timeout_seconds=decode_timeout) as opened:
        with progress.spinner("loading the model", quiet):
            query = opened.query(sentence, like=like)
        asked = time.perf_counter()
        answer = opened.search(query, top_k=top_k, folder=in_, changed_since=changed_since)
    if verbose:
        now = time.perf_counter()
        console.print_line(f"{answer.windows} windows in {now - asked:.3f} s, {asked - started:.3f} s before")
    for line in query.warnings if not quiet else ():
        console.print_warning(line)
    model, settings = answer.collection.model, opened.as_indexed(answer.collection.recipe)
    view.show(answer, sentence or like, model, format_name, target, quiet)
    failed = view.write_files(answer, sentence or like, model, settings, report, cut, quiet)
    raise typer.Exit(1 if failed else 0)


def _seconds(ago: str) -> float:
    """Return how long that is. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhdw])", ago)
    if found is None:
        raise UsageError(f"--since is {ago!r}: it must be a number and s, m, h, d or w", "such as 30m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]
