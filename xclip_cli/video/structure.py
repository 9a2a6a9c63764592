"""Whether a file is all there, read off the frame of its container and not off what its header promises."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from xclip_cli.video.source import film_offset
from xclip_cli.video.types import MATROSKA, MP4

_SEGMENT = b"\x18\x53\x80\x67"
_HEAD_BYTES = 4096


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
    head = file.read(_HEAD_BYTES)
    at = head.find(_SEGMENT) + len(_SEGMENT)
    if at < len(_SEGMENT) or at >= len(head) or not head[at]:
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
