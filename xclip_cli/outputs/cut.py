"""Parts of videos as small files: copied where that gives the very frames, else encoded; in a process of its own.

The frames of [start, end) are those whose time lies in it, and before them the one that has been on display since
earlier, if the next one is more than half a second away. A copy keeps every bit. It is made where the first
of these frames is a key frame and no packet is needed that shows another frame; then both files are decoded and
compared. An encoded part (H.264, or MPEG-4 where that is missing) has the frames at their own times, upright, with
square pixels. Sound is copied where MP4 can hold it, else left out.
"""

import json
import os
import sys
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from itertools import chain, pairwise, zip_longest
from pathlib import Path

import av
import numpy as np

from xclip_cli.errors import OutputError, VideoError
from xclip_cli.files import replacing
from xclip_cli.settings import num_cores
from xclip_cli.video.container import continuous, decode, open_container, ready
from xclip_cli.video.display import UPRIGHT
from xclip_cli.video.probe import probe
from xclip_cli.video.process import follow, program, report_to_parent
from xclip_cli.video.pyav import PyAvVideo
from xclip_cli.video.source import is_picture, read_head, shown
from xclip_cli.video.types import TOLERANCE_SECONDS, Probe

_HELD_SECONDS = 0.5  # a picture that is shown for longer belongs to a part even if the part begins in the middle of it
_LATE_SECONDS = 0.1  # a picture is not painted again if the next one follows within this time
_CLOCK = Fraction(1, 60_000)  # MPEG-4 allows no finer one than 1/65535
_VIDEO_CODECS = ("h264", "hevc", "mpeg4", "av1", "vp9")
_AUDIO_CODECS = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
_NAME_BYTES = 90

Progress = Callable[[float, float], None]


def cut(
    video: str,
    start_seconds: float,
    end_seconds: float,
    target: Path,
    timeout_seconds: float,
    on_progress: Progress = lambda seconds, total: None,
) -> str:
    """Write [start, end) of a video as an MP4, whole or not at all; return how: ``copied`` or ``encoded``.

    Times are on the player's clock, as in results. ``on_progress(seconds, total)`` counts seconds of the part. Raises
    VideoError where it cannot be decoded or makes no progress for ``timeout_seconds``, OutputError where it cannot be
    written.
    """
    try:
        with replacing(target) as draft:
            request = json.dumps([os.path.abspath(video), start_seconds, end_seconds, os.path.abspath(draft)])
            command = program("from xclip_cli.outputs.cut import main; main()", request)
            return follow(command, shown(video), "cut", timeout_seconds, on_progress)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(target)!r}: {error.strerror or error}", "free space, or cut elsewhere"
        ) from error


def cut_name(video: str, label: str, start_seconds: float) -> str:
    """Such as ``match__slam-dunk__00-01-05.000.mp4``: a name in one folder, whatever video and label are called."""
    minutes, milliseconds = divmod(round(start_seconds * 1000), 60_000)
    clock = f"{minutes // 60:02}-{minutes % 60:02}-{milliseconds / 1000:06.3f}"
    return f"{_plain(Path(video).stem)}__{_plain(label)}__{clock}.mp4"


def free_name(name: str, taken: set[str]) -> str:
    """The name, numbered where it is ``taken`` in any case already; it is taken from now on."""
    stem, number, free = name.removesuffix(".mp4"), 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{stem}-{number}.mp4"
    taken.add(free.casefold())
    return free


def _plain(text: str) -> str:
    """Letters, digits and ``-_.`` of any script; no separator, control, direction mark or leading dot; not too long."""
    kept = (c if unicodedata.category(c)[0] in "LNM" or c in "-_." else "-" if c == " " else "_" for c in text)
    return "".join(kept).lstrip(".-").encode()[:_NAME_BYTES].decode(errors="ignore") or "_"


def main() -> None:
    """The program of the process that cuts: one part, as JSON."""
    video, start, end, draft = json.loads(sys.argv[1])
    report_to_parent(video, "cut", lambda on_progress: _write(video, start, end, draft, on_progress))


def _write(path: str, start: float, end: float, draft: str, on_progress: Progress) -> str:
    if is_picture(path, read_head(path)):
        raise VideoError(f"{shown(path)} is a picture: there is nothing to cut")
    found = probe(path)
    if _can_be_copied(found):
        with suppress(av.FFmpegError, ValueError):
            if _copy(path, found, start, end, draft, on_progress):
                return "copied"
    encode(path, found, start, end, draft, on_progress)
    return "encoded"


