"""The facts of a video file, read once for all readers: streams, size, rotation, clock, length.

One frame is decoded, because only a frame tells how it is rotated and whether it is interlaced. The length is that of
the video's packets: a header may state too little (joined or unfinished recordings) or too much (edit lists, cover
pictures, longer sound). With a reliable index only the end of the file is read, otherwise all packets.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.container import (
    PICTURE_CODECS,
    continuous,
    decode,
    is_cut,
    no_frame,
    open_container,
    shown_stream,
    stamp_seconds,
    start_seconds,
)
from xclip_cli.video.display import UPRIGHT, Display, Orientation
from xclip_cli.video.source import has_moov, read_head, shown
from xclip_cli.video.types import (
    JUMP_SECONDS,
    MATROSKA,
    MAX_FAILURES,
    MAX_JUMPS,
    MP4,
    TOLERANCE_SECONDS,
    Probe,
    VideoInfo,
)

_HDR = (16, 18)  # transfer characteristics PQ and HLG (ITU-T H.273)
_USUAL_FPS = 25.0
_MOST_LOOKS = 100_000
_LARGEST_MARGIN = 64
_STILL_WRITTEN_SECONDS = 10.0
_LOOKED_THROUGH = 2**20
# Matroska's element ContentEncryption, its size in one byte or in eight.
_ENCRYPTION = re.compile(rb"\x50\x35([\x81-\xfe]|\x01\0{4})")


def probe(path: str) -> Probe:
    """Looks at the file. VideoError, naming the cause, where it holds no video that can be decoded."""
    head = read_head(path)
    size = os.stat(path).st_size
    try:
        with open_container(path) as container:
            found = _scan_packets(path, container, unchecked=container.format.name in (MP4, MATROSKA))
        if found is None:
            with open_container(path) as container:
                found = _scan_packets(path, container, unchecked=False)
    except (av.FFmpegError, OSError, ValueError, UnicodeError) as error:
        raise _unreadable(path, head, size) from error
    return found


class _StreamSummary:
    """What the packets of one stream say, in the order of the file, in seconds: (presented, decoded) and durations."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream):
        self._container, self._stream = container, stream
        self.stamps: list[tuple[float | None, float | None]] = []
        self.durations: list[float] = []
        self.keys: list[int] = []
        self.has_discontinuity = False

    def packets(self) -> Iterator[av.Packet]:
        """The stream's packets from where the container stands; what they say is noted."""
        for packet, jumped in continuous(self._container, self._stream):
            self.has_discontinuity = self.has_discontinuity or jumped
            if packet.size and not packet.is_discard:
                if packet.is_keyframe:
                    self.keys.append(len(self.stamps))
                unit = packet.time_base
                self.stamps.append(tuple(None if s is None else float(s * unit) for s in (packet.pts, packet.dts)))
                self.durations.append(float((packet.duration or 0) * unit))
            yield packet

    def times(self, by_dts: bool) -> list[float | None]:
        """When the frame in each packet is shown, as ``stamp_seconds`` has it."""
        return [dts if pts is None or by_dts else pts for pts, dts in self.stamps]

    def trusted_keys(self) -> list[int]:
        """The numbers of packets with a key frame; some files call every packet one, which only some codecs know."""
        false = len(self.keys) == len(self.stamps) and not self._stream.codec_context.codec.intra_only
        return self.keys[:1] if false else self.keys

    @property
    def exact(self) -> bool:
        """Whether how long the last frame is shown was somebody's choice, and no muxer's guess."""
        return self._container.format.name == "gif"

    @property
    def by_dts(self) -> bool:
        """Whether presentation times are made up, and wrongly where decoding changes the order of frames."""
        presented = [pts for pts, _ in self.stamps if pts is not None]
        return self._container.format.name == "avi" and all(a < b for a, b in pairwise(presented))


