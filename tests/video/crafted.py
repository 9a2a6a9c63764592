"""Files that follow the rules of their containers and mean harm: endless, absurdly large, deep, or of many tracks.

Each maker takes whole clips by suffix, and gives the content of a file of the suffix in its name.
"""

import struct
import zlib
from collections.abc import Callable, Mapping

from damages import PNG

_UNKNOWN = b"\x01\xff\xff\xff\xff\xff\xff\xff"  # Matroska's size of an element that nobody knows
_LOOPS_FOR_EVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"  # as GIF has it
_ONE_PIXEL = b"\x02\x02\x44\x01\x00"
_MANY = 3000


def _box(content: bytes, name: bytes) -> tuple[int, int]:
    """Where the first box of an MP4 with that name begins and ends."""
    start = content.index(name) - 4
    return start, start + int.from_bytes(content[start : start + 4], "big")


def _after(content: bytes, name: bytes, offset: int, *numbers: int) -> bytes:
    """Numbers of 32 bits written so many bytes after the first such name."""
    start = content.index(name) + offset
    return content[:start] + struct.pack(f">{len(numbers)}I", *numbers) + content[start + 4 * len(numbers) :]


def many_tracks_mp4(clips: Mapping[str, bytes]) -> bytes:
    content = clips["mp4"]
    (start, stop), (first, last) = _box(content, b"moov"), _box(content, b"trak")
    inside = content[start + 8 : first] + content[first:last] * _MANY + content[last:stop]
    return content[:start] + struct.pack(">I4s", len(inside) + 8, b"moov") + inside + content[stop:]


def many_tracks_mkv(clips: Mapping[str, bytes]) -> bytes:
    content = clips["mkv"]
    at = content.index(b"\x16\x54\xae\x6b") + 4
    width = 9 - content[at].bit_length()
    size = int.from_bytes(content[at : at + width], "big") & ~(1 << 7 * width)
    entry = content[at + width : at + width + size]
    entry = entry[entry.index(b"\xae") :]
    length = (len(entry) * _MANY | 1 << 56).to_bytes(8, "big")
    return content[:at] + length + entry * _MANY + content[at + width + size :]


def deep_mp4(clips: Mapping[str, bytes]) -> bytes:
    depth = 100_000
    boxes = b"".join(struct.pack(">I4s", 8 * (depth - i), (b"moov", b"trak")[i % 2]) for i in range(depth))
    return clips["mp4"][:32] + boxes


def deep_mkv(clips: Mapping[str, bytes]) -> bytes:
    content = clips["mkv"]
    segment = content.index(b"\x18\x53\x80\x67")
    return content[:segment] + b"\x18\x53\x80\x67" + _UNKNOWN + b"\x12\x54\xc3\x67" + (b"\x67\xc8" + _UNKNOWN) * 100_000


def deep_avi(clips: Mapping[str, bytes]) -> bytes:
    return clips["avi"][:12] + b"LIST\xff\xff\xff\x7fhdrl" * 100_000


def same_frame_avi(clips: Mapping[str, bytes]) -> bytes:
    """An index of a million entries, all of one frame."""
    content = clips["avi"]
    start = content.rindex(b"idx1")
    entries = content[start + 8 : start + 24] * 1_000_000
    return content[:start] + b"idx1" + struct.pack("<I", len(entries)) + entries


def _gif(side: int, frames: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + bytes(6) + _LOOPS_FOR_EVER
    frame = b"\x21\xf9\x04\0\x01\0\0\0\x2c" + struct.pack("<4H", 0, 0, 1, 1) + b"\0" + _ONE_PIXEL
    return head + frame * frames


def endless_gif(clips: Mapping[str, bytes]) -> bytes:
    """Loops for ever, has 100,000 frames of nine million pixels, and no end."""
    return _gif(3000, 100_000)


def large_gif(clips: Mapping[str, bytes]) -> bytes:
    return _gif(65535, 2)


def _png(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return PNG + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)


def large_png(clips: Mapping[str, bytes]) -> bytes:
    return _png(65535, 65535, zlib.compress(bytes(2**20)))


def dense_png(clips: Mapping[str, bytes]) -> bytes:
    """100 million pixels, as many as may be, in some hundred kilobytes."""
    return _png(10_000, 10_000, zlib.compress(bytes(10_000 * 30_001), 1))


def large_y4m(clips: Mapping[str, bytes]) -> bytes:
    return b"YUV4MPEG2 W65535 H65535 F1000000000:1 Ip C420\nFRAME\n" + bytes(4096)


def fast_mp4(clips: Mapping[str, bytes]) -> bytes:
    """A thousand million frames a second."""
    content = _after(clips["mp4"], b"mdhd", 16, 1_000_000_000)
    return _after(content, b"stts", 16, 1)


def years_mp4(clips: Mapping[str, bytes]) -> bytes:
    """Each frame lasts for sixty-eight years."""
    content = _after(clips["mp4"], b"mdhd", 16, 1)
    return _after(content, b"stts", 16, 2**31 - 1)


def still_mp4(clips: Mapping[str, bytes]) -> bytes:
    """Every frame is shown at once."""
    return _after(clips["mp4"], b"stts", 16, 0)


def backward_mp4(clips: Mapping[str, bytes]) -> bytes:
    return _after(clips["mp4"], b"stts", 16, 2**32 - 512)


def many_samples_mp4(clips: Mapping[str, bytes]) -> bytes:
    """An index of 268 million samples of one byte, in a few bytes."""
    count = 2**28
    content = _after(clips["mp4"], b"stsz", 8, 1, count)
    content = _after(content, b"stts", 8, 1, count, 1)
    return _after(content, b"stsc", 8, 1, 1, count)


CRAFTED: tuple[Callable[[Mapping[str, bytes]], bytes], ...] = (
    many_tracks_mp4, many_tracks_mkv, deep_mp4, deep_mkv, deep_avi, large_gif, large_png, large_y4m, fast_mp4,
    years_mp4, still_mp4, backward_mp4, many_samples_mp4, same_frame_avi, endless_gif, dense_png,
)  # fmt: skip
