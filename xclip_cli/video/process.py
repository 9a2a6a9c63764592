"""A process in which files are decoded: how it is started, how much memory it may take, and how it says what failed."""

import sys
from pathlib import Path

from xclip_cli.errors import XclipError
from xclip_cli.video.source import shown

MAX_BYTES = 4 * 2**30  # twice what a video of 8192 x 4320 pixels and 10 bits takes
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_READ_ATTEMPTS": str(2**30),  # packets of other streams between two frames are no damage
    "OPENCV_IO_MAX_IMAGE_PIXELS": "100000000",
    "DECORD_EOF_RETRY_MAX": "2048",  # it also counts while the first frame is waited for: 128 were too few
}
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


def program(code: str, *arguments: str) -> list[str]:
    """The command that runs this code in a process of its own, with ``arguments`` in ``sys.argv[1:]``.

    The user's folder is not on its path, and the package's comes last, so that no stray module stands for another.
    """
    path = "import sys; sys.path[:] = [p for p in sys.path if p not in ('', '.')]"
    return [sys.executable, "-c", f"{path} + [{_PACKAGE_PARENT!r}]\n{code}", *arguments]


def limit_memory() -> None:
    """Lets a process that only decodes have ``MAX_BYTES`` of its own, or what the user allows if that is less.

    What a file makes a decoder ask for beyond that is refused, as by a full machine. Linux alone counts so. An encoder
    may need more: it holds dozens of pictures.
    """
    if sys.platform != "linux":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = [limit for limit in (soft, hard, MAX_BYTES) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed), hard))


def failure(path: str, error: Exception, done: str) -> dict[str, str | None]:
    """The message and the hint of what hostile bytes brought about while a file was ``done``, for an answer in JSON."""
    if isinstance(error, XclipError):
        return {"error": error.message, "hint": error.hint}
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, MemoryError):
        reason = f"there is not enough memory (decoding may take {MAX_BYTES / 2**30:g} GiB)"
    return {"error": f"{shown(path)} cannot be {done}: {reason}", "hint": None}
