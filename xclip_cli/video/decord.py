"""Frames through decord (extra ``decord``), which indexes the whole file once and then seeks by frame number.

Where decord would seek to wrong frames it is made to read from the start, which is slow and right. What it shows wrong
``refusal`` says; it also opens no GIF, and of the last three frames of a file may give the one before.
"""

from contextlib import closing
from dataclasses import replace

import cv2
import decord
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.container import continuous, open_container
from xclip_cli.video.display import UPRIGHT
from xclip_cli.video.pyav import PyAvVideo
from xclip_cli.video.source import safe_name, shown
from xclip_cli.video.types import MATROSKA, MP4, TOLERANCE_SECONDS, Probe, Video

_SAME_PICTURE = 6.0  # grey levels, on average


class DecordVideo(Video):
    """Never ``damaged``, since decord does not say; it turns pictures upright itself, where it knows that they are not.

    The first frame is held against PyAV's: decord may mistake colours, directions and times without a word.
    """

    reader = "decord"

    @staticmethod
    def refusal(probe: Probe) -> str | None:
        """Why decord would not show this video as it is; None where it does."""
        reasons = {
            "it is interlaced": probe.interlaced,
            "its pictures have a margin": probe.cropped,
            "it has several video streams": not probe.only_stream,
            "its time stamps jump": probe.has_discontinuity or bool(probe.info.gaps_seconds),
            "of MPEG streams decord loses frames": probe.format in ("mpegts", "mpeg"),
            "decord washes out its high dynamic range": probe.hdr,
            "it is mirrored": probe.display.orientation.is_mirror,
            "decord knows no AV1": probe.codec == "av1",
            "decord seeks to wrong frames of its codec": probe.codec in ("h261", "h263", "h263p"),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def __init__(self, path: str, probe: Probe, threads: int = 1):
        decord.logging.set_level(decord.logging.QUIET)
        super().__init__(path, probe, threads)
        width, height = probe.display.size
        self.display = replace(probe.display, width=width, height=height, orientation=UPRIGHT, pixel_aspect=1)
        self._open()
        stamps = self._frames.get_frame_timestamp(np.arange(len(self._frames)))[:, 0].astype(np.float64)
        # decord gives nonsense for frames without a time stamp (AVI, MPEG-PS), and then also seeks to wrong frames.
        if stamps[0] < 0 and probe.format == MP4:
            raise VideoError(f"{shown(path)} is not read by decord: an edit list hides its start", "try --reader pyav")
        stamped = (stamps[0] >= 0 or probe.format == MP4) and (np.diff(stamps) > 0).all()
        self._stamps = stamps - max(stamps[0], 0.0) if stamped else np.arange(len(stamps)) / self.info.fps
        self._stamps += self.info.start_seconds
        indexed = probe.format in (MP4, MATROSKA, "avi")
        self._seekable = stamped and indexed and not _has_open_groups(path, probe.stream)
        self._tried = self._decoded = -1
        self._shown: tuple[int, np.ndarray] | None = None
        self._checked = False

    def _open(self) -> None:
        try:
            with safe_name(self._path) as name:
                self._frames = decord.VideoReader(name, num_threads=self._threads)
        except (decord.DECORDError, RuntimeError) as error:
            raise VideoError(f"{shown(self._path)} cannot be opened by decord", "try --reader pyav") from error
        if not len(self._frames):
            raise VideoError(f"{shown(self._path)} has no frame that decord can decode", "try --reader pyav")
        self._next = 0

    @property
    def end_seconds(self) -> float:
        return self._probe.end_after(float(self._stamps[-1]))

    def frame_at(self, time_seconds: float) -> tuple[np.ndarray, float]:
        while True:
            number = max(0, int(self._stamps.searchsorted(time_seconds + TOLERANCE_SECONDS, side="right")) - 1)
            if self._shown is None or self._shown[0] != number:
                try:
                    self._shown = number, self._decode(number)
                    self._check(float(self._stamps[number]))
                except (decord.DECORDError, RuntimeError, StopIteration):
                    self._drop_tail()
                    continue
            return self._shown[1], float(self._stamps[number])

    def _check(self, time: float) -> None:
        if self._checked:
            return
        with closing(PyAvVideo(self._path, self._probe, self._threads)) as reference_reader:
            right = reference_reader.display(reference_reader.frame_at(time)[0])
        ours = self.display(self._shown[1])
        if ours.shape != right.shape or cv2.absdiff(ours, right).mean() > _SAME_PICTURE:
            raise VideoError(f"{shown(self._path)}: decord shows another picture than it should", "try --reader pyav")
        self._checked = True

    def _decode(self, number: int) -> np.ndarray:
        self._tried = number
        frame = self._frames[number] if self._seekable else self._walk_to(number)
        self._decoded = max(self._decoded, number)
        return frame.asnumpy()

    def _walk_to(self, number: int):
        if number < self._next:
            self._open()
        for _ in range(number - self._next):
            self._frames.next()
        self._next = number + 1
        return self._frames.next()

    def _drop_tail(self) -> None:
        """The frame just tried does not decode: give up what follows it and half of what lies before it untried."""
        good = self._decoded if self._decoded < self._tried else -1
        keep = good + 1 + (self._tried - good - 1) // 2
        if keep < 1:
            raise VideoError(f"{shown(self._path)} has no frame that decord can decode", "try --reader pyav")
        self._stamps = self._stamps[:keep]
        self._open()

    def close(self) -> None:
        del self._frames


def _has_open_groups(path: str, stream: int) -> bool:
    """Whether some frames are shown before the key frame that they follow in the file.

    decord numbers key frames in the order of the file, and so seeks to wrong frames in such a video. The packets are
    looked at, not decoded.
    """
    key_stamp = None
    with open_container(path) as container:
        for packet, _ in continuous(container, container.streams[stream]):
            if packet.pts is None:
                continue
            if key_stamp is not None and packet.pts < key_stamp:
                return True
            if packet.is_keyframe:
                key_stamp = packet.pts
    return False
