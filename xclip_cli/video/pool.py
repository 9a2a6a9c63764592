"""The decoder processes of one owner: started when needed, shared by threads, ended with it."""

import os
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial

from xclip_cli.settings import num_cores
from xclip_cli.video.display import Resize
from xclip_cli.video.process import program, starting
from xclip_cli.video.reader import check_reader
from xclip_cli.video.stream import Stream, Windowing, pieces
from xclip_cli.video.types import Clip
from xclip_cli.video.worker import PATIENCE_SECONDS, Worker

_MAX_THREADS = 4


@dataclass(frozen=True)
class _Shared:
    """What the pool and its threads have in common. The threads do not refer to the pool: it can be collected."""

    max_workers: int
    jobs: "queue.SimpleQueue[_ClipJob | Stream | None]" = field(default_factory=queue.SimpleQueue)
    closed: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)  # a collected pool is closed in any thread
    unfinished: set = field(default_factory=set)  # the jobs that wait or are decoded
    workers: "list[Worker]" = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def threads_per_video(self) -> int:
        busy = max(1, min(len(self.unfinished), self.max_workers))
        return max(1, min(_MAX_THREADS, num_cores() // busy))


class DecodePool(AbstractContextManager):
    """Clips of many videos, decoded by up to ``workers`` processes that can be killed.

    A process is started when a video finds no idle one, and used again. All of them end with ``close``, with the pool
    itself or with the program; ``timeout_seconds`` counts from when one gets a video. A clip stays in memory as long as
    its future is held: a caller bounds the memory by holding at most ``capacity`` futures, which keeps every worker
    busy. Threads can share a pool; a caller that may stop early takes a ``session``. The pool is a context manager.
    Raises as ``check_reader`` does; a future raises XclipError where a process or a thread cannot be started.
    """

    def __init__(
        self,
        reader: str = "auto",
        workers: int = 2,
        timeout_seconds: float = 60.0,
        *,
        _command: Sequence[str] | None = None,
    ):
        check_reader(reader)
        self.capacity = 2 * workers
        self._command = _command or program("from xclip_cli.video.worker import main; main()", reader)
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._begin(workers)

    def _begin(self, workers: int) -> None:
        self._shared, self._pid = _Shared(workers), os.getpid()
        self._finalizer = weakref.finalize(self, _close, self._shared, self._pid)

    def session(self) -> "Session":
        """The pool for one caller, a context manager: what is not decoded when it ends is given up."""
        return Session(self)

    def submit(
        self,
        path: str | os.PathLike[str],
        num_frames: int,
        num_clips: int = 1,
        start_seconds: float | None = None,
        stop_seconds: float | None = None,
        resize: Resize | None = None,
    ) -> Future[Clip]:
        """The future clip, as ``read_clip`` gives it; its result raises VideoError. Videos are begun in order.

        With ``resize`` the worker shrinks the frames, and only what is wanted of them takes room here.
        """
        request = {
            "path": os.path.abspath(os.fspath(path)),
            "num_frames": num_frames,
            "num_clips": num_clips,
            "start_seconds": start_seconds,
            "stop_seconds": stop_seconds,
            "resize": resize and asdict(resize),
        }
        job = _ClipJob(request)
        self._put(job)
        return job

    def stream(
        self, path: str | os.PathLike[str], how: Windowing, resize: Resize | None = None, first_window: int = 0
    ) -> Stream:
        """The pieces of a video, as ``stream.pieces`` gives them, begun in order as clips are.

        One worker decodes it, a little ahead of whoever iterates; the time-out counts for each piece.
        """
        request = {"path": os.path.abspath(os.fspath(path)), "how": how, "resize": resize, "first_window": first_window}
        stream = Stream(partial(pieces, **request))
        self._put(stream)
        return stream

    def _put(self, job: "_ClipJob | Stream") -> None:
        with self._lock:
            if self._shared.closed.is_set() or os.getpid() != self._pid:  # closed, or this process was forked
                self._begin(self._shared.max_workers)
            shared = self._shared
            with shared.lock:
                if len(shared.workers) <= len(shared.unfinished) and len(shared.workers) < shared.max_workers:
                    self._start_worker()
                shared.unfinished.add(job)
                shared.jobs.put(job)

    def _start_worker(self) -> None:
        worker = Worker(self._command, self._shared.closed)
        thread = threading.Thread(target=_serve, args=(worker, self._shared, self._timeout), daemon=True)
        with starting("a thread of the decoder"):
            thread.start()
        self._shared.workers.append(worker)
        self._shared.threads.append(thread)

    def give_up(self, job: "_ClipJob | Stream") -> None:
        """Cancel a video that waits, kill the process that decodes it; one that is decoded is left alone."""
        job.cancel()
        for worker in tuple(self._shared.workers):
            worker.give_up(job)

    def close(self) -> None:
        """Kill the workers at once. Clips not yet decoded raise CancelledError; a later video starts new workers."""
        with self._lock:
            self._finalizer()

    def __exit__(self, *_) -> None:
        self.close()


class Session(AbstractContextManager):
    """A pool as one caller uses it; see ``DecodePool.session``."""

    def __init__(self, pool: DecodePool):
        self._pool, self.capacity = pool, pool.capacity
        self._jobs: weakref.WeakSet[_ClipJob | Stream] = weakref.WeakSet()

    def submit(self, *arguments, **options) -> Future[Clip]:
        job = self._pool.submit(*arguments, **options)
        self._jobs.add(job)
        return job

    def stream(self, *arguments, **options) -> Stream:
        job = self._pool.stream(*arguments, **options)
        self._jobs.add(job)
        return job

    def __exit__(self, *_) -> None:
        for job in tuple(self._jobs):
            self._pool.give_up(job)


def _close(shared: _Shared, pid: int) -> None:
    if os.getpid() != pid:  # the processes are those of the parent of this one
        return
    with shared.lock:
        shared.closed.set()
        for job in shared.unfinished:
            job.cancel()
    for worker in shared.workers:
        worker.kill()
        shared.jobs.put(None)
    for thread in shared.threads:
        if thread is not threading.current_thread():
            thread.join(PATIENCE_SECONDS)


def _serve(worker: "Worker", shared: _Shared, timeout_seconds: float) -> None:
    """The body of a thread: one worker's videos, until the pool is closed."""
    while (job := shared.jobs.get()) is not None:
        worker.turn_to(job)
        try:
            finish = job.run(
                lambda request: worker.ask(request | {"threads": shared.threads_per_video}, timeout_seconds)
            )
        except BaseException as error:  # the thread must outlive whatever a video brings about
            finish = partial(job.fail, CancelledError() if shared.closed.is_set() else error)
        worker.turn_to(None)
        with shared.lock:
            shared.unfinished.discard(job)  # before the outcome is seen: the next video finds this worker idle
        finish()
        del job, finish  # this thread waits for the next video and must not hold the last one's frames
    worker.dispose()


class _ClipJob(Future):
    def __init__(self, request: dict):
        super().__init__()
        self._request = request

    fail = Future.set_exception

    def run(self, ask: Callable[[dict], Clip]) -> Callable[[], None]:
        """Decode it; the call that comes back gives the clip to whoever waits."""
        if not self.set_running_or_notify_cancel():
            return lambda: None
        return partial(self.set_result, ask(self._request))
