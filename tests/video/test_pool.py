"""The pool: how many processes it starts, who shares them, and that they end with it."""

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

from xclip_cli.errors import VideoError, XclipError
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.stream import Windowing

QUICK = """
import os, sys, threading, time
import numpy as np
from xclip_cli.errors import VideoError
from xclip_cli.video.display import Display
from xclip_cli.video.types import Video as Base, VideoInfo
from xclip_cli.video.worker import serve

def no_thread(self):
    raise RuntimeError("can't start new thread")

class Video(Base):
    reader = "quick"
    info = VideoInfo(4, 3, 100.0, 1000, 10.0)
    display = Display("'quick'", 4, 3)
    missing_seconds = 0.0
    def __init__(self):
        pass
    def frame_at(self, time):
        return np.full((3, 4, 3), os.getpid() % 251, np.uint8), time
    def close(self):
        print("closed", flush=True, file=open(os.environ["CLOSED"], "a")) if "CLOSED" in os.environ else None

class Reader:
    def open(self, path):
        name = os.path.basename(path)
        if name == "pid":
            raise VideoError(f"{os.getpid()} {self.threads}")
        if name == "full":
            raise OSError(11, "Resource temporarily unavailable")
        if name == "no threads":
            threading.Thread.start = no_thread
            raise VideoError("no frame")
        if name == "hang":
            time.sleep(600)
        return Video()

serve(Reader())
"""
COMMAND = (sys.executable, "-c", QUICK)


def new_pool(workers=2, **options):
    return DecodePool(workers=workers, _command=COMMAND, **options)


def worker_of(pool):
    """The process that decodes a video now, and with how many threads."""
    with pytest.raises(VideoError) as caught:
        pool.submit("pid", 2).result()
    return tuple(map(int, caught.value.message.split()))


def processes(pool):
    return [w._process.pid for w in pool._shared.workers if w._process is not None]


def alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def wait_until(holds):
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holds()


def test_nothing_is_started_before_a_video_comes():
    threads = threading.active_count()
    with new_pool(workers=8) as pool:
        assert processes(pool) == [] and threading.active_count() == threads


def test_one_video_after_another_has_one_process():
    with new_pool(workers=4) as pool:
        pids = {worker_of(pool)[0] for _ in range(20)}
        assert processes(pool) == list(pids) and len(pids) == 1
        assert len(pool._shared.threads) == 1


