"""Frames through OpenCV's bundled FFmpeg, the default reader."""

import math
from dataclasses import replace

import cv2
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.reader import TOLERANCE_SECONDS, Frames, Video, VideoInfo
from xclip_cli.video.source import check_size, is_still_image, safe_name, shown

# Reading on decodes every frame between; seeking, every frame from the key frame before, some ten seconds away at worst
# by habit. Below this distance seeking may cost several times as much; above, it soon saves as much.
_SEEK_SECONDS = 4.0
# OpenCV fails once for each damaged packet; so many in a row are taken for the end of the video.
_MAX_FAILURES = 500


class OpenCvReader:
    def __init__(self, threads: int = 1):
        cv2.setNumThreads(threads)
        self._threads = threads

    def open(self, path: str) -> Video:
        return StillImage(path) if is_still_image(path) else OpenCvVideo(path, self._threads)


class StillImage:
    """A JPEG, PNG or WebP as a video of one frame and no duration, turned as its EXIF says."""

    def __init__(self, path: str):
        try:
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise VideoError(f"{shown(path)} cannot be decoded as an image: {error.err}") from error
        if image is None:
            raise VideoError(f"{shown(path)} cannot be decoded as an image")
        check_size(path, image.shape[1], image.shape[0])
        self._path = path
        self._image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        self.info = VideoInfo(image.shape[1], image.shape[0], 0.0, 1, 0.0)
        self.end_seconds = 0.0
        self.damaged = False

    def frames_at(self, times_seconds: np.ndarray) -> Frames:
        check_size(self._path, self.info.width, self.info.height, len(times_seconds))
        return Frames(np.repeat(self._image[None], len(times_seconds), axis=0), np.zeros(len(times_seconds)))

    def close(self) -> None:
        pass


class OpenCvVideo:
    """Two frames are at hand: the one decoded last (its time known, not yet converted) and the one on display before.

    Every frame is passed in order; those that may be on display at the wanted time are converted to RGB.
    """

    def __init__(self, path: str, threads: int = 1):
        self._path = path
        self._threads = threads
        self._open()
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._fps = fps if 0 < fps <= 1000 else 25.0
        self._reach = 1.5 / self._fps
        self.end_seconds: float | None = None
        self.damaged = False
        self._last_time = math.inf
        self._seekable = 1 < count < 1e9
        self.info = self._header(int(count) if 1 <= count < 1e9 else None)
        check_size(path, self.info.width, self.info.height)

    def _open(self) -> None:
        with safe_name(self._path) as name:
            options = [cv2.CAP_PROP_N_THREADS, self._threads]
            self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, options)
        if not self._capture.isOpened():
            raise VideoError(f"{shown(self._path)} holds no video stream that OpenCV can decode")
        if not self._capture.grab():
            raise VideoError(f"{shown(self._path)} has no frame that can be decoded")
        self._origin = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self._restart(0.0)
        self._passed = 0.0

    def _restart(self, time: float) -> None:
        """Take the frame just decoded, shown from ``time`` on, as the first."""
        self._time = time
        self._shown_time = -math.inf
        self._image: np.ndarray | None = None
        self._passed = -math.inf  # the frame's number is not known

    def _header(self, count: int | None) -> VideoInfo:
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if count is not None:
            return VideoInfo(width, height, count / self._fps, count, self._fps)
        self.info = VideoInfo(width, height, 0.0, None, self._fps)
        while math.isfinite(self._time):  # a recording that was never finished says nothing: read it through
            self._pass(convert=False)
        self._open()
        return replace(self.info, duration_seconds=self.end_seconds)

    def frames_at(self, times_seconds: np.ndarray) -> Frames:
        check_size(self._path, self.info.width, self.info.height, len(times_seconds))
        images = np.empty((len(times_seconds), self.info.height, self.info.width, 3), np.uint8)
        stamps = np.empty(len(times_seconds))
        for place in np.argsort(times_seconds, kind="stable"):
            images[place], stamps[place] = self._frame_at(float(times_seconds[place]) + TOLERANCE_SECONDS)
        return Frames(images, stamps)

    def close(self) -> None:
        self._capture.release()

    def _frame_at(self, time: float) -> tuple[np.ndarray, float]:
        time = min(time, self._last_time + TOLERANCE_SECONDS)
        lost = self._time > time and (self._shown_time > time or self._image is None)
        if lost or time - self._time > _SEEK_SECONDS:
            self._seek(time)
        while self._time <= time:
            self._pass(convert=self._time + self._reach >= time)
        if self._image is None:  # a longer pause between frames than expected: go back for its first frame
            self._reach = max(self._reach, 1.25 * (time - self._shown_time))
            return self._frame_at(self._shown_time + TOLERANCE_SECONDS)
        return self._image, self._shown_time

    def _pass(self, convert: bool) -> None:
        self._shown_time = self._time
        self._image = self._retrieve() if convert else None
        self._passed += 1
        failures = next((count for count in range(_MAX_FAILURES) if self._capture.grab()), None)
        if failures is not None:
            self.damaged = self.damaged or failures > 0
            stamp = self._stamp()
            # Some containers leave frames without a time stamp.
            self._time = stamp if stamp > self._shown_time else self._shown_time + 1 / self._fps
        else:
            self._time = math.inf
            self._last_time = self._shown_time
            whole = self.info.num_frames is not None and self._passed >= self.info.num_frames
            self.end_seconds = max(self._shown_time + 1 / self._fps, self.info.duration_seconds * whole)

    def _retrieve(self) -> np.ndarray:
        found, image = self._capture.retrieve()
        if not found:
            raise VideoError(f"{shown(self._path)}: the frame at {self._time:.3f} s cannot be converted to RGB")
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
        size = (self.info.width, self.info.height)
        return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def _stamp(self) -> float:
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - self._origin

    def _seek(self, time: float) -> None:
        """Go to some frame at or before ``time``, near it where the container allows; else to the first frame.

        OpenCV counts frames at the mean rate, so it may land too late, or nowhere in a file that was cut: what it says
        is not believed before a frame's own time stamp is seen. Halving finds the last place from where it goes well.
        """
        good, bad, aim = 0.0, time, time - 2 / self._fps
        while self._seekable and aim > 0:
            landed = self._lands(aim, time)
            good, bad = (aim, bad) if landed else (good, aim)
            if bad - good <= _SEEK_SECONDS:
                break
            aim = (good + bad) / 2
        if good == 0 or not (landed or self._lands(good, time)):
            self.close()
            self._open()

    def _lands(self, aim: float, time: float) -> bool:
        self._capture.set(cv2.CAP_PROP_POS_MSEC, (aim + self._origin) * 1000)
        if not self._capture.grab():
            return False
        self._restart(self._stamp())
        return 0 < self._time <= time
