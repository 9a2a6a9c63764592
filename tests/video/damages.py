"""Ways to damage a video file, by chance and repeatable: its bytes, whole stretches, and the numbers in its headers.

Each takes the content and a generator of chance, and gives the damaged content.
"""

import re
import zlib
from collections.abc import Callable
from functools import cache, partial

import numpy as np

PNG = b"\x89PNG\r\n\x1a\n"
_HEAD = 4096
_MOST_PLACES = 500  # of one kind of field in one file


def flip(content: bytes, rng: np.random.Generator, within: int | None = None, count: int = 200) -> bytes:
    damaged = np.frombuffer(content, np.uint8).copy()
    damaged[rng.integers(0, min(within or len(content), len(content)), count)] ^= rng.integers(1, 256, count, np.uint8)
    return damaged.tobytes()


def flip_bit(content: bytes, rng: np.random.Generator) -> bytes:
    """A few single bits, most of them in the head, where files keep what they say of themselves."""
    damaged = np.frombuffer(content, np.uint8).copy()
    for within in (_HEAD, _HEAD, len(content)):
        damaged[rng.integers(0, min(within, len(content)))] ^= np.uint8(1 << rng.integers(0, 8))
    return damaged.tobytes()


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(1, len(content))]


def cut_head(content: bytes, rng: np.random.Generator) -> bytes:
    return content[rng.integers(1, len(content)) :]


def zero(content: bytes, rng: np.random.Generator) -> bytes:
    start, length = int(rng.integers(0, len(content))), len(content) // 5
    return content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]


def repeat(content: bytes, rng: np.random.Generator) -> bytes:
    """A stretch comes again and again."""
    start, stop = sorted(rng.integers(0, len(content), 2).tolist())
    return content[:stop] + content[start:stop] * int(rng.integers(1, 4)) + content[stop:]


