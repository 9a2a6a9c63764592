"""libav's side of a file: opened so that it can open nothing else, its streams, packets and frames."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av

from xclip_cli.errors import VideoError
from xclip_cli.video.source import PROTOCOLS, film_offset, safe_name
from xclip_cli.video.types import MATROSKA, MP4

# Demuxers that open other files or addresses, capture devices, and those that take any text or bytes for a picture.
_REFUSED = frozenset(
    """hls applehttp dash webm_dash_manifest smoothstreaming hds concat imf sdp rtsp rtp sap image2 image2pipe vobsub
    lavfi tee alsa oss fbdev kmsgrab x11grab v4l2 video4linux2 tty bin xbin adf idf data ffmetadata
    rawvideo bitpacked v210 v210x svg_pipe""".split()  # noqa: SIM905
)
_FORMATS = ",".join(sorted({name for group in av.formats_available for name in group.split(",")} - _REFUSED))
_NOT_SHOWN = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
_MATROSKA_HEAD_BYTES = 4096
PICTURE_CODECS = ("mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "jpegxl")
_JUMP_BACK_SECONDS, _JUMP_AHEAD_SECONDS = 1.0, 10.0
_TS_DISCONT = av.format.Flags.ts_discont.value  # of demuxers whose time stamps may jump ahead where nothing is missing


@contextmanager
def open_container(path: str) -> Iterator[av.container.InputContainer]:
    """libav's container of a local file. Raises av.FFmpegError, OSError and what else hostile bytes may bring about."""
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": _FORMATS}
    with safe_name(path) as name:
        container = av.open(name, container_options=options, metadata_errors="replace")
    with container:
        yield container


def shown_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The video that a player shows: of those marked default, or of all, the largest; a cover picture never.

    One of a single picture is shown only where there is no other.
    """

    def rank(stream: av.VideoStream) -> tuple:
        context = stream.codec_context
        marked = bool(stream.disposition & av.stream.Disposition.default)
        moving = context is not None and context.name not in PICTURE_CODECS
        return moving, stream.frames != 1, marked, context.width * context.height if context else 0, -stream.index

    return max((s for s in container.streams.video if not s.disposition & _NOT_SHOWN), key=rank, default=None)


def start_seconds(container: av.container.InputContainer) -> float | None:
    """The time stamp at which the player's clock says 0; None where nobody says.

    It is where the earliest stream starts. A cover picture, whose time stamp says nothing, is none of them.
    """
    if not any(stream.disposition & _NOT_SHOWN for stream in container.streams):
        return None if container.start_time is None else container.start_time / av.time_base
    streams = (s for s in container.streams if s.type in ("video", "audio") and not s.disposition & _NOT_SHOWN)
    return min((float(s.start_time * s.time_base) for s in streams if s.start_time is not None), default=None)


def continuous(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[tuple[av.Packet, bool]]:
    """A stream's packets, with time stamps that go on where those of a joined recording jump, and whether any did.

    A jump of more than a second back is a joint: what follows goes on where the packet before ended. So is one of more
    than ten seconds ahead in the containers in which ffmpeg closes it, such as MPEG-TS; in others a picture stands as
    long. MP4 and Matroska have one clock throughout.
    """
    offset, end = 0, None
    ahead = _JUMP_AHEAD_SECONDS if container.format.flags & _TS_DISCONT else math.inf
    for packet in _packets(container, stream):
        if container.format.name in (MP4, MATROSKA):
            yield packet, False
            continue
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is not None:
            jump = 0.0 if end is None else float((stamp + offset - end) * packet.time_base)
            if not -_JUMP_BACK_SECONDS <= jump <= ahead:
                offset = end - stamp
            end = stamp + offset + (packet.duration or 0)
            if offset:
                packet.pts = None if packet.pts is None else packet.pts + offset
                packet.dts = None if packet.dts is None else packet.dts + offset
        yield packet, offset != 0


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:  # PyAV stumbles over a stream that a damaged file begins in the middle: go on behind it
            continue


def ready(stream: av.VideoStream, threads: int) -> None:
    """Sets a stream's decoder up: so many threads, and frames cropped to the pixel, as ffmpeg has it."""
    context = stream.codec_context
    context.thread_type, context.thread_count = "AUTO", threads
    context.flags |= av.codec.context.Flags.unaligned


def decode(packet: av.Packet) -> tuple[list[av.VideoFrame], bool]:
    """The frames that a packet completes, none where it is damaged, and whether it was sound."""
    try:
        frames = packet.decode()
    except (av.FFmpegError, ValueError):
        return [], False
    return frames, not any(frame.is_corrupt for frame in frames)


def stamp_seconds(frame: av.VideoFrame, by_dts: bool) -> float | None:
    """When a frame is shown, on the container's clock; None where nobody says.

    AVI says only in which order frames are decoded, and the presentation times that libav makes of that are wrong for
    packed B-frames; ``by_dts`` takes the time at which a frame leaves the decoder.
    """
    stamp = frame.dts if frame.pts is None or by_dts else frame.pts
    return None if stamp is None else float(stamp * frame.time_base)


def no_frame(name: str) -> VideoError:
    return VideoError(f"{name} has no frame that can be decoded")


def is_cut(path: str, format: str, entries: Sequence) -> bool:
    """Whether the file ends before its container does; False for containers that do not say how long they are.

    ``entries`` are libav's index entries of the video: an MP4 is cut where the last of them lies beyond the file.
    """
    size = os.stat(path).st_size - film_offset(path)
    if format == MP4:
        return len(entries) > 0 and entries[-1].pos + entries[-1].size > size
    check = {MATROSKA: _matroska_end, "avi": _riff_end, "flv": _flv_end}.get(format)
    if check is None:
        return False
    with Path(path).open("rb") as file:
        return check(file, size) > size


def _matroska_end(file: BinaryIO, size: int) -> int:
    head = file.read(_MATROSKA_HEAD_BYTES)
    at = head.find(_MATROSKA_SEGMENT) + len(_MATROSKA_SEGMENT)
    if at < len(_MATROSKA_SEGMENT) or at >= len(head) or not head[at]:
        return 0
    length = 9 - head[at].bit_length()  # of the number, in bytes (EBML, RFC 8794, section 4)
    number = int.from_bytes(head[at : at + length], "big") & ~(1 << 7 * length)
    unknown = number == (1 << 7 * length) - 1
    return 0 if unknown else at + length + number


def _riff_end(file: BinaryIO, size: int) -> int:
    return 8 + int.from_bytes(file.read(8)[4:], "little")


def _flv_end(file: BinaryIO, size: int) -> int:
    """The end of the file where that is a tag's end, after which the tag's size stands; else beyond it."""
    file.seek(max(0, size - 4))
    tag = int.from_bytes(file.read(4), "big")
    if not 11 <= tag <= size - 4:
        return size + 1
    file.seek(size - 4 - tag + 1)
    return size if int.from_bytes(file.read(3), "big") + 11 == tag else size + 1
