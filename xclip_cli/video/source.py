"""What a path is, before any decoder sees it: a regular file, a name that no decoder misreads, a video or a picture."""

import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xclip_cli.errors import UsageError, VideoError

# What is searched for in folders. Pictures that may move but seldom do (.png .webp .avif) count where they are named.
VIDEO_SUFFIXES = frozenset(
    """
    .264 .265 .360 .3g2 .3gp .3gp2 .3gpp .amv .apng .asf .avi .dav .dif .divx .dv .dvr-ms .evo .f4v .flc .fli .flv .gif
    .gxf .h264 .h265 .hevc .insv .ismv .ivf .lrf .lrv .m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mod
    .mov .mp4 .mp4v .mpe .mpeg .mpeg4 .mpg .mpv .mqv .mts .mxf .nsv .nut .ogm .ogv .ogx .qt .rm .rmvb .tod .tp .trp .ts
    .vob .vro .webm .wm .wmv .wtv .xvid .y4m
    """.split()  # noqa: SIM905
)

PROTOCOLS = "file,subfile"  # of FFmpeg, as many as ``safe_name`` takes
_HEAD_BYTES = 4096
_JPEG = b"\xff\xd8\xff"
_FILM_WITHIN, _MOST_FILMS = 2**28, 16  # bytes in which a film begins, places that look like one
_MOST_BOXES = 100_000
# Text formats in which FFmpeg follows references to other files and addresses.
_PLAYLIST = re.compile(
    rb"#EXTM3U|ffconcat|<(\w+:)?MPD|<smil|<asx|\[(playlist|reference)\]|^v=0|^m=video |^rtsp://",
    re.IGNORECASE | re.MULTILINE,
)
_WEB_PAGE = re.compile(rb"<!doctype html|<html|<head|<body", re.IGNORECASE)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_video_name(name: str) -> bool:
    """Whether a file in a folder counts as a video: by its suffix, and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def as_paths(values: Iterable) -> list[str]:
    """Paths as text. Raises UsageError where one is none, or where there is no list of them."""
    try:
        return list(map(as_path, iter(values)))
    except TypeError:
        raise _no_path(values) from None


def as_path(value: str | os.PathLike[str]) -> str:
    """A path as text. Raises UsageError for what is none, such as an array of frames."""
    try:
        return str(os.fsdecode(value))
    except TypeError:
        raise _no_path(value) from None


def _no_path(value: object) -> UsageError:
    shape = getattr(value, "shape", None)
    what = type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"
    return UsageError(f"a path was expected, not {what}: videos are read from files", "write frames to a file first")


def shown(path: str) -> str:
    """The file's name in quotes, on one line, for messages."""
    return repr(os.path.basename(path) or path)


def read_head(path: str) -> bytes:
    """The first bytes of a file that may be a video. VideoError where it says itself that it is none.

    The path must lead, through any links, to a regular file that is not empty: a FIFO or a device would block. A
    playlist would make the decoder open other files or addresses.
    """
    _size(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError) as error:
        raise _unopened(path, error) from error
    if not head:
        raise VideoError(f"{shown(path)} is empty (0 bytes)", "copy or download it again")
    if b"\0" not in head:
        _refuse_text(path, head)
    return head


def looks_binary(head: bytes) -> bool:
    """Whether these first bytes are a film's or other data, and no list of names.

    Names may hold any byte but NUL, which separates them; in data, NUL bytes stand side by side, or much is no text.
    """
    odd = sum(byte < 32 and byte not in b"\0\t\n\r" for byte in head)
    return b"\0\0" in head or odd > len(head) // 20


def check_file(path: str) -> None:
    """VideoError where no decoder is needed to see that there is no video: missing, empty, a folder, a URL."""
    if _size(path) == 0:
        read_head(path)  # some file systems know the size only of files that were opened


