"""Frames through PyAV's FFmpeg: what OpenCV would get wrong, interlaced fields above all, comes out right."""

import math
from collections.abc import Iterator
from contextlib import ExitStack

import av
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.container import continuous, decode, no_frame, open_container, ready, stamp_seconds
from xclip_cli.video.source import shown
from xclip_cli.video.types import MATROSKA, MAX_FAILURES, SEEK_SECONDS, TOLERANCE_SECONDS, Probe, Video

_BT709 = 1


class PyAvVideo(Video):
    """Three frames are at hand, decoded and not converted: the one on display, the one before and the one after.

    An interlaced frame is deinterlaced (bwdif) with the help of its neighbours.
    """

    reader = "pyav"

    def __init__(self, path: str, probe: Probe, threads: int = 1):
        super().__init__(path, probe, threads)
        self._opened = ExitStack()
        self._converted: tuple[av.VideoFrame, np.ndarray] | None = None
        self._open()

    def _open(self) -> None:
        """Begins at the first frame."""
        self.close()
        try:
            self._container = self._opened.enter_context(open_container(self._path))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"{shown(self._path)} cannot be opened by PyAV: {error}") from error
        self._stream = self._container.streams[self._probe.stream]
        ready(self._stream, self._threads)
        self._packets = enumerate(continuous(self._container, self._stream))
        self._number = -1
        self._restart()

    def close(self) -> None:
        self._opened.close()

    def _restart(self, skip_before: int = 0) -> None:
        """Takes the next frame that decodes as the first; of packets before that number none is decoded."""
        self._frames = self._decoded(skip_before)
        self._before = self._shown = None
        self._next, self._next_time = next(self._frames, (None, math.inf))
        self._shown_time = -math.inf

    def _decoded(self, skip_before: int) -> Iterator[tuple[av.VideoFrame, float]]:
        """Frames from here on, each with its time; frames without a time stamp follow at the mean rate."""
        start = self.info.start_seconds
        first = previous = None
        failures = 0
        try:
            for number, (packet, _) in self._packets:
                self._number = number
                if number < skip_before and packet.size:
                    continue
                frames, sound = decode(packet)
                self.damaged = self.damaged or not sound
                failures = 0 if frames else failures + (not sound)
                if failures > MAX_FAILURES:
                    return
                for frame in frames:
                    stamp = stamp_seconds(frame, self._probe.by_dts)
                    after = start if previous is None else previous + 1 / self.info.fps
                    time = after if stamp is None else max(start, stamp - self._probe.origin_seconds)
                    first = time if first is None else first
                    if time < first:
                        continue  # shown before the key frame that it follows, and made of frames before it
                    previous = time if previous is None or time > previous else after
                    yield frame, previous
        except (av.FFmpegError, OSError, ValueError):  # the file ends, or goes on with what is no container
            return

    def frame_at(self, time_seconds: float) -> tuple[np.ndarray, float]:
        time = time_seconds + TOLERANCE_SECONDS
        if self.end_seconds is not None:
            time = min(time, self._last_time + TOLERANCE_SECONDS)
        self._approach(time)
        while self._next_time <= time or self._shown is None:
            if self._next is None:
                raise no_frame(shown(self._path))
            self._advance()
        if self._converted is None or self._converted[0] is not self._shown:
            self._converted = self._shown, self._convert()
        return self._converted[1], self._shown_time

    def frames_from(self, time_seconds: float) -> Iterator[tuple[np.ndarray, float, float]]:
        """Yield the frame on display at that time and all later ones, each with its time and the next frame's.

        The end of the video stands for the time after the last frame. Raises VideoError if none decodes.
        """
        image, time = self.frame_at(time_seconds)
        while self._next is not None:
            yield image, time, self._next_time
            self._advance()
            image, time = self._convert(), self._shown_time
        yield image, time, self._probe.end_after(time)

    def _advance(self) -> None:
        self._before, self._shown, self._shown_time = self._shown, self._next, self._next_time
        self._next, self._next_time = next(self._frames, (None, math.inf))
        if self._next is None:
            self._last_time = self._shown_time
            self.end_seconds = self._probe.end_after(self._last_time)

    def _approach(self, time: float) -> None:
        """Goes to a key frame before ``time`` where that spares decoding, or where ``time`` has been passed already."""
        here = self._next_time if self._shown is None else self._shown_time
        if self._probe.seekable:
            if here > time or self._ahead(time, here) > here:
                self._seek(time)
            return
        numbers, times = self._probe.keys.T
        usable = numbers[times <= time]
        if self._probe.codec == "mpeg4":  # of which FFmpeg may lose B-frames until some frames after a jump
            usable = usable[:-1]
        if here > time:
            self._open()
        for number in usable[usable > self._number][::-1]:
            self._stream.codec_context.flush_buffers()
            self._restart(int(number))
            if self._next_time <= time:
                return
            self._open()  # this key frame does not decode: try the one before

    def _ahead(self, time: float, here: float) -> float:
        """From when on decoding would begin after a seek, as far as is known, ``here`` being where it would go on."""
        if self._probe.format == MATROSKA:  # it learns its index while it reads
            return time if time - here > SEEK_SECONDS else here
        entries = self._stream.index_entries
        index = entries.search_timestamp(self._stamp(time), backward=True)
        if index < 0:
            return -math.inf
        return float(entries[index].timestamp * self._stream.time_base) - self._probe.origin_seconds

    def _stamp(self, time: float) -> int:
        return math.floor((time + self._probe.origin_seconds) / self._stream.time_base)

    def _seek(self, time: float) -> None:
        """To a key frame that is shown at ``time`` or before; where the container leads to none, to the first."""
        for back in (0.0, 2.0, 10.0, 60.0):
            if time - back <= self.info.start_seconds:
                break
            try:
                self._container.seek(self._stamp(time - back), stream=self._stream, backward=True)
            except (av.FFmpegError, OSError, ValueError):
                break
            self._packets = enumerate(continuous(self._container, self._stream))
            self._restart()
            if self._next_time <= time:
                return
        self._open()

    def _convert(self) -> np.ndarray:
        """The shown frame, uint8 (H, W, 3) RGB; of high dynamic range in the colours of BT.709."""
        frame, to = self._shown, {"dst_color_trc": _BT709, "dst_color_primaries": _BT709} if self._probe.hdr else {}
        try:
            if frame.interlaced_frame:
                frame = _deinterlaced(self._before, frame, self._next)
            return frame.reformat(format="rgb24", threads=self._threads, **to).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            reason = f"the frame at {self._shown_time:.3f} s cannot be converted to RGB ({error})"
            raise VideoError(f"{shown(self._path)}: {reason}") from error


def _deinterlaced(before: av.VideoFrame | None, frame: av.VideoFrame, after: av.VideoFrame | None) -> av.VideoFrame:
    """The whole picture of which ``frame`` holds two halves, taken one after the other."""
    kind = (frame.width, frame.height, frame.format.name)
    frames = [f for f in (before, frame, after) if f is not None and (f.width, f.height, f.format.name) == kind]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=kind[0], height=kind[1], format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame"), graph.add("buffersink")).configure()
    for each in (*frames, None):
        graph.push(each)
    return [graph.pull() for _ in frames][frames.index(frame)]