def shuffle(content: bytes, rng: np.random.Generator) -> bytes:
    """Eight stretches in another order, behind a head that stays."""
    size = max(1, (len(content) - _HEAD) // 8)
    parts = [content[_HEAD + i * size : _HEAD + (i + 1) * size] for i in range(8)]
    return content[:_HEAD] + b"".join(parts[i] for i in rng.permutation(8))


def splice(content: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """The head of one file and the tail of another."""
    return content[: rng.integers(1, len(content))] + other[rng.integers(0, len(other)) :]


# Where containers keep a number: what stands before it, how many bytes after that begins the number, and its bytes.
_FIELDS: dict[str, tuple[tuple[bytes, int, int], ...]] = {
    "length": (
        (rb"ftyp|moov|trak|edts|elst|mdia|minf|stbl|stsd|avc1|avcC|mdat|moof|traf|trun", -4, 4),
        (rb"stts|stsz|stco|stsc|ctts", -4, 4),
        (rb"RIFF|LIST|avih|strh|strf|idx1|movi|VP8X|ANIM|ANMF|VP8 ", 4, 4),
        (rb"\x1a\x45\xdf\xa3|\x18\x53\x80\x67|\x1f\x43\xb6\x75", 4, 8),
        (rb"\x15\x49\xa9\x66|\x16\x54\xae\x6b|\x1c\x53\xbb\x6b", 4, 8),
        (rb"\xae|\xe0|\xa3[\x40-\x7f].\x81", 1, 1),
        (rb"IHDR|IDAT|acTL|fcTL|fdAT", -4, 4),
        (rb"OggS", 26, 1),
        (rb"\0\0\x01[\xe0\xbd]", 4, 2),
        (rb"\x09...\0..\0\0\0\0", 1, 3),
        (rb"[\xa1\x91\x36]\xdc\xab\x8c|\x91\x07\xdc\xb7|\x36\x26\xb2\x75", 16, 8),
        (rb"\x06\x0e\x2b\x34................", 16, 4),
    ),
    "count": (
        (rb"stts|stsc|stco|ctts|elst|stss|trun|stsd|dref", 8, 4),
        (rb"stsz", 12, 4),
        (rb"avih", 24, 4),
        (rb"avih", 32, 4),
        (rb"acTL", 4, 4),
        (rb"\xa1\xdc\xab\x8c", 56, 8),
        (rb"\x36\x26\xb2\x75", 40, 8),
        (rb"DKIF", 24, 4),
        (rb"NETSCAPE2\.0", 13, 2),
    ),
    "size": (
        (rb"tkhd", 80, 8),
        (rb"avc1|mp4v|hvc1|hev1", 28, 4),
        (rb"avih", 40, 8),
        (rb"strf", 12, 8),
        (rb"\xb0\x82..\xba", 2, 2),
        (rb"\xba\x82", 2, 2),
        (rb"\0\0\x01\xb3", 4, 3),
        (rb"width\0", 6, 8),
        (rb"height\0", 7, 8),
        (rb"\x80theora", 10, 10),
        (rb"GIF8", 6, 4),
        (rb"\0\x2c", 6, 4),
        (rb"IHDR", 4, 8),
        (rb"fcTL", 8, 16),
        (rb"VP8X", 12, 6),
        (rb"ANMF", 14, 6),
        (rb"\x9d\x01\x2a", 3, 4),
        (rb"DKIF", 12, 4),
        (rb"\xff[\xc0\xc2]\0\x11\x08", 5, 4),
        (rb"\x91\x07\xdc\xb7.{74}", 78, 8),
        (rb"\x91\x07\xdc\xb7.{74}", 93, 8),
    ),
    "rate": (
        (rb"mvhd|mdhd", 16, 4),
        (rb"stts", 16, 4),
        (rb"avih", 8, 4),
        (rb"strh", 28, 8),
        (rb"\x23\xe3\x83\x84", 4, 4),
        (rb"\x2a\xd7\xb1\x83", 4, 3),
        (rb"\0\0\x01\xb3", 7, 1),
        (rb"framerate\0", 10, 8),
        (rb"\x80theora", 22, 8),
        (rb"\x21\xf9\x04", 4, 2),
        (rb"fcTL", 24, 4),
        (rb"ANMF", 20, 3),
        (rb"DKIF", 16, 8),
    ),
    "duration": (
        (rb"mvhd|mdhd", 20, 4),
        (rb"tkhd", 24, 4),
        (rb"elst", 12, 4),
        (rb"avih", 24, 4),
        (rb"strh", 40, 4),
        (rb"\x44\x89\x88", 3, 8),
        (rb"duration\0", 9, 8),
        (rb"\xa1\xdc\xab\x8c", 64, 8),
    ),
    "stamp": (
        (rb"elst", 16, 4),
        (rb"ctts", 16, 4),
        (rb"tfdt", 8, 8),
        (rb"strh", 36, 4),
        (rb"\xe7\x81", 2, 1),
        (rb"\xe7\x82", 2, 2),
        (rb"\xa3[\x40-\x7f].\x81", 4, 2),
        (rb"\0\0\x01\xe0..[\x80-\x8f][\x40-\xff]", 9, 5),
        (rb"\0\0\x01\xba", 4, 6),
        (rb"G..[\x30-\x3f].[\x10-\x1f\x50-\x5f]", 6, 6),
        (rb"\x09......\0\0\0\0", 4, 4),
        (rb"OggS", 6, 8),
        (rb"\xa1\xdc\xab\x8c", 80, 8),
    ),
}  # fmt: skip
_MARKS = {
    kind: [(re.compile(mark, re.DOTALL), after, width) for mark, after, width in fields]
    for kind, fields in _FIELDS.items()
}


@cache
def _places(content: bytes, kind: str) -> list[list[tuple[int, int]]]:
    """Where numbers of this kind stand, first byte and width, for each field that the file has."""
    found = []
    for mark, after, width in _MARKS[kind]:
        starts = (match.start() + after for match in mark.finditer(content))
        places = [(start, width) for start in starts if 0 <= start <= len(content) - width]
        found += [places[:_MOST_PLACES]] if places else []
    return found


def edit(content: bytes, rng: np.random.Generator, kind: str) -> bytes:
    """One to three numbers of a kind become what no file should say; where the file has none, its head is damaged."""
    fields = _places(content, kind)
    if not fields:
        return flip(content, rng, _HEAD, 8)
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        places = fields[rng.integers(0, len(fields))]
        start, width = places[rng.integers(0, len(places))]
        damaged[start : start + width] = _absurd(width, rng)
    return _with_checksums(bytes(damaged))


def _absurd(width: int, rng: np.random.Generator) -> bytes:
    """Nothing, one, the largest, the most negative, infinity or anything, of numbers in either byte order."""
    zeros = bytes(width - 1)
    values = (
        zeros + b"\0",
        zeros + b"\x01",
        b"\xff" * width,
        b"\x7f" + b"\xff" * (width - 1),
        b"\x80" + zeros,
        (b"\x7f\xf0" + bytes(width))[:width],
        (b"\x41\xcd\xcd\x65" + bytes(width))[:width],  # 1e9, of doubles
        rng.bytes(width),
    )
    value = values[rng.integers(0, len(values))]
    return value[::-1] if rng.integers(0, 2) else value


def _with_checksums(content: bytes) -> bytes:
    """A PNG with checksums that are right again: else nobody reads on."""
    if not content.startswith(PNG):
        return content
    at, mended = len(PNG), bytearray(content)
    while at + 12 <= len(mended):
        end = at + 8 + int.from_bytes(mended[at : at + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flip": flip,
    "flip_head": partial(flip, within=_HEAD, count=40),
    "flip_bit": flip_bit,
    "cut": cut,
    "cut_head": cut_head,
    "zero": zero,
    "repeat": repeat,
    "shuffle": shuffle,
    **{kind: partial(edit, kind=kind) for kind in _FIELDS},
}