def _size(path: str) -> int:
    """Of a regular file, in bytes. VideoError."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        if is_url(path):
            raise VideoError(f"{path!r} is a URL: download it first") from error
        raise _unopened(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise VideoError(f"{shown(path)} is a directory, not a video file")
    if not stat.S_ISREG(found.st_mode):
        raise VideoError(f"{shown(path)} is not a regular file (a pipe, a socket or a device)")
    return found.st_size


def is_url(path: str) -> bool:
    return re.match(r"[a-zA-Z][\w+.-]+://", path) is not None


def _unopened(path: str, error: Exception) -> VideoError:
    return VideoError(f"{shown(path)} cannot be opened: {getattr(error, 'strerror', None) or error}")


def _refuse_text(path: str, head: bytes) -> None:
    if _LFS_POINTER in head:
        raise VideoError(f"{shown(path)} is a Git LFS pointer, not the video itself", "get it with: git lfs pull")
    if _PLAYLIST.search(head):
        raise VideoError(f"{shown(path)} is a playlist; only video files themselves are read")
    if _WEB_PAGE.search(head):
        raise VideoError(f"{shown(path)} is a web page, not a video", "download the video itself")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml"):
        raise VideoError(f"{shown(path)} is an XML text, not a video", "download the video itself")


def is_picture(path: str, head: bytes) -> bool:
    """Whether the content, whatever the name says, is a JPEG, PNG, WebP or AVIF, moving or not. VideoError for HEIC.

    A motion photo, a JPEG with a film behind it, is a video.
    """
    if head[4:8] == b"ftyp":
        brands = head[8 : max(16, min(int.from_bytes(head[:4], "big"), 256))]
        if b"avif" in brands or b"avis" in brands:
            return True
        if head[8:12] in _HEIF_BRANDS:
            film = " with a film in it" if _film_behind(path) else ""
            hint = "convert it to JPEG or PNG" + (", or export its film as MP4" if film else "")
            raise VideoError(f"{shown(path)} is a HEIC picture{film}, which is not read", hint)
    if head.startswith(_JPEG):  # a stream of Motion JPEG is nothing but pictures
        return not path.lower().endswith((".mjpeg", ".mjpg")) and not _film_behind(path)
    return head.startswith(b"\x89PNG\r\n") or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def film_offset(path: str) -> int:
    """Where the film of a motion photo begins, in bytes; 0 for any other file."""
    with Path(path).open("rb") as file:
        return _film_behind(path) if file.read(len(_JPEG)) == _JPEG else 0


def _film_behind(path: str) -> int:
    """Where in a picture an MP4 begins; 0 where none does. Phones put it behind the picture, or into a box of it."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = len(_JPEG) + 4
        for _ in range(_MOST_FILMS):
            at = data.find(b"ftyp", at + 1, _FILM_WITHIN)
            if at < 0:
                return 0
            if has_moov(path, at - 4):
                return at - 4
    return 0


def has_moov(path: str, at: int = 0) -> bool:
    """Whether an MP4 that begins ``at`` this byte has its index, the box ``moov``, at its top level."""
    with Path(path).open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        for _ in range(_MOST_BOXES):
            if at + 8 > end:
                break
            file.seek(at)
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if kind == b"moov":
                return True
            length = int.from_bytes(file.read(8), "big") if length == 1 else length or end
            at += max(8, length)
    return False


@contextmanager
def safe_name(path: str) -> Iterator[str]:
    """A name for the same file that FFmpeg takes as a plain file: absolute, no ``%`` pattern, valid UTF-8.

    An absolute path is never an address or option. Other troublesome names are reached through an open file's number.
    Of a motion photo it names the film.
    """
    path = os.path.abspath(path)
    offset = film_offset(path)
    part = f"subfile,,start,{offset},end,{os.stat(path).st_size},,:" if offset else ""
    plain = path.isprintable() and "%" not in path and not any("\ud800" <= c <= "\udfff" for c in path)
    if plain or os.name != "posix":
        yield part + path
        return
    number = os.open(path, os.O_RDONLY)
    try:
        yield f"{part}/dev/fd/{number}"
    finally:
        os.close(number)