def _scan_packets(path: str, container: av.container.InputContainer, unchecked: bool) -> Probe | None:
    """The facts; None where the container's index was to be trusted and does not lead to the end of the video."""
    stream = _stream(path, container)
    expected = stream.codec_context.width, stream.codec_context.height
    seen = _StreamSummary(container, stream)
    packets = seen.packets()
    frame = _first_frame(shown(path), packets)
    if unchecked:
        seen = _last_packets(path, container, stream)
        if seen is None:
            return None
    else:
        for _ in packets:
            pass
    start = stamp_seconds(frame, seen.by_dts) or 0.0
    stated_fps = float(stream.average_rate or stream.guessed_rate or 0)
    length = _length(seen, not unchecked, start, stated_fps)
    alone = len(seen.stamps) == 1 and length.last == 0
    if alone and stream.codec_context.name in PICTURE_CODECS and len(container.streams) > 1:
        raise _only_a_cover(path)
    shown_from = _shown_from(container, stream, start)
    gaps = tuple((a + shown_from, b + shown_from) for a, b in length.gaps)
    count = len(seen.stamps)
    if unchecked:  # the index also counts what an edit list hides
        count = stream.frames if abs(stream.frames / length.fps - length.duration) < 1.5 / length.fps else None
    width, height = coded = _cropped(frame, expected)
    display = Display(shown(path), width, height, _orientation(frame), _pixel_aspect(stream))
    stated = _stated(container, stream, start)
    lacks = stated is not None and is_cut(path, container.format.name, stream.index_entries)
    return Probe(
        info=VideoInfo(*display.size, length.duration, count, length.fps, shown_from, gaps),
        display=display,
        format=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        stream=stream.index,
        first_of_streams=stream.index == container.streams.video[0].index,
        only_stream=len(container.streams.video) == 1,
        interlaced=frame.interlaced_frame,
        cropped=coded != (frame.width, frame.height),
        hdr=int(frame.color_trc or 0) in _HDR,
        by_dts=seen.by_dts,
        origin_seconds=start - shown_from,
        last_seconds=length.last + shown_from,
        seekable=unchecked,
        has_discontinuity=seen.has_discontinuity,
        stated_seconds=stated,
        stated_fps=stated_fps,
        missing_seconds=max(0.0, stated - length.duration) if lacks else 0.0,
        keys=length.keys + np.array([0, shown_from]),
    )


def _shown_from(container: av.container.InputContainer, stream: av.VideoStream, start: float) -> float:
    """When the first frame, of time stamp ``start``, is shown on the player's clock, in seconds."""
    origin = start_seconds(container)
    if container.format.name == "avi":  # it says only in which order frames are decoded: that is earlier
        start = float((stream.start_time or 0) * stream.time_base)
    return 0.0 if origin is None or start - origin < TOLERANCE_SECONDS else start - origin


def _stream(path: str, container: av.container.InputContainer) -> av.VideoStream:
    stream, name = shown_stream(container), shown(path)
    if stream is None and container.streams.video:
        raise _only_a_cover(path)
    if stream is None and container.format.name == MATROSKA and _ENCRYPTION.search(_looked_through(path)):
        raise _encrypted(name)
    if stream is None:
        raise VideoError(f"{name} holds no video stream")
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{name}: there is no decoder for its codec {_codec_name(path)}", "convert it, e.g. to H.264")
    if context.width and context.height:
        Display(name, context.width, context.height)  # refuses an absurd size before anything is decoded
    context.thread_count = 1
    return stream


def _only_a_cover(path: str) -> VideoError:
    return VideoError(f"{shown(path)} holds no video stream, only a cover picture")


def _encrypted(name: str) -> VideoError:
    return VideoError(f"{name} is encrypted (DRM)", "only a copy without protection can be read")


def _first_frame(name: str, packets: Iterable[av.Packet]) -> av.VideoFrame:
    failures = 0
    for packet in packets:
        if packet.has_sidedata("encryption_info"):
            raise _encrypted(name)
        frames, sound = decode(packet)
        if frames:
            return frames[0]
        failures += not sound
        if failures > MAX_FAILURES:
            break
    raise no_frame(name)


def _last_packets(path: str, container: av.container.InputContainer, stream: av.VideoStream) -> _StreamSummary | None:
    """The packets from the last key frame on; None where the container has no index that leads there."""
    unindexed = container.format.name == MP4 and not stream.frames
    if unindexed or is_cut(path, container.format.name, stream.index_entries):
        return None
    seen = _StreamSummary(container, stream)
    try:
        container.seek(2**62, stream=stream, backward=True)
        for _ in seen.packets():
            pass
    except (av.FFmpegError, OSError, ValueError):
        return None
    if _index_jumps(stream):
        return None
    return seen if any(pts is not None for pts, _ in seen.stamps) else None


def _index_jumps(stream: av.VideoStream) -> bool:
    """Whether time stamps jump, as far as the index says: a jump holds a multiple of ``JUMP_SECONDS``."""
    entries, unit = stream.index_entries, JUMP_SECONDS / stream.time_base
    if len(entries) < 2:
        return False
    first, last = entries[0].timestamp, entries[-1].timestamp
    if (last - first) / unit > _MOST_LOOKS:
        return True
    for number in range(1, int((last - first) / unit) + 1):
        before = entries.search_timestamp(int(first + number * unit), backward=True, any_frame=True)
        if 0 <= before < len(entries) - 1 and entries[before + 1].timestamp - entries[before].timestamp > unit:
            return True
    return False


class _Length(NamedTuple):
    """In seconds after the first frame: when the last one is shown, and when it ends.

    ``keys`` (N, 2) says where key frames are, ``gaps`` [start, stop) where time stamps jump.
    """

    fps: float
    last: float
    duration: float
    keys: np.ndarray
    gaps: Sequence[tuple[float, float]] = ()


