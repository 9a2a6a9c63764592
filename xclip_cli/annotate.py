"""A copy of a video with its tags burnt in: captions are drawn here, pictures in a process that can be killed."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from xclip_cli.errors import OutputError, VideoError
from xclip_cli.files import one_line, replacing
from xclip_cli.plots import draw_caption
from xclip_cli.registry import Resize
from xclip_cli.results import Tag, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.video.process import ENVIRONMENT, program
from xclip_cli.video.source import shown
from xclip_cli.video.types import VideoInfo
from xclip_cli.video.worker import DecodePool

_MOST_LINES = 6
_TINY = Resize(32, "squash", "bilinear", antialias=True, rounding="floor")


def annotate(
    result: VideoResult,
    output: Path,
    settings: TagSettings,
    on_progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Writes the tagged video with its tags to ``output``, an MP4, whole or not at all.

    A moment shows the tags of the segments that hold then. ``on_progress`` hears the share that is done, 0 to 1. The
    process is killed where it gets nowhere for ``settings.decode_timeout_seconds``. Raises VideoError, OutputError.
    """
    with DecodePool(settings.reader, 1, settings.decode_timeout_seconds) as pool:
        info = pool.submit(result.video, 1, resize=_TINY).result().info
    try:
        with tempfile.TemporaryDirectory() as folder, replacing(output, follow_link=True) as draft:
            captions = os.path.join(folder, "captions.npz")
            np.savez(captions, **_captions(result, info))
            paths = [os.path.abspath(path) for path in (result.video, draft)]
            command = program("from xclip_cli.video.burn import main; main()", *paths, captions)
            _run(command, shown(result.video), settings.decode_timeout_seconds, on_progress)
    except OSError as error:
        raise OutputError(f"cannot write {str(output)!r}: {error.strerror or error}", "choose another place") from error


def moments(result: VideoResult, duration_seconds: float) -> Iterator[tuple[float, float, list[Tag]]]:
    """The spans [start, stop) in seconds in which the same tags hold, and these, best first; the last has no end."""
    edges = sorted({0.0, *(s.start_seconds for s in result.segments), *(s.end_seconds for s in result.segments)})
    for start, stop in zip(edges, [*edges[1:], float("inf")], strict=True):
        held = [s for s in result.segments if s.start_seconds <= start < s.end_seconds]
        if stop == float("inf") and edges[-1] >= duration_seconds:  # the last picture may come after the end by a hair
            held = [s for s in result.segments if s.end_seconds == edges[-1]]
        if tags := sorted((tag for s in held for tag in s.tags), key=lambda tag: -(tag.score or 0.0)):
            yield start, stop, tags


def _captions(result: VideoResult, info: VideoInfo) -> dict[str, np.ndarray]:
    """What the process reads: spans float64 (N, 4), start, stop, left, top; and the pixels of each."""
    arrays, spans = {}, []
    width, height = (max(2, side // 2 * 2) for side in (info.width, info.height))
    for start, stop, tags in moments(result, info.end_seconds):
        lines = [(one_line(tag.label), "" if tag.score is None else f"{tag.score:.2f}") for tag in tags[:_MOST_LINES]]
        left, top, arrays[f"pixels{len(spans)}"] = draw_caption(lines, width, height)
        spans.append((start, stop, left, top))
    return arrays | {"spans": np.array(spans, np.float64).reshape(-1, 4)}


def _run(command: list[str], name: str, patience_seconds: float, on_progress: Callable[[float], None]) -> None:
    """Lets the process work, and kills it where it says nothing for too long."""
    late = threading.Event()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | ENVIRONMENT, start_new_session=True
    )
    try:
        answer = {}
        while "finished" not in answer:
            timer = threading.Timer(patience_seconds, lambda: (late.set(), process.kill()))
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            answer = json.loads(line) if line.endswith(b"\n") else {}
            if "share" not in answer:
                how = f"got nowhere for {patience_seconds:g} s" if late.is_set() else "crashed the decoder"
                raise VideoError(answer.get("error", f"{name} {how} while it was annotated"), answer.get("hint"))
            on_progress(answer["share"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
