"""Opening a video with the reader that shows it right, and the clip that is read of it."""

import importlib.util
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from xclip_cli.errors import MissingExtraError, UsageError, VideoError
from xclip_cli.settings import READERS
from xclip_cli.video.display import Resize
from xclip_cli.video.sampling import clip_times
from xclip_cli.video.source import film_offset, is_picture, read_head, shown
from xclip_cli.video.types import Clip, Frames, Probe, Reader, Video, VideoInfo

_UNREMARKABLE_TAIL_SECONDS = 0.25


def check_reader(name: str) -> None:
    """UsageError for an unknown reader, MissingExtraError for one that is not installed. Imports nothing."""
    if name not in READERS:
        raise UsageError(f"reader {name!r} is unknown", f"choose one of: {', '.join(READERS)}")
    if name == "decord" and importlib.util.find_spec("decord") is None:
        raise MissingExtraError("reader 'decord' is not installed", "pip install 'xclip-cli[decord]'")


def open_reader(name: str, threads: int = 1) -> Reader:
    """The reader called ``name``, decoding with ``threads`` threads. Raises as ``check_reader`` does.

    ``auto`` decodes with OpenCV what OpenCV shows right, and with PyAV the rest. Any other reads what it shows right;
    the VideoError for the rest names a reader that does.
    """
    check_reader(name)
    return _NamedReader(name, threads)


class _NamedReader:
    def __init__(self, name: str, threads: int):
        self._name, self.threads = name, threads

    def open(self, path: str) -> Video:
        import cv2

        cv2.setNumThreads(self.threads)
        if is_picture(path, read_head(path)):
            from xclip_cli.video.pictures import Picture

            return Picture(path)
        from xclip_cli.video.probe import probe

        try:
            found = probe(path)
        except VideoError as error:
            if not film_offset(path):
                raise
            from xclip_cli.video.pictures import Picture

            return Picture(path, (f"the film behind the picture is not read: {error.message}",))
        if self._name == "auto":
            return _AutoVideo(path, found, self.threads)
        kind = _video_class(self._name)
        if reason := kind.refusal(found):
            raise VideoError(f"{shown(path)} is not read by {self._name}: {reason}", "try --reader pyav")
        return kind(path, found, self.threads)


def _video_class(name: str) -> type[Video]:
    if name == "decord":
        from xclip_cli.video.decord import DecordVideo

        return DecordVideo
    if name == "pyav":
        from xclip_cli.video.pyav import PyAvVideo

        return PyAvVideo
    from xclip_cli.video.opencv import OpenCvVideo

    return OpenCvVideo


class _AutoVideo(Video):
    """OpenCV's video, or PyAV's where OpenCV would show it wrong, and from where on OpenCV fails."""

    def __init__(self, path: str, found: Probe, threads: int):
        super().__init__(path, found, threads)
        self._open_with = lambda name: _video_class(name)(path, found, threads)
        try:
            self._video = self._open_with("pyav" if _video_class("opencv").refusal(found) else "opencv")
        except VideoError:
            self._video = self._open_with("pyav")

    reader = property(lambda self: self._video.reader)
    end_seconds = property(lambda self: self._video.end_seconds)
    damaged = property(lambda self: self._video.damaged)

    def frame_at(self, time_seconds: float) -> tuple[np.ndarray, float]:
        try:
            return self._video.frame_at(time_seconds)
        except VideoError:
            if self._video.reader == "pyav":
                raise
        self.close()
        self._video = self._open_with("pyav")
        return self._video.frame_at(time_seconds)

    def close(self) -> None:
        self._video.close()


def read_clip(
    reader: Reader,
    path: str,
    num_frames: int,
    num_clips: int = 1,
    start_seconds: float | None = None,
    stop_seconds: float | None = None,
    resize: Resize | None = None,
) -> Clip:
    """``num_clips`` clips of ``num_frames`` frames from [start_seconds, stop_seconds), by default the whole video.

    ``resize`` says what size frames are wanted in; None: as they are shown. A video whose tail does not decode is
    sampled over the part that does, with a warning. Raises VideoError.
    """
    with closing(reader.open(path)) as video:
        return sample_clip(video, path, num_frames, num_clips, start_seconds, stop_seconds, resize)


def sample_clip(
    video: Video,
    path: str,
    num_frames: int,
    num_clips: int = 1,
    start_seconds: float | None = None,
    stop_seconds: float | None = None,
    resize: Resize | None = None,
) -> Clip:
    """As ``read_clip``, of an opened video."""
    start, stop = _interval(path, video.info, start_seconds, stop_seconds)
    gaps = video.info.gaps_seconds
    times = clip_times(start, stop, num_frames, num_clips, gaps).ravel()
    frames = video.frames_at(times, resize)
    end = video.end_seconds
    if end is not None and times.max() >= end and video.info.duration_seconds > 0:
        if start >= end:
            raise VideoError(f"{shown(path)} does not decode from {start:.3f} s on; its picture ends at {end:.3f} s")
        del frames  # they may be large
        frames = video.frames_at(clip_times(start, end, num_frames, num_clips, gaps).ravel(), resize)
    return _clip(video, frames, stop)


def read_frames(video: Video, times_seconds: Sequence[float], resize: Resize | None = None) -> Clip:
    """The frames of an opened video on display at these times, none where there are no times. Raises VideoError.

    From the end of what decodes on, it is the last frame that does: see the clip's ``end_seconds``.
    """
    return _clip(video, video.frames_at(np.array(times_seconds, np.float64), resize), video.info.end_seconds)


def _clip(video: Video, frames: Frames, stop: float) -> Clip:
    return Clip(*frames, video.info, _warnings(video, stop), video.reader, video.end_seconds)


def _warnings(video: Video, stop: float) -> tuple[str, ...]:
    """What was made do with in a video that was to be read up to ``stop``."""
    info = video.info
    end = info.end_seconds if video.end_seconds is None else video.end_seconds
    whole = info.end_seconds + video.missing_seconds
    wanted = whole if stop == info.end_seconds else stop
    warnings = list(video.warnings)
    if info.gaps_seconds:
        (first, last), more = info.gaps_seconds[0], len(info.gaps_seconds) - 1
        others = f", and {more} more time{'s' * (more > 1)}" if more else ""
        jump = f"time stamps jump from {first:.3f} s to {last:.3f} s{others}"
        warnings.append(f"{jump}: no picture is taken from what lies between")
    if wanted - end > _UNREMARKABLE_TAIL_SECONDS:
        warnings.append(f"nothing decodes after {end:.3f} s of {whole:.3f} s; sampled up to there")
    if video.damaged:
        warnings.append("some frames are damaged and were left out")
    return tuple(warnings)


def _interval(path: str, info: VideoInfo, start: float | None, stop: float | None) -> tuple[float, float]:
    """The part of [start, stop) in which there is a picture."""
    first = max(info.start_seconds, start or 0.0)
    last = info.end_seconds if stop is None else min(stop, info.end_seconds)
    if (start or 0.0) < 0 or (first >= last and (start is not None or stop is not None)):
        span = f"the span from {start} to {stop} s is empty or not in"
        raise VideoError(f"{shown(path)}: {span} {info.start_seconds:.9g} to {info.end_seconds:.3f} s")
    return first, last