def _can_be_copied(found: Probe) -> bool:
    clear = found.seekable and not (found.has_discontinuity or found.by_dts or found.cropped)
    return clear and found.codec in _VIDEO_CODECS and found.display.orientation == UPRIGHT


def _copy(path: str, found: Probe, start: float, end: float, draft: str, on_progress: Progress) -> bool:
    """Copy the packets of [start, end); False where that does not give the very frames."""
    start, end = (seconds + found.origin_seconds - TOLERANCE_SECONDS for seconds in (start, end))
    first = max(start, found.origin_seconds + found.info.start_seconds - TOLERANCE_SECONDS)  # sound may begin earlier
    with open_container(path) as source, av.open(draft, "w", format="mp4") as output:
        stream = source.streams[found.stream]
        source.seek(int(first / stream.time_base), stream=stream, backward=True)
        packets = (packet for packet in source.demux(stream) if packet.size)
        key = next((p for p in packets if p.is_keyframe and p.pts is not None and p.pts * p.time_base >= first), None)
        if key is None or key.dts is None or key.pts * key.time_base > first + _HELD_SECONDS:
            return False
        before = min(key.dts, key.pts) - 1
        base = key.pts * key.time_base if first == start else Fraction(start + TOLERANCE_SECONDS)
        video = output.add_stream_from_template(stream, opaque=True)
        with _Sound(path, found, output, base, end) as sound:
            for packet in _exact(key, packets, end):
                if packet is None:
                    return False
                sound.write_until(float(packet.pts * packet.time_base))
                _mux(output, packet, video, base)
                on_progress(0.0, end - start)  # decoding below takes longer
            sound.write_until(end)
    return _is_same(path, found, before, (first, end), draft, base, on_progress)


def _exact(key: av.Packet, packets: Iterator[av.Packet], end: float) -> Iterator[av.Packet | None]:
    """Yield the packets from ``key`` on that are shown before ``end``; None, if others were needed to decode them."""
    first, over = key.pts, False
    yield key
    for packet in packets:
        if packet.pts is None or packet.dts is None or packet.is_discard or packet.pts < first:
            yield None
            return
        if packet.dts * packet.time_base >= end:
            return
        late = packet.pts * packet.time_base >= end
        if over and not late:
            yield None
            return
        over = over or late
        if not late:
            yield packet


def _is_same(
    path: str,
    found: Probe,
    before: int,
    span: tuple[float, float],
    draft: str,
    base: Fraction,
    on_progress: Progress,
) -> bool:
    """Whether the draft shows, ``base`` seconds earlier, what the video shows in the span on the container's clock.

    The video is decoded from the key frame at ``before`` ticks or earlier: not every packet that is marked as a key
    frame is one.
    """
    with open_container(path) as source, open_container(draft) as made:
        stream = source.streams[found.stream]
        with suppress(av.FFmpegError, OSError):  # there is none before: begin at the start
            source.seek(before, stream=stream, backward=True)
        wanted = _frames(source, stream, *span)
        for one, other in zip_longest(wanted, _frames(made, made.streams.video[0])):
            if one is None or other is None or abs(float(one.time - base) - other.time) > TOLERANCE_SECONDS:
                return False
            if not all(np.array_equal(*planes) for planes in zip_longest(_planes(one), _planes(other))):
                return False
            on_progress(one.time - span[0], span[1] - span[0])
    return True


