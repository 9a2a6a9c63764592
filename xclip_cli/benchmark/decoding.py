"""How fast videos decode, by each installed reader, on the files that matter: one's own.

Every file is decoded in a process of its own, which prints one line of JSON: one that hangs or crashes a decoder is a
row with an error.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from xclip_cli.errors import VideoError
from xclip_cli.settings import READERS
from xclip_cli.video.process import ENVIRONMENT, program
from xclip_cli.video.reader import open_reader, read_clip
from xclip_cli.video.sampling import clip_times
from xclip_cli.video.source import shown
from xclip_cli.video.types import Reader

COLUMNS = (  # what a person sees: key, head and digits
    ("path", "file", None),
    ("reader", "reader", None),
    ("size", "size", None),
    ("num_frames", "frames", None),
    ("clip_rate", "8 frames: frames/s", 1),
    ("whole_rate", "all: frames/s", 1),
    ("error", "error", None),
)
CLIP_FRAMES = 8
_TIMES = 3
BYTES_AT_ONCE = 64 * 2**20


@dataclass(frozen=True)
class Decoded:
    """One file by one reader: frames a second where 8 are asked for and where all are, or why there are none."""

    path: str
    reader: str
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    clip_rate: float | None = None
    whole_rate: float | None = None
    error: str | None = None

    @property
    def row(self) -> dict[str, object]:
        """By the keys of COLUMNS."""
        return vars(self) | {"size": self.width and f"{self.width}x{self.height}"}


def installed() -> list[str]:
    """The readers that can be used here."""
    return [name for name in READERS if name != "decord" or importlib.util.find_spec(name)]


def run(paths: Sequence[str], threads: int, timeout_seconds: float) -> Iterator[Decoded]:
    """A row for each file and installed reader. Never fails for a file."""
    for path in paths:
        for reader in installed():
            yield _apart(path, reader, threads, timeout_seconds)


def _apart(path: str, reader: str, threads: int, timeout_seconds: float) -> Decoded:
    code = "from xclip_cli.benchmark.decoding import main; main()"
    command = program(code, reader, str(threads), os.path.abspath(path))
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_seconds, check=False, env=os.environ | ENVIRONMENT
        )
    except subprocess.TimeoutExpired:
        return Decoded(path, reader, error=f"{shown(path)} was not decoded within {timeout_seconds:g} s")
    try:
        return Decoded(path, reader, **json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        return Decoded(path, reader, error=f"{shown(path)} crashed the decoder (exit code {done.returncode})")


def measure(reader: Reader, path: str) -> dict[str, int | float | str]:
    """What a Decoded holds of a file, from this process. Medians of three; the whole is read once if it takes long."""
    try:
        clip, clip_seconds = _timed(lambda: read_clip(reader, path, CLIP_FRAMES))
        count, whole_seconds = _timed(lambda: read_whole(reader, path))
    except VideoError as error:
        return {"error": error.message}
    return {
        "width": clip.info.width,
        "height": clip.info.height,
        "num_frames": count,
        "clip_rate": CLIP_FRAMES / clip_seconds,
        "whole_rate": count / whole_seconds,
    }


def _timed(call: Callable) -> tuple:
    result, seconds = None, []
    while len(seconds) < _TIMES and sum(seconds) < 2 * _TIMES:
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds)


def read_whole(reader: Reader, path: str, bytes_at_once: int = BYTES_AT_ONCE) -> int:
    """Reads every frame, so many bytes of pixels at a time, keeps none, and gives their number. Raises VideoError."""
    with closing(reader.open(path)) as video:
        info = video.info
        count = info.num_frames or max(1, round(info.duration_seconds * info.fps))
        at_once = max(1, bytes_at_once // (info.width * info.height * 3))
        times = clip_times(info.start_seconds, info.end_seconds, count, 1, info.gaps_seconds)[0]
        for start in range(0, count, at_once):
            video.frames_at(times[start : start + at_once])
    return count


def main() -> None:
    """The program of such a process: READER THREADS PATH."""
    sys.stdout.write(json.dumps(measure(open_reader(sys.argv[1], int(sys.argv[2])), sys.argv[3])) + "\n")
