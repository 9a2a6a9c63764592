"""A copy of a video with its tags on the pictures: captions are drawn as they come, in a process that can be killed."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from xclip_cli.errors import OutputError
from xclip_cli.files import one_line, replacing
from xclip_cli.outputs.overlay import overlay
from xclip_cli.outputs.plots import draw_caption
from xclip_cli.results import Tag, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.video.process import follow, program, report_to_parent
from xclip_cli.video.source import shown

_MOST_LINES = 6


def annotate(
    result: VideoResult,
    output: Path,
    settings: TagSettings,
    on_progress: Callable[[float, float], None] = lambda seconds, total: None,
) -> None:
    """Write the tagged video with its tags to ``output``, an MP4, whole or not at all.

    A moment shows the tags of the segments that hold then. ``on_progress(seconds, total)`` counts seconds of the video.
    The process is killed if it makes no progress for ``settings.decode_timeout_seconds``. Raises VideoError and
    OutputError.
    """
    try:
        with tempfile.TemporaryFile("w+") as request, replacing(output, follow_link=True) as draft:
            json.dump([*map(os.path.abspath, (result.video, draft)), list(_captions(result))], request)
            request.seek(0)
            command = program("from xclip_cli.outputs.annotate import main; main()")
            timeout = settings.decode_timeout_seconds
            follow(command, shown(result.video), "annotated", timeout, on_progress, stdin=request)
    except OSError as error:
        raise OutputError(f"cannot write {str(output)!r}: {error.strerror or error}", "choose another place") from error


def moments(result: VideoResult) -> Iterator[tuple[float, float, list[Tag]]]:
    """The spans [start, stop) in seconds in which the same tags hold, and these, best first."""
    edges = sorted({0.0, *(s.start_seconds for s in result.segments), *(s.end_seconds for s in result.segments)})
    for start, stop in pairwise(edges):
        held = [s for s in result.segments if s.start_seconds <= start < s.end_seconds]
        if tags := sorted((tag for s in held for tag in s.tags), key=lambda tag: -(tag.score or 0.0)):
            yield start, stop, tags


def _captions(result: VideoResult) -> Iterator[tuple[float, float, list[tuple[str, str]]]]:
    """When each caption is shown, from and to which second, and its lines: a label and its score."""
    for start, stop, tags in moments(result):
        lines = [(one_line(tag.label), "" if tag.score is None else f"{tag.score:.2f}") for tag in tags[:_MOST_LINES]]
        yield start, stop, lines


def main() -> None:
    """The program of the process: a video, an output and captions as JSON on standard input."""
    video, output, captions = json.load(sys.stdin)
    report_to_parent(
        video, "annotated", lambda on_progress: overlay(video, output, captions, draw_caption, on_progress)
    )
