"""Frames through decord (extra ``decord``), which indexes the whole file once and then seeks by frame number.

Whether there is a video, its size and its length are taken from OpenCV's reading of the header, so that both
readers are asked for the same moments. Where decord would seek to wrong frames it is made to read from the start, which
is slow and right. It opens no GIF and no file without a length, loses the start of MPEG transport streams, and may give
the frame before where one of the last three frames of a file is asked for.
"""

from contextlib import closing
from pathlib import Path

import cv2
import decord
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.opencv_reader import OpenCvVideo, StillImage
from xclip_cli.video.reader import TOLERANCE_SECONDS, Frames, Video
from xclip_cli.video.source import check_size, is_still_image, safe_name, shown

_OTHER_READER = "try --reader opencv"
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
_TS_PACKET_BYTES = 188


class DecordReader:
    def __init__(self, threads: int = 1):
        decord.logging.set_level(decord.logging.QUIET)
        self._threads = threads

    def open(self, path: str) -> Video:
        return StillImage(path) if is_still_image(path) else DecordVideo(path, self._threads)


class DecordVideo:
    damaged = False  # decord does not say

    def __init__(self, path: str, threads: int = 1):
        with closing(OpenCvVideo(path, threads)) as header:
            self.info = header.info
        self._path = path
        self._threads = threads
        indexed = _has_index(path)
        self._open()
        stamps = self._frames.get_frame_timestamp(np.arange(len(self._frames)))[:, 0].astype(np.float64)
        # decord gives nonsense for frames without a time stamp (AVI, MPEG-PS), and then also seeks to wrong frames.
        stamped = stamps[0] >= 0 and (np.diff(stamps) > 0).all()
        self._stamps = stamps - stamps[0] if stamped else np.arange(len(stamps)) / self.info.fps
        self._seekable = stamped and indexed and not _has_open_groups(path)
        self._tried = self._decoded = -1

    def _open(self) -> None:
        try:
            with safe_name(self._path) as name:
                self._frames = decord.VideoReader(name, num_threads=self._threads)
        except (decord.DECORDError, RuntimeError) as error:
            raise VideoError(f"{shown(self._path)} cannot be opened by decord", _OTHER_READER) from error
        if not len(self._frames):
            raise VideoError(f"{shown(self._path)} has no frame that can be decoded")
        self._next = 0

    @property
    def end_seconds(self) -> float:
        end = self._stamps[-1] + 1 / self.info.fps
        whole = self.info.num_frames is not None and len(self._stamps) >= self.info.num_frames
        return max(end, self.info.duration_seconds) if whole else end

    def frames_at(self, times_seconds: np.ndarray) -> Frames:
        check_size(self._path, self.info.width, self.info.height, len(times_seconds))
        images = np.empty((len(times_seconds), self.info.height, self.info.width, 3), np.uint8)
        while True:
            try:
                return Frames(images, self._fill(images, times_seconds))
            except (decord.DECORDError, RuntimeError, StopIteration):
                self._drop_tail()

    def _fill(self, images: np.ndarray, times_seconds: np.ndarray) -> np.ndarray:
        """Put each time's frame into ``images``, in the order of the file, and return the frames' time stamps."""
        numbers = self._stamps.searchsorted(times_seconds + TOLERANCE_SECONDS, side="right") - 1
        done: dict[int, int] = {}
        for place in np.argsort(numbers, kind="stable"):
            number = int(numbers[place])
            images[place] = images[done[number]] if number in done else self._decode(number)
            done[number] = place
        return self._stamps[numbers]

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
            raise VideoError(f"{shown(self._path)} has no frame that decord can decode", _OTHER_READER)
        self._stamps = self._stamps[:keep]
        self._open()

    def close(self) -> None:
        del self._frames


def _has_index(path: str) -> bool:
    """Whether this is MP4, Matroska or AVI, in which decord seeks exactly. VideoError for a transport stream."""
    with Path(path).open("rb") as file:
        head = file.read(_TS_PACKET_BYTES + 5)
    if any(head[at : at + 1] == head[at + _TS_PACKET_BYTES + at :][:1] == b"G" for at in (0, 4)):
        raise VideoError(f"{shown(path)} is an MPEG transport stream; decord loses its first frames", _OTHER_READER)
    return head[4:8] in _MP4_BOXES or head[:4] in (b"\x1a\x45\xdf\xa3", b"RIFF")


def _has_open_groups(path: str) -> bool:
    """Whether some frames are shown before the key frame that they follow in the file.

    decord numbers key frames in the order of the file, and so seeks to wrong frames in such a video. The packets are
    looked at, not decoded.
    """
    with safe_name(path) as name:
        packets = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    key_time = 0.0
    while packets.grab():
        time = packets.get(cv2.CAP_PROP_POS_MSEC)
        if time < key_time:
            return True
        if packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
            key_time = time
    return False
