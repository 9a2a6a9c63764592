"""What is in a video file, found out before anyone asks for its frames: the same answers for every reader.

One frame is decoded, since only a frame tells how it is turned and woven. Length is that of the packets of the video:
a header may promise too little (joined or unfinished recordings) or too much (edit lists, cover pictures, sound that
goes on). Of a container with an index that can be trusted the end is looked at, of any other all packets.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.container import continuous, decode, no_frame, open_container, shown_stream, stamp_seconds
from xclip_cli.video.display import UPRIGHT, Display, Orientation
from xclip_cli.video.source import read_head, shown
from xclip_cli.video.types import MATROSKA, MP4, Probe, VideoInfo

_STATING = (MP4, MATROSKA, "avi", "flv")  # containers that state a length, where others have it estimated
_HDR = (16, 18)  # transfer characteristics PQ and HLG (ITU-T H.273)
_INTERLACED = (2, 3, 4, 5)  # of libavcodec's AVFieldOrder
_USUAL_FPS = 25.0
_MAX_FAILURES = 500
_STILL_WRITTEN_SECONDS = 10.0
_LOOKED_THROUGH = 2**20


def probe(path: str) -> Probe:
    """Looks at the file. VideoError, naming the cause, where it holds no video that can be decoded."""
    head = read_head(path)
    size = os.stat(path).st_size
    try:
        with open_container(path) as container:
            return _look(path, size, container)
    except (av.FFmpegError, OSError, ValueError, UnicodeError) as error:
        raise _unreadable(path, head, size) from error


class _Seen:
    """What packets of one stream say, in the order of the file; ``stamps`` in seconds, None where there is none."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream):
        self._container, self._index = container, stream.index
        self.stamps: list[float | None] = []
        self.end = self.end_of_others = -np.inf
        self.keys: list[int] = []
        self.joined = False

    def packets(self) -> Iterator[av.Packet]:
        """The stream's packets from where the container stands; what all of them say is noted."""
        for packet, joined in continuous(self._others_noted()):
            self.joined = self.joined or joined
            if packet.size and not packet.is_discard:
                self._note(packet)
            yield packet

    def _others_noted(self) -> Iterator[av.Packet]:
        for packet in self._container.demux():
            if packet.stream_index == self._index:
                yield packet
            elif packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.end_of_others = max(self.end_of_others, end)

    def _note(self, packet: av.Packet) -> None:
        stamp = stamp_seconds(packet, self._container)
        if packet.is_keyframe:
            self.keys.append(len(self.stamps))
        self.stamps.append(stamp)
        if stamp is not None:
            self.end = max(self.end, stamp + float((packet.duration or 0) * packet.time_base))


def _look(path: str, size: int, container: av.container.InputContainer) -> Probe:
    stream = _stream(path, container)
    seen = _Seen(container, stream)
    packets = seen.packets()
    frame = _first_frame(shown(path), packets)
    display = Display(shown(path), frame.width, frame.height, _orientation(frame), _pixel_aspect(stream))
    start = stamp_seconds(frame, container) or 0.0
    tail = _look_at_end(container, stream, size)
    for _ in packets if tail is None else ():
        pass
    delay = start - (seen.stamps[0] or 0.0) if container.format.name == "avi" else 0.0
    fps, last, duration = _length(tail or seen, start - delay, float(stream.average_rate or stream.guessed_rate or 0))
    stated, missing = _stated(container, stream, tail or seen, start - delay, duration)
    return Probe(
        info=VideoInfo(*display.size, duration, len(seen.stamps) if tail is None else stream.frames or None, fps),
        display=display,
        format=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        stream=stream.index,
        first_of_streams=stream.index == container.streams.video[0].index,
        only_stream=len(container.streams.video) == 1,
        interlaced=frame.interlaced_frame or stream.codec_context.field_order in _INTERLACED,
        hdr=int(frame.color_trc or 0) in _HDR,
        start_seconds=start,
        last_seconds=last,
        seekable=tail is not None,
        joined=seen.joined,
        stated_seconds=stated,
        missing_seconds=0.0 if seen.joined else max(0.0, missing),
        keys=_keys(seen, start - delay, fps),
    )


def _stream(path: str, container: av.container.InputContainer) -> av.VideoStream:
    stream, name = shown_stream(container), shown(path)
    if stream is None:
        cover = ", only a cover picture" if container.streams.video else ""
        raise VideoError(f"{name} holds no video stream{cover}")
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{name} has no decoder here for its codec {_codec_name(path)}", "convert it, e.g. to H.264")
    if context.width and context.height:
        Display(name, context.width, context.height)  # refuses an absurd size before anything is decoded
    context.thread_count = 1
    return stream