def _length(seen: _StreamSummary, whole: bool, start: float, fps: float) -> _Length:
    """From the first frame's time ``start``, and all packets or the last ones.

    ``fps`` is what the stream says, 0 where it says nothing.
    """
    times = seen.times(seen.by_dts)
    if seen.by_dts:  # frames come later than their packets
        start = times[0] or 0.0
    known = sorted((time, duration) for time, duration in zip(times, seen.durations, strict=True) if time is not None)
    if known:
        stamps = np.maximum([time - start for time, _ in known], 0.0)
        last, steps = float(stamps[-1]), np.diff(stamps)
        jumps = _jumps(steps)
        moving = last - float(steps[jumps].sum())
        if moving > 0 and (fps <= 0 or whole):
            fps = (len(known) - 1 - len(jumps)) / moving
        fps = fps if fps > 0 else _USUAL_FPS
        usual = float(steps[steps > 0].min(initial=1 / _USUAL_FPS)) if last > 0 else 0.0
        own = known[-1][1]
        duration = (own if seen.exact and own > 0 else max(own, usual)) or 1 / fps  # muxers may write next to nothing
        end = last + (duration if duration <= JUMP_SECONDS else usual or 1 / _USUAL_FPS)
        gaps = [(float(stamps[n]) + usual, float(stamps[n + 1])) for n in jumps]
        if duration > JUMP_SECONDS:
            gaps.append((end, last + duration))
    else:  # a bare stream of pictures, which follow each other at a steady pace
        fps = 1 / seen.durations[0] if seen.durations[0] > 0 else fps if fps > 0 else _USUAL_FPS
        last, end, gaps = (len(times) - 1) / fps, len(times) / fps, ()
    keys = [(n, times[n] - start) for n in seen.trusted_keys() if times[n] is not None]
    return _Length(fps, last, end, np.array(keys, np.float64).reshape(-1, 2), gaps)


def _jumps(steps: np.ndarray) -> np.ndarray:
    """After which pictures the time stamps jump; none where so many do that pictures are rare."""
    jumps = np.flatnonzero(steps > JUMP_SECONDS)
    return jumps if len(jumps) <= MAX_JUMPS else jumps[:0]


def _stated(container: av.container.InputContainer, stream: av.VideoStream, start: float) -> float | None:
    """The length that the header states, from the first frame on; None where it states none."""
    if container.format.name not in (MP4, MATROSKA, "avi", "flv"):
        return None  # libav estimates
    if stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - start
    if not container.duration:
        return None
    stated = container.duration / av.time_base
    return stated - start if stated > start else stated


def _orientation(frame: av.VideoFrame) -> Orientation:
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV has no name for something that stands beside it
        return Orientation.of_rotation(frame.rotation)
    return UPRIGHT if data is None else Orientation.of_matrix(np.frombuffer(bytes(data), np.int32))


def _cropped(frame: av.VideoFrame, expected: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a coded picture; libavcodec leaves a margin on where cutting it off would take it a copy."""
    margins = frame.width - expected[0], frame.height - expected[1]
    return expected if all(0 <= margin < _LARGEST_MARGIN for margin in margins) else (frame.width, frame.height)


def _pixel_aspect(stream: av.VideoStream) -> Fraction:
    return stream.sample_aspect_ratio or Fraction(1)


def _looked_through(path: str) -> bytes:
    """The start and the end of a file, where containers keep their tables."""
    with Path(path).open("rb") as file:
        data = file.read(_LOOKED_THROUGH)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LOOKED_THROUGH))
        return data + file.read()


def _codec_name(path: str) -> str:
    """What the file calls the codec of its video; libav tells no name of one that it does not know."""
    coded_as = rb"vide.{1,2000}?stsd.{12}([!-~]{4})|\x86.(V_[!-~]+)|vids([!-~]{4})"
    found = re.search(coded_as, _looked_through(path), re.DOTALL)
    return "(unknown)" if found is None else repr(next(filter(None, found.groups())).decode("ascii"))


def _unreadable(path: str, head: bytes, size: int) -> VideoError:
    """Why libav cannot open a file that is there and not empty."""
    name, state = shown(path), os.stat(path)
    writing = ""
    if state.st_size != size or 0 <= time.time() - state.st_mtime < _STILL_WRITTEN_SECONDS:
        writing = "; it may be still being written: it changed a moment ago"
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"skip") and not has_moov(path):
        reason = "is an MP4 without its index (moov): the recording was not finished, or the copy is cut off"
        return VideoError(f"{name} {reason}{writing}", "copy it again, or mend it with a tool such as untrunc")
    return VideoError(f"{name} holds no video stream that can be decoded{writing}")
