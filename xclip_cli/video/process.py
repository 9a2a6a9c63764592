"""A process in which files are decoded: how it is started and followed, how much memory it may take, what failed."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xclip_cli.errors import VideoError, XclipError
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
ANSWER = b"xclip "  # begins every line of a process to its parent; JSON follows
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


def program(code: str, *arguments: str) -> list[str]:
    """The command that runs this code in a process of its own, with ``arguments`` in ``sys.argv[1:]``.

    The user's folder is not on its path, and the package's comes last, so that no stray module stands for another.
    """
    path = "import sys; sys.path[:] = [p for p in sys.path if p not in ('', '.')]"
    return [sys.executable, "-c", f"{path} + [{_PACKAGE_PARENT!r}]\n{code}", *arguments]


def follow(
    command: list[str],
    name: str,
    done: str,
    patience_seconds: float,
    on_progress: Callable[[float, float], None],
    stdin: IO | None = None,
) -> Any:
    """Run a program that uses ``report_to_parent`` and return its result.

    ``on_progress(seconds, total)`` is called with each report. The program is killed if it reports nothing for
    ``patience_seconds``. ``name`` and ``done`` ("cut") are for messages. Raises VideoError.
    """
    late = threading.Event()
    with starting("a decoder process"):
        process = subprocess.Popen(
            command,
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,
        )
    try:
        while True:
            timer = threading.Timer(patience_seconds, lambda: (late.set(), process.kill()))
            with starting("a thread of the decoder"):
                timer.start()
            answer = read_answer(process.stdout) or {}
            timer.cancel()
            if "result" in answer:
                return answer["result"]
            if "seconds" not in answer:
                how = f"made no progress for {patience_seconds:g} s" if late.is_set() else "crashed the decoder"
                raise (VideoError if answer.get("of_video", True) else XclipError)(
                    answer.get("error", f"{name} {how} while it was {done}"), answer.get("hint")
                )
            on_progress(answer["seconds"], answer["total"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def take_stdout() -> IO[bytes]:
    """Standard output, for answers alone: what a library prints from now on goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(b"\n")  # ends a line that was printed before
    return answers


def read_answer(stream: IO[bytes]) -> dict | None:
    """The next answer; what else was printed, by sitecustomize for example, is passed over. None at the end."""
    for line in iter(stream.readline, b""):
        if line.startswith(ANSWER) and line.endswith(b"\n"):
            return json.loads(line.removeprefix(ANSWER))
    return None


def report_to_parent(path: str, done: str, work: Callable[[Callable[[float, float], None]], Any]) -> None:
    """Run ``work(on_progress)`` and print what ``follow`` reads: progress, then the result or what failed."""
    answers = take_stdout()

    def say(**answer) -> None:
        answers.write(ANSWER + json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        say(result=work(lambda seconds, total: say(seconds=seconds, total=total)))
    except Exception as error:
        say(**failure(path, error, done))


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


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Raise XclipError, which ends the run, where the body cannot start a process or a thread."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise not_started(what, getattr(error, "strerror", None) or str(error)) from error


def not_started(what: str, reason: str) -> XclipError:
    """The error that says so and names the limits of the user, where there are any."""
    limits = ", ".join(f"ulimit {option} is {limit}" for option, limit in _limits())
    return XclipError(
        f"{what} cannot be started: {reason}{limits and f' ({limits})'}",
        "raise the limit, end other programs or take fewer --workers, then run the same command again",
    )


def _limits() -> list[tuple[str, str]]:
    """Of processes and of memory, as the shell's ulimit names and counts them."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    units = (("-u", "RLIMIT_NPROC", 1), ("-v", "RLIMIT_AS", 1024))
    soft = ((option, resource.getrlimit(getattr(resource, name))[0], unit) for option, name, unit in units)
    return [(option, str(limit // unit)) for option, limit, unit in soft if limit != resource.RLIM_INFINITY]


def _can_start_threads(count: int = 8) -> bool:
    """Return False where the limit of threads is reached: decoders then fail in ways that do not say why."""
    done, usual = threading.Event(), threading.stack_size(2**16)  # small: a file that took the memory is no limit
    try:
        for _ in range(count):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError:
        return False
    finally:
        done.set()
        threading.stack_size(usual)
    return True


def failure(path: str, error: Exception, done: str) -> dict[str, str | bool | None]:
    """What was raised while a file was ``done``, for an answer in JSON: message, hint, whether the file is at fault."""
    if not isinstance(error, MemoryError) and (getattr(error, "errno", 0) == errno.EAGAIN or not _can_start_threads()):
        full = not_started("a thread of the decoder", os.strerror(errno.EAGAIN))
        return {"error": full.message, "hint": full.hint, "of_video": False}
    if isinstance(error, XclipError):
        return {"error": error.message, "hint": error.hint, "of_video": type(error) is not XclipError}
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, MemoryError):
        reason = f"there is not enough memory (decoding may take {MAX_BYTES / 2**30:g} GiB)"
    return {"error": f"{shown(path)} cannot be {done}: {reason}", "hint": None, "of_video": True}