def _frames(
    container: av.container.InputContainer, stream: av.VideoStream, start: float = -1.0, end: float = float("inf")
) -> Iterator[av.VideoFrame]:
    ready(stream, num_cores())
    for packet in container.demux(stream):
        for frame in decode(packet)[0]:
            if frame.time is None or frame.time >= end:
                return
            if frame.time >= start:
                yield frame


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The bytes of each plane, without what fills up its lines."""
    size = 1 if frame.format.components[0].bits <= 8 else 2
    rows = (np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height] for plane in frame.planes)
    return [row[:, : plane.width * size] for row, plane in zip(rows, frame.planes, strict=True)]


def _mux(output: av.container.OutputContainer, packet: av.Packet, stream: av.stream.Stream, base: Fraction) -> None:
    """Write a packet of another file, ``base`` seconds earlier."""
    shift = round(base / packet.time_base)
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
    packet.stream = stream
    output.mux(packet)


class _Sound:
    """The sound of [base, end) of a video, on the container's clock, on its way to an output; none if MP4 has no room.

    It is read from a file opened anew: packets of sound may lie far from those of the video at the same time.
    """

    def __init__(self, path: str, found: Probe, output: av.container.OutputContainer, base: Fraction, end: float):
        self._output, self._base, self._end = output, base, end
        self._opened = open_container(path)
        self._source = self._opened.__enter__()
        codecs = ((s, s.codec_context and s.codec_context.name) for s in self._source.streams.audio)
        stream = next((s for s, codec in codecs if codec in _AUDIO_CODECS), None)
        self._stream = stream and output.add_stream_from_template(stream, opaque=True)
        self._packets = self._read(stream, found.has_discontinuity) if stream else iter(())
        self._next = next(self._packets, None)

    def __enter__(self) -> "_Sound":
        return self

    def __exit__(self, *_) -> None:
        self._opened.__exit__(None, None, None)

    def write_until(self, seconds: float) -> None:
        while self._next is not None and self._next.pts * self._next.time_base < seconds:
            _mux(self._output, self._next, self._stream, self._base)
            self._next = next(self._packets, None)

    def _read(self, stream: av.AudioStream, has_discontinuity: bool) -> Iterator[av.Packet]:
        if has_discontinuity:  # time stamps are known only from the start
            packets = (packet for packet, _ in continuous(self._source, stream))
        else:
            with suppress(av.FFmpegError, OSError):
                self._source.seek(int(self._base / stream.time_base), stream=stream, backward=True)
            packets = self._source.demux(stream)
        for packet in packets:
            if packet.pts is None or packet.dts is None or packet.pts * packet.time_base < self._base:
                continue
            if packet.pts * packet.time_base >= self._end:
                return
            yield packet


def encode(
    path: str,
    found: Probe,
    start: float,
    end: float,
    draft: str,
    on_progress: Progress,
    paint: Callable[[float, np.ndarray], np.ndarray] = lambda seconds, picture: picture,
    changes: Sequence[float] = (),
) -> None:
    """Encode [start, end) of a video as an MP4; ``paint(seconds, picture)`` gives the picture to show instead.

    A picture that stays long is painted again at each of the ``changes`` (seconds, ascending) that falls in its time.
    Raises VideoError.
    """
    width, height = (max(2, side - side % 2) for side in (found.info.width, found.info.height))
    with (
        closing(PyAvVideo(path, found, num_cores())) as video,
        av.open(draft, "w", format="mp4") as output,
    ):
        pictures = _pictures(video, start, end, changes)
        first = next(pictures, None)
        if first is None:
            raise VideoError(f"{shown(path)} shows nothing from {start:.3f} to {end:.3f} s")
        base = start if start < found.info.start_seconds - TOLERANCE_SECONDS else first[1]
        encoder, durations = _encoder(output, found, width, height), {}

        def write(frame: av.VideoFrame | None) -> None:
            for packet in encoder.encode(frame):
                packet.duration = durations.pop(packet.pts, 0)
                output.mux(packet)

        offset = found.origin_seconds
        with _Sound(path, found, output, Fraction(base + offset), end + offset) as sound:
            for picture, time, stop in chain([first], pictures):
                picture = paint(time, video.display(picture)[:height, :width])
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
                frame.pts, frame.time_base = round((time - base) / _CLOCK), _CLOCK
                durations[frame.pts] = round((stop - time) / _CLOCK)
                write(frame)
                sound.write_until(time + offset)
                on_progress(time - start, end - start)
            write(None)
            sound.write_until(end + offset)


def _pictures(
    video: PyAvVideo, start: float, end: float, changes: Sequence[float]
) -> Iterator[tuple[np.ndarray, float, float]]:
    """Yield what is shown in [start, end): pictures, each with the seconds from and to which it is shown."""
    start, end = start - TOLERANCE_SECONDS, min(end, video.info.end_seconds) - TOLERANCE_SECONDS
    for picture, shown_at, stop in video.frames_from(start):
        if shown_at >= end or stop <= start:
            return
        if shown_at < start and stop < end and stop - start <= _HELD_SECONDS:
            continue
        begin, stop = max(shown_at, start + TOLERANCE_SECONDS), min(stop, end + TOLERANCE_SECONDS)
        again = changes[bisect_right(changes, begin) : bisect_left(changes, stop - _LATE_SECONDS)]
        for time, until in pairwise([begin, *again, stop]):
            yield picture, time, until


def _encoder(output: av.container.OutputContainer, found: Probe, width: int, height: int) -> av.VideoStream:
    name = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
    encoder = output.add_stream(name, rate=Fraction(found.info.fps).limit_denominator(1001))
    encoder.time_base = encoder.codec_context.time_base = _CLOCK
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    # no B-frames: the first frame is at 0 without an edit list, which not every player reads
    encoder.options = {"crf": "18", "preset": "veryfast", "bf": "0"} if name == "libx264" else {"qscale": "3"}
    return encoder
