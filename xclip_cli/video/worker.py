"""Decoding in processes of its own: a decoder that hangs or crashes costs one video, and never the run.

A worker runs ``serve`` with a reader. It answers each line of JSON on its standard input with a line of "xclip " and
JSON and, where that says so, the raw bytes of the frames. It leaves when its standard input ends. A request is for a
clip of a video, for its frames at some times or for its shot changes; between the latter two it stays open, from a
request without times to the request ``end``.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, replace

import numpy as np

from xclip_cli.errors import VideoError, XclipError
from xclip_cli.video.display import Resize
from xclip_cli.video.process import (
    ANSWER,
    ENVIRONMENT,
    failure,
    limit_memory,
    not_started,
    read_answer,
    starting,
    take_stdout,
)
from xclip_cli.video.reader import open_reader, read_clip, read_frames
from xclip_cli.video.scenes import shot_changes
from xclip_cli.video.source import shown
from xclip_cli.video.types import Clip, Reader, Video, VideoInfo

_START_SECONDS = 60.0
PATIENCE_SECONDS = 0.5


class Worker:
    """One process, started again whenever it has died."""

    def __init__(self, command: Sequence[str], closed: threading.Event):
        self._command = command
        self._closed = closed
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()  # a pool that is collected kills in any thread
        self._job: object = None

    def ask(self, request: dict, timeout_seconds: float) -> "Clip | tuple[list[float], bool]":
        """The worker's answer: a clip, or shot changes and whether there may be more. Raises VideoError."""
        name = shown(request["path"])
        process = self._running()
        with self._deadline(timeout_seconds) as late:
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                return _receive(process.stdout)
            except XclipError:
                raise
            except Exception as error:  # its pipe broke, or its answer does not fit into memory
                self.kill()
                if late.is_set():
                    reason, hint = f"was not decoded within {timeout_seconds:g} s", "allow more with --decode-timeout"
                else:
                    reason, hint = f"crashed the decoder ({_how_it_ended(process)})", None
                raise VideoError(f"{name} {reason}", hint) from error

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, ready for a video: its imports are done, so that they do not count against the time-out."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.dispose()
        with self._lock:
            if self._closed.is_set():
                raise CancelledError
            with starting("a decoder process"):
                self._process = _start(self._command)
        with self._deadline(_START_SECONDS):
            try:
                _receive(self._process.stdout)
            except EOFError as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(PATIENCE_SECONDS)  # it may be about to end by itself
                self.kill()
                raise not_started("a decoder process", _how_it_ended(self._process)) from error
        return self._process

    @contextlib.contextmanager
    def _deadline(self, seconds: float):
        """Kills the process if the body takes longer; the event says so."""
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), self.kill()))
        timer.daemon = True
        with starting("a thread of the decoder"):
            timer.start()
        try:
            yield late
        finally:
            timer.cancel()
            timer.join()  # it must not kill the process over the next video

    def dispose(self) -> None:
        """Kill the process and close its pipes; only the thread that reads them may."""
        self.kill()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()

    def turn_to(self, job: object) -> None:
        with self._lock:
            self._job = job

    def give_up(self, job: object) -> None:
        """Kill the process if it is at this video."""
        with self._lock:
            if self._job is job:
                self.kill()

    def kill(self) -> None:
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            if os.name == "posix":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A worker with its own process group, whose standard error is seen only under XCLIP_DEBUG."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("XCLIP_DEBUG") else subprocess.DEVNULL,
        env=os.environ | ENVIRONMENT,
        start_new_session=True,
    )


def _receive(stream) -> "Clip | tuple[list[float], bool] | None":
    """The next answer, None for "ready"; raises what the worker reports, EOFError when it is gone."""
    answer = read_answer(stream)
    if answer is None:
        raise EOFError
    if "error" in answer:
        raise (VideoError if answer["of_video"] else XclipError)(answer["error"], answer["hint"])
    if "cuts" in answer:
        return answer["cuts"], answer["more"]
    if "shape" not in answer:
        return None
    frames = np.empty(answer["shape"], np.uint8)
    if frames.size and stream.readinto(memoryview(frames).cast("B")) != frames.nbytes:
        raise EOFError
    times, info = np.array(answer["times_seconds"], np.float64), VideoInfo(**answer["info"])
    info = replace(info, gaps_seconds=tuple(map(tuple, info.gaps_seconds)))
    return Clip(frames, times, info, tuple(answer["warnings"]), answer["reader"], answer["end_seconds"])


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    code = process.poll()
    if code is None or code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def serve(reader: Reader) -> None:
    """Answer requests until standard input ends: the body of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_memory()
    answers = take_stdout()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    _send(answers, {})
    opened = _Opened(reader)
    while True:
        _answer(opened, json.loads(requests.get()), answers)


def _listen(requests: queue.SimpleQueue) -> None:
    """A thread of its own, so that the worker leaves with its parent even in the middle of a video."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


class _Opened:
    """The video that requests for frames and cuts speak of: it stays open until another one is asked for."""

    def __init__(self, reader: Reader):
        self.reader, self._path, self._video, self._cuts = reader, None, None, None

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
        self._path = self._video = self._cuts = None

    def _open(self, path: str) -> Video:
        if path != self._path:
            self.close()
            self._video, self._path = self.reader.open(path), path
        return self._video

    def frames(self, path: str, times_seconds: list[float], resize: Resize | None) -> Clip:
        if not times_seconds:  # the first request for a video: the file may be another one than before
            self.close()
        return read_frames(self._open(path), times_seconds, resize)

    def cuts(self, path: str) -> list[float] | None:
        """Those of the next stretch of the video; None after the last."""
        video = self._open(path)
        self._cuts = self._cuts or shot_changes(video)
        return next(self._cuts, None)


def _answer(opened: _Opened, request: dict, answers) -> None:
    try:
        opened.reader.threads = request.pop("threads")
        if "end" in request:
            opened.close()
            return _send(answers, {})
        if "cuts" in request:
            cuts = opened.cuts(request["path"])
            return _send(answers, {"cuts": cuts or [], "more": cuts is not None})
        clip = _clip(opened, **request)
    except Exception as error:  # whatever a decoder raises costs this video alone
        opened.close()
        return _send(answers, failure(request["path"], error, "decoded"))
    _send(answers, _header(clip), clip.frames)


def _clip(opened: _Opened, path: str, resize: dict | None, **request) -> Clip:
    resize = resize and Resize(**resize)
    if "times_seconds" in request:
        return opened.frames(path, request["times_seconds"], resize)
    opened.close()
    return read_clip(opened.reader, path, resize=resize, **request)


def _header(clip: Clip) -> dict:
    return {
        "shape": clip.frames.shape,
        "times_seconds": clip.times_seconds.tolist(),
        "info": asdict(clip.info),
        "warnings": clip.warnings,
        "reader": clip.reader,
        "end_seconds": clip.end_seconds,
    }


def _send(answers, header: dict, frames: np.ndarray | None = None) -> None:
    answers.write(ANSWER + json.dumps(header).encode() + b"\n")
    if frames is not None and frames.size:
        answers.write(memoryview(frames).cast("B"))
    answers.flush()


def main() -> None:
    """A worker's program: READER."""
    serve(open_reader(sys.argv[1]))
