"""What every reader gives: an opened video that hands out the frames on display at given times."""

import importlib.util
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from xclip_cli.errors import MissingExtraError, UsageError, VideoError
from xclip_cli.settings import READERS
from xclip_cli.video.sampling import clip_times
from xclip_cli.video.source import shown

# Time stamps are rounded to a clock that may tick in milliseconds.
TOLERANCE_SECONDS = 0.0005
_UNREMARKABLE_TAIL_SECONDS = 0.25


@dataclass(frozen=True)
class VideoInfo:
    """What the header says, as displayed (after rotation). ``fps`` is the mean; ``num_frames`` None where unknown."""

    width: int
    height: int
    duration_seconds: float
    num_frames: int | None
    fps: float


@dataclass(frozen=True, eq=False)
class Clip:
    """K clips of T frames: ``frames`` uint8 (K*T, H, W, 3) RGB, and when each was shown, float64 (K*T,) seconds.

    Time 0 is the first frame. ``warnings`` holds one line for each thing that was made do with.
    """

    frames: np.ndarray
    times_seconds: np.ndarray
    info: VideoInfo
    warnings: tuple[str, ...] = ()


class Frames(NamedTuple):
    """uint8 (N, H, W, 3) RGB and their own time stamps, float64 (N,) seconds."""

    images: np.ndarray
    times_seconds: np.ndarray


class Video(Protocol):
    """An opened video. ``end_seconds`` is where the last frame that decodes ends; None until that is known.

    ``damaged`` says that something was passed over on the way to the frames.
    """

    info: VideoInfo
    end_seconds: float | None
    damaged: bool

    def frames_at(self, times_seconds: np.ndarray) -> Frames:
        """The frame on display at each time: the last one whose time stamp is not later. VideoError if none decodes."""

    def close(self) -> None: ...


class Reader(Protocol):
    def open(self, path: str) -> Video:
        """The video or still image at ``path``; VideoError where there is none."""


def check_reader(name: str) -> None:
    """UsageError for an unknown reader, MissingExtraError for one that is not installed. Imports nothing."""
    if name not in READERS:
        raise UsageError(f"reader {name!r} is unknown", f"choose one of: {', '.join(READERS)}")
    if name == "decord" and importlib.util.find_spec("decord") is None:
        raise MissingExtraError("reader 'decord' is not installed", "pip install 'xclip-cli[decord]'")


def open_reader(name: str, threads: int = 1) -> Reader:
    """The reader called ``name``, decoding with ``threads`` threads. Raises as ``check_reader`` does."""
    check_reader(name)
    if name == "decord":
        from xclip_cli.video.decord_reader import DecordReader

        return DecordReader(threads)
    from xclip_cli.video.opencv_reader import OpenCvReader

    return OpenCvReader(threads)


def read_clip(
    reader: Reader,
    path: str,
    num_frames: int,
    num_clips: int = 1,
    start_seconds: float | None = None,
    stop_seconds: float | None = None,
) -> Clip:
    """``num_clips`` clips of ``num_frames`` frames from [start_seconds, stop_seconds), by default the whole video.

    A video whose tail does not decode is sampled over the part that does, with a warning. Raises VideoError.
    """
    with closing(reader.open(path)) as video:
        start, stop = _interval(path, video.info.duration_seconds, start_seconds, stop_seconds)
        times = clip_times(start, stop, num_frames, num_clips).ravel()
        frames = video.frames_at(times)
        warnings = []
        end = video.end_seconds
        if end is not None and times.max() >= end and video.info.duration_seconds > 0:
            if start >= end:
                raise VideoError(
                    f"{shown(path)} does not decode from {start:.3f} s on; its picture ends at {end:.3f} s"
                )
            del frames  # they may be large
            frames = video.frames_at(clip_times(start, end, num_frames, num_clips).ravel())
            if stop - end > _UNREMARKABLE_TAIL_SECONDS:
                whole = video.info.duration_seconds
                warnings.append(f"nothing decodes after {end:.3f} s of {whole:.3f} s; sampled up to there")
        if video.damaged:
            warnings.append("some frames are damaged and were left out")
        return Clip(*frames, video.info, tuple(warnings))


def _interval(path: str, duration: float, start: float | None, stop: float | None) -> tuple[float, float]:
    first, last = start or 0.0, duration if stop is None else min(stop, duration)
    if first < 0 or (first >= last and (start is not None or stop is not None)):
        raise VideoError(f"{shown(path)}: the span from {start} to {stop} s is empty or not in 0 to {duration:.3f} s")
    return first, last