def _first_frame(name: str, packets: Iterable[av.Packet]) -> av.VideoFrame:
    failures = 0
    for packet in packets:
        if packet.has_sidedata("encryption_info"):
            raise VideoError(f"{name} is encrypted (DRM)", "only a copy without protection can be read")
        frames, sound = decode(packet)
        if frames:
            return frames[0]
        failures += not sound
        if failures > _MAX_FAILURES:
            break
    raise no_frame(name)


def _look_at_end(container: av.container.InputContainer, stream: av.VideoStream, size: int) -> _Seen | None:
    """The packets from the last key frame on; None where the container has no index that leads there."""
    entries = stream.index_entries
    if container.format.name == MP4:
        if not stream.frames or not len(entries) or entries[-1].pos + entries[-1].size > size:
            return None
    elif container.format.name != MATROSKA:
        return None
    seen = _Seen(container, stream)
    try:
        container.seek(2**62, stream=stream, backward=True)
        for _ in seen.packets():
            pass
    except (av.FFmpegError, OSError, ValueError):
        return None
    return seen if any(stamp is not None for stamp in seen.stamps) else None


def _length(seen: _Seen, start: float, fps: float) -> tuple[float, float, float]:
    """Frames a second, when the last frame is shown after the first, and when that ends."""
    stamps = [stamp for stamp in seen.stamps if stamp is not None]
    if not stamps:  # a bare stream of pictures: they follow each other at a steady pace
        fps = fps or _USUAL_FPS
        return fps, (len(seen.stamps) - 1) / fps, len(seen.stamps) / fps
    last = max(0.0, max(stamps) - start)
    fps = fps or ((len(stamps) - 1) / last if last > 0 else _USUAL_FPS)
    return fps, last, max(seen.end - start, last + 1 / fps if seen.end - start <= last else 0.0)


def _stated(
    container: av.container.InputContainer, stream: av.VideoStream, seen: _Seen, start: float, duration: float
) -> tuple[float | None, float]:
    """The length that the header states, the video's or else the whole's, and how much of it is missing."""
    if container.format.name not in _STATING:
        return None, 0.0
    if stream.duration:
        stated = float((stream.duration + (stream.start_time or 0)) * stream.time_base) - start
        return stated, stated - duration
    if container.duration is None:
        return None, 0.0
    stated = container.duration / av.time_base
    return stated, stated - max(seen.end, seen.end_of_others)


def _keys(seen: _Seen, start: float, fps: float) -> np.ndarray:
    """(N, 2): the number of each packet with a key frame, and its time after the first frame."""
    times = [n / fps if seen.stamps[n] is None else seen.stamps[n] - start for n in seen.keys]
    return np.array([seen.keys, times], np.float64).T


def _orientation(frame: av.VideoFrame) -> Orientation:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return Orientation.of_matrix(np.frombuffer(bytes(data), np.int32))
    return UPRIGHT


def _pixel_aspect(stream: av.VideoStream) -> Fraction:
    return stream.sample_aspect_ratio or Fraction(1)


def _codec_name(path: str) -> str:
    """What the file calls the codec of its video; libav tells no name of one that it does not know."""
    with Path(path).open("rb") as file:
        data = file.read(_LOOKED_THROUGH)
        file.seek(max(0, os.stat(path).st_size - _LOOKED_THROUGH))
        data += file.read()
    found = re.search(rb"vide.{1,2000}?stsd.{12}([!-~]{4})|\x86.(V_[!-~]+)|vids([!-~]{4})", data, re.DOTALL)
    return "" if found is None else repr(next(filter(None, found.groups())).decode("ascii"))


def _unreadable(path: str, head: bytes, size: int) -> VideoError:
    """Why libav cannot open a file that is there and not empty."""
    name, state = shown(path), os.stat(path)
    if state.st_size != size or 0 <= time.time() - state.st_mtime < _STILL_WRITTEN_SECONDS:
        writing = "; it may be still being written: it changed a moment ago"
    else:
        writing = ""
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip") and not _has_box(path, b"moov"):
        reason = "is an MP4 without its index (moov): the recording was not finished, or the copy is cut off"
        return VideoError(f"{name} {reason}{writing}", "copy it again, or mend it with a tool such as untrunc")
    return VideoError(f"{name} holds no video stream that can be decoded{writing}")


def _has_box(path: str, wanted: bytes) -> bool:
    """Whether an MP4 has a box of this type at its top level."""
    with Path(path).open("rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at + 8 <= end:
            file.seek(at)
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if kind == wanted:
                return True
            length = int.from_bytes(file.read(8), "big") if length == 1 else length or end
            at += max(8, length)
    return False
