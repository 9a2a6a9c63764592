"""What a path is, before any decoder sees it: a regular file, no playlist, a name that no decoder misreads."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xclip_cli.errors import VideoError

MAX_FRAME_PIXELS = 100_000_000
MAX_CLIP_BYTES = 4 * 2**30

# What is searched for in folders. Pictures that may move but seldom do (.png .webp .avif) count where they are named.
VIDEO_SUFFIXES = frozenset(
    """
    .264 .265 .360 .3g2 .3gp .3gp2 .3gpp .amv .apng .asf .avi .dav .dif .divx .dv .dvr-ms .evo .f4v .flc .fli .flv .gif
    .gxf .h264 .h265 .hevc .insv .ismv .ivf .lrf .lrv .m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mod
    .mov .mp4 .mp4v .mpe .mpeg .mpeg4 .mpg .mpv .mqv .mts .mxf .nsv .nut .ogm .ogv .ogx .qt .rm .rmvb .tod .tp .trp .ts
    .vob .vro .webm .wm .wmv .wtv .xvid .y4m
    """.split()  # noqa: SIM905
)

_HEAD_BYTES = 64
# Text formats in which FFmpeg follows references to other files and addresses.
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"<SMIL", b"v=0", b"[playlist]")


def is_video_name(name: str) -> bool:
    """Whether a file in a folder counts as a video: by its suffix, and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def shown(path: str) -> str:
    """The file's name in quotes, on one line, for messages."""
    return repr(os.path.basename(path) or path)


def is_still_image(path: str) -> bool:
    """Whether the content, whatever the name says, is a JPEG, PNG or WebP. VideoError where there is nothing to read.

    Checks first that the path leads, through any links, to a regular file that is not empty and no playlist: a FIFO
    or a device would block, and a playlist would make the decoder open other files or addresses.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise VideoError(f"{shown(path)} is a directory, not a video file")
        if not stat.S_ISREG(mode):
            raise VideoError(f"{shown(path)} is not a regular file (a pipe, a socket or a device)")
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError) as error:
        raise VideoError(f"{shown(path)} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not head:
        raise VideoError(f"{shown(path)} is empty (0 bytes)")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_PLAYLISTS):
        raise VideoError(f"{shown(path)} is a playlist; only video files themselves are read")
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def check_size(path: str, width: int, height: int, num_frames: int = 1) -> None:
    """VideoError where frames of this size would need an absurd amount of memory; called before they are allocated."""
    if width * height > MAX_FRAME_PIXELS:
        raise VideoError(f"{shown(path)} has frames of {width}x{height}; at most {MAX_FRAME_PIXELS} pixels are read")
    if (total := width * height * 3 * num_frames) > MAX_CLIP_BYTES:
        raise VideoError(
            f"{shown(path)}: {num_frames} frames of {width}x{height} take {total} bytes; at most {MAX_CLIP_BYTES}",
            "ask for fewer frames or clips",
        )


@contextmanager
def safe_name(path: str) -> Iterator[str]:
    """A name for the same file that FFmpeg takes as a plain file: absolute, no ``%`` pattern, valid UTF-8.

    An absolute path is never an address or option. Other troublesome names are reached through an open file's number.
    """
    path = os.path.abspath(path)
    plain = path.isprintable() and "%" not in path and not any("\ud800" <= c <= "\udfff" for c in path)
    if plain or os.name != "posix":
        yield path
        return
    number = os.open(path, os.O_RDONLY)
    try:
        yield f"/dev/fd/{number}"
    finally:
        os.close(number)
