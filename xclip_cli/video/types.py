"""What the rooms of `video/` hand to each other: facts of a video, frames, clips, and what an opened video offers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from xclip_cli.video.display import Display, Resize

# Time stamps are rounded to a clock that may tick in milliseconds.
TOLERANCE_SECONDS = 0.0005
# Reading on decodes every frame between; seeking, every frame from the key frame before, some ten seconds away at worst
# by habit. Below this distance seeking may cost several times as much; above, it soon saves as much.
SEEK_SECONDS = 4.0
# Every damaged packet is one failure; so many in a row are taken for the end of the video.
MAX_FAILURES = 500
# A picture that stands longer than this does so because time stamps jump; so many such jumps may be in a video.
JUMP_SECONDS, MAX_JUMPS = 3600.0, 1000
# libav's names of the two containers whose index is trusted.
MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"


@dataclass(frozen=True)
class VideoInfo:
    """A video as it is shown: turned upright, with square pixels, from its first frame to the end of its last.

    All times are seconds on the player's clock: 0 is where the container starts, which is its earliest stream. The
    first picture is shown at ``start_seconds``, which is more than 0 where sound comes first. ``fps`` is the mean;
    ``num_frames`` is None where it is not known without reading the whole. ``gaps_seconds`` are spans [start, stop)
    in which the time stamps jump: they count as duration, but no picture is taken from them.
    """

    width: int
    height: int
    duration_seconds: float
    num_frames: int | None
    fps: float
    start_seconds: float = 0.0
    gaps_seconds: tuple[tuple[float, float], ...] = ()

    @property
    def end_seconds(self) -> float:
        """When the last picture ends."""
        return self.start_seconds + self.duration_seconds

    @property
    def span(self) -> tuple[float, float]:
        """[start, end) of the pictures."""
        return self.start_seconds, self.end_seconds


@dataclass(frozen=True, eq=False)
class Probe:
    """What is in a file with at least one frame of video. ``format`` and ``codec`` are libav's names.

    ``stream`` is the index of the one that is shown. ``origin_seconds`` is the time stamp at which the player's clock
    says 0; on that clock the last frame is shown at ``last_seconds``. ``cropped``: only a part of its pictures is meant
    to be seen. Where the index does not lead to any time (``seekable``), ``keys`` (N, 2) does: the number of each
    packet with a key frame, and its time. ``has_discontinuity``: time stamps jump, and ``continuous`` mends them;
    ``by_dts``: see ``stamp_seconds``. ``stated_seconds`` is the length that the header states, None where it states
    none, ``missing_seconds`` how much of it is not in the file; ``stated_fps`` is the header's frame rate, or 0.
    """

    info: VideoInfo
    display: Display
    format: str
    codec: str
    stream: int
    first_of_streams: bool
    only_stream: bool
    interlaced: bool
    cropped: bool
    hdr: bool
    by_dts: bool
    origin_seconds: float
    last_seconds: float
    seekable: bool
    has_discontinuity: bool
    stated_seconds: float | None
    stated_fps: float
    missing_seconds: float
    keys: np.ndarray

    def end_after(self, last_seconds: float) -> float:
        """Where the video ends if the last frame that decodes is shown from ``last_seconds`` on."""
        whole = last_seconds >= self.last_seconds - 0.5 / self.info.fps
        end = self.info.end_seconds
        return end if whole else min(end, last_seconds + 1 / self.info.fps)


@dataclass(frozen=True, eq=False)
class Clip:
    """K clips of T frames: ``frames`` uint8 (K*T, H, W, 3) RGB, and when each was shown, float64 (K*T,) seconds.

    Times are on the player's clock (see ``VideoInfo``). ``warnings`` holds one line for each thing that was made do
    with; ``reader`` names what decoded. ``end_seconds`` is where the last frame that decodes ends, None where that was
    not found out.
    """

    frames: np.ndarray
    times_seconds: np.ndarray
    info: VideoInfo
    warnings: tuple[str, ...] = ()
    reader: str = ""
    end_seconds: float | None = None

    @property
    def stop_seconds(self) -> float:
        """Where the video ends, as far as is known."""
        return self.info.end_seconds if self.end_seconds is None else self.end_seconds


class Frames(NamedTuple):
    """uint8 (N, H, W, 3) RGB and their own time stamps, float64 (N,) seconds."""

    images: np.ndarray
    times_seconds: np.ndarray


class Video(ABC):
    """An opened video, seen through one reader.

    ``end_seconds`` is where the last frame that decodes ends; None until that is known. ``damaged`` says that something
    was passed over on the way to the frames, ``missing_seconds`` how much the file lacks of what its header states,
    ``warnings`` what else was made do with.
    """

    reader: str
    end_seconds: float | None = None
    damaged: bool = False
    warnings: tuple[str, ...] = ()

    def __init__(self, path: str, probe: Probe, threads: int = 1):
        self.info, self.display, self.missing_seconds = probe.info, probe.display, probe.missing_seconds
        self._path, self._probe, self._threads = path, probe, threads

    @staticmethod
    def refusal(probe: Probe) -> str | None:
        """Why this reader would not show the video as it is; None where it does."""
        return None

    @abstractmethod
    def frame_at(self, time_seconds: float) -> tuple[np.ndarray, float]:
        """The frame on display, uint8 (H, W, 3) RGB as it is coded, and its time: the last one that is not later.

        The same frame is the same array. Times that do not go back are fastest. VideoError if none decodes.
        """

    @abstractmethod
    def close(self) -> None: ...

    def frames_at(self, times_seconds: np.ndarray, resize: Resize | None = None) -> Frames:
        """The frame on display at each time, as a person sees it, resized if ``resize`` says so. Raises VideoError.

        One frame of full size is held at a time, beside those that are given back.
        """
        times = np.asarray(times_seconds, np.float64)
        images = self.display.empty(len(times), resize)
        stamps = np.empty(len(times))
        before: np.ndarray | None = None
        for index in np.argsort(times, kind="stable"):
            image, stamps[index] = self.frame_at(float(times[index]))
            if image is not before:
                before, shown = image, self.display(image, resize)
            images[index] = shown
        return Frames(images, stamps)


class Reader(Protocol):
    def open(self, path: str) -> Video:
        """The video or picture at ``path``; VideoError where there is none."""