def test_many_videos_have_as_many_processes_as_there_are_workers():
    with new_pool(workers=2) as pool:
        futures = [pool.submit("good", 2) for _ in range(9)]
        shades = {int(future.result().frames.max()) for future in futures}
        assert len(processes(pool)) == 2 and shades <= {pid % 251 for pid in processes(pool)}


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_a_single_video_has_the_cores_and_several_share_them(monkeypatch, cores):
    monkeypatch.setattr("xclip_cli.video.pool.num_cores", lambda: cores)
    with new_pool(workers=4) as pool:
        assert worker_of(pool)[1] == min(4, cores)
        for _ in range(3):
            pool.submit("hang", 2)
        assert worker_of(pool)[1] == max(1, cores // 4)


def test_a_pool_that_nobody_has_ends():
    pool = new_pool()
    worker_of(pool)
    [pid], [thread], gone = processes(pool), pool._shared.threads, weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    wait_until(lambda: not alive(pid) and not thread.is_alive())


def test_a_pool_ends_with_the_program():
    program = f"""
import warnings
warnings.simplefilter("error")
from xclip_cli.video.pool import DecodePool
pool = DecodePool(workers=1, _command={COMMAND!r})
pool.submit("good", 2).result()
print(pool._shared.workers[0]._process.pid)
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert not alive(int(done.stdout))


def test_a_session_that_ends_early_gives_up_its_own_videos_alone():
    with new_pool(workers=2, timeout_seconds=60) as pool:
        kept = pool.submit("good", 2)
        with pool.session() as session:
            hanging, waiting = session.submit("hang", 2), [session.submit("hang", 2) for _ in range(3)]
            others = pool.submit("good", 2)
            wait_until(hanging.running)
        for future in (hanging, *waiting):
            with pytest.raises((XclipError, CancelledError)):
                future.result(timeout=10)
        assert kept.result(timeout=10).frames.shape == others.result(timeout=10).frames.shape == (2, 3, 4, 3)


def test_a_stream_that_is_left_frees_its_worker():
    with new_pool(workers=1) as pool:
        with pool.session() as session:
            assert len(next(iter(session.stream("good", Windowing(8, 4.0, 2.0)))).spans)
        assert pool.submit("good", 2).result(timeout=20).frames.shape == (2, 3, 4, 3)


def test_a_stream_leaves_no_file_open(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSED", str(tmp_path / "closed"))
    with new_pool(workers=1) as pool:
        for times in (1, 2):
            assert sum(len(piece.spans) for piece in pool.stream("good", Windowing(8, 4.0, 2.0))) == 49
            wait_until((tmp_path / "closed").exists)
            assert (tmp_path / "closed").read_text() == "closed\n" * times


def test_closing_ends_a_stream_that_another_thread_reads():
    pool = new_pool(workers=1)
    stream = iter(pool.stream("good", Windowing(8, 4.0, 2.0)))
    next(stream)
    pool.close()
    with pytest.raises(CancelledError):
        list(stream)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_leaves_the_processes_alone():
    with new_pool(workers=1) as pool:
        pid, _ = worker_of(pool)
        child = os.fork()
        if child == 0:
            pool.close()
            other, _ = worker_of(pool)
            pool.close()
            os._exit(int(other == pid))
        assert os.waitpid(child, 0)[1] == 0
        assert worker_of(pool)[0] == pid


def no_thread(self):
    raise RuntimeError("can't start new thread")


def no_process(*arguments, **options):
    raise BlockingIOError(11, "Resource temporarily unavailable")


def test_a_thread_that_cannot_be_started_ends_the_run(monkeypatch):
    with new_pool() as pool:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(XclipError, match=r"^a thread of the decoder cannot be started: can't start new") as caught:
            pool.submit("good", 2)
        assert not isinstance(caught.value, VideoError) and "run the same command again" in caught.value.hint
        monkeypatch.undo()
        assert pool.submit("good", 2).result().frames.shape == (2, 3, 4, 3)


def test_a_time_out_without_a_thread_ends_the_run(monkeypatch):
    with new_pool() as pool:
        pool.submit("good", 2).result()
        monkeypatch.setattr(threading.Timer, "start", no_thread)
        with pytest.raises(XclipError, match=r"^a thread of the decoder cannot be started") as caught:
            pool.submit("good", 2).result()
        assert not isinstance(caught.value, VideoError)


def test_a_process_that_cannot_be_started_ends_the_run(monkeypatch):
    resource = pytest.importorskip("resource")
    limits = {resource.RLIMIT_NPROC: 77, resource.RLIMIT_AS: 2**31}
    with new_pool() as pool:
        monkeypatch.setattr(subprocess, "Popen", no_process)
        monkeypatch.setattr(resource, "getrlimit", lambda name: (limits[name], limits[name]))
        with pytest.raises(XclipError) as caught:
            pool.submit("good", 2).result()
    assert caught.value.message == (
        "a decoder process cannot be started: Resource temporarily unavailable (ulimit -u is 77, ulimit -v is 2097152)"
    )
    assert not isinstance(caught.value, VideoError)


@pytest.mark.parametrize("video", ["full", "no threads"])
def test_a_decoder_without_threads_of_its_own_ends_the_run(video):
    with new_pool() as pool, pytest.raises(XclipError, match="Resource temporarily unavailable") as caught:
        pool.submit(video, 2).result()
    assert not isinstance(caught.value, VideoError)
