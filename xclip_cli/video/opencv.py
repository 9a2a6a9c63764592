"""Frames through OpenCV's bundled FFmpeg, the usual reader.

OpenCV takes the first video stream, and says that it converted an interlaced frame when it did not: what ``refusal``
says is for another reader, and what looks unconverted is checked.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.pyav import PyAvVideo
from xclip_cli.video.source import PROTOCOLS, safe_name, shown
from xclip_cli.video.types import MAX_FAILURES, SEEK_SECONDS, TOLERANCE_SECONDS, Probe, Video

_HIGHEST_FPS = 1000
_OTHER_READER = "try --reader pyav"
_SAME_PICTURE = 3.0  # grey levels, on average; pictures of more than 8 bits are rounded in two ways
_HEADER_SECONDS = 0.25

_ROWS = 16  # every 16th row tells most pictures apart, and soon


class OpenCvVideo(Video):
    """Two frames are at hand: the one decoded last (its time known, not yet converted) and the one on display before.

    Every frame is passed in order; those that may be on display at the wanted time are converted to RGB.
    """

    reader = "opencv"

    @staticmethod
    def refusal(probe: Probe) -> str | None:
        """Why OpenCV would not show this video as it is; None where it does."""
        if probe.interlaced:
            return "it is interlaced"
        if not probe.first_of_streams:
            return f"its picture is stream {probe.stream}, not the first"
        if probe.cropped:
            return "its pictures have a margin, which OpenCV squeezes in"
        if probe.codec == "av1":
            return "its FFmpeg has no decoder for AV1"
        if probe.has_discontinuity or probe.info.gaps_seconds:
            return "its time stamps jump"
        if probe.stated_seconds is not None and probe.stated_seconds < probe.info.duration_seconds - _HEADER_SECONDS:
            return f"its header states {probe.stated_seconds:.3f} s, and it has {probe.info.duration_seconds:.3f} s"
        if not probe.seekable and probe.stated_fps > 1.5 * probe.info.fps:
            return f"its header states {probe.stated_fps:.0f} frames a second, and it has {probe.info.fps:.1f}"
        if probe.info.fps > _HIGHEST_FPS:
            return f"it has {probe.info.fps:.0f} frames a second"
        return None

    def __init__(self, path: str, probe: Probe, threads: int = 1):
        super().__init__(path, probe, threads)
        self._reach = 1.5 / self.info.fps
        self._last_time = math.inf
        self._converted: tuple[float, np.ndarray] | None = None
        self._witness: PyAvVideo | None = None
        self._open()

    def _open(self) -> None:
        only_itself = f"protocol_whitelist;{PROTOCOLS}|format_whitelist;{self._probe.format}"
        with safe_name(self._path) as name, _environment("OPENCV_FFMPEG_CAPTURE_OPTIONS", only_itself):
            options = [cv2.CAP_PROP_N_THREADS, self._threads]
            self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, options)
        if not self._capture.isOpened():
            raise VideoError(f"{shown(self._path)} holds no video stream that OpenCV can decode", _OTHER_READER)
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._seekable = self._capture.get(cv2.CAP_PROP_FRAME_COUNT) > 1
        if not self._capture.grab():
            raise VideoError(f"{shown(self._path)} has no frame that OpenCV can decode", _OTHER_READER)
        self._origin = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - self.info.start_seconds
        self._restart(self.info.start_seconds)

    def _restart(self, time: float) -> None:
        """Takes the frame just decoded, shown from ``time`` on, as the first."""
        self._time = time
        self._shown_time = -math.inf
        self._image: np.ndarray | None = None

    def close(self) -> None:
        self._capture.release()
        if self._witness is not None:
            self._witness.close()

    def frame_at(self, time_seconds: float) -> tuple[np.ndarray, float]:
        time = min(time_seconds, self._last_time) + TOLERANCE_SECONDS
        lost = self._time > time and (self._shown_time > time or self._image is None)
        if lost or time - self._time > SEEK_SECONDS:
            self._seek(time)
        while self._time <= time:
            self._pass(convert=self._time + self._reach >= time)
        if self._image is None:  # a longer pause between frames than expected: go back for its first frame
            self._reach = max(self._reach, 1.25 * (time - self._shown_time))
            return self.frame_at(self._shown_time)
        return self._image, self._shown_time

    def _pass(self, convert: bool) -> None:
        self._shown_time = self._time
        self._image = self._retrieve() if convert else None
        failures = next((count for count in range(MAX_FAILURES) if self._capture.grab()), None)
        if failures is not None:
            self.damaged = self.damaged or failures > 0
            stamp = self._stamp()
            # Some containers leave frames without a time stamp.
            self._time = stamp if stamp > self._shown_time else self._shown_time + 1 / self.info.fps
        else:
            self._time = math.inf
            self._last_time = self._shown_time
            self.end_seconds = self._probe.end_after(self._shown_time)

    def _retrieve(self) -> np.ndarray:
        found, image = self._capture.retrieve()
        if not found:
            raise self._unconverted()
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
        before, self._converted = self._converted, (self._time, image)
        unchanged = before is not None and before[0] != self._time and _alike(before[1], image)
        if unchanged or not (image[::_ROWS].any() or image.any()):
            self._check(image)
        return image

    def _check(self, image: np.ndarray) -> None:
        """Where OpenCV cannot convert a frame it gives black, or the frame before, and says that all went well."""
        if self._witness is None:
            self._witness = PyAvVideo(self._path, self._probe, self._threads)
        right, _ = self._witness.frame_at(self._time)
        if right.shape != image.shape or cv2.absdiff(right, image).mean() > _SAME_PICTURE:
            raise self._unconverted()

    def _unconverted(self) -> VideoError:
        return VideoError(f"{shown(self._path)}: OpenCV cannot convert the frame at {self._time:.3f} s", _OTHER_READER)

    def _stamp(self) -> float:
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - self._origin

    def _seek(self, time: float) -> None:
        """Go to some frame at or before ``time``, near it where the container allows; else to the first frame.

        OpenCV counts frames at the mean rate, so it may land too late, or nowhere in a file that was cut: what it says
        is not believed before a frame's own time stamp is seen. Halving finds the last place from where it goes well.
        """
        start = self.info.start_seconds
        good, bad, aim = start, time, time - 2 / self.info.fps
        landed = False
        while self._seekable and aim > start:
            landed = self._lands(aim, time)
            good, bad = (aim, bad) if landed else (good, aim)
            if bad - good <= SEEK_SECONDS:
                break
            aim = (good + bad) / 2
        if good == start or not (landed or self._lands(good, time)):
            self._capture.release()
            self._open()

    def _lands(self, aim: float, time: float) -> bool:
        self._capture.set(cv2.CAP_PROP_POS_MSEC, (aim + self._origin) * 1000)
        if not self._capture.grab():
            return False
        self._restart(self._stamp())
        return self.info.start_seconds < self._time <= time


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one[::_ROWS], other[::_ROWS]) and np.array_equal(one, other)
