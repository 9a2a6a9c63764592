"""The pool of workers: whatever a decoder does costs the one video it was at."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from numbered_clips import number_in

from xclip_cli.errors import MissingExtraError, UsageError, VideoError, XclipError
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.reader import open_reader, read_clip

# A reader whose videos do what their names say.
MISBEHAVING = """
import ctypes, os, sys, time
import numpy as np
from xclip_cli.errors import VideoError
from xclip_cli.video.display import Display
from xclip_cli.video.types import Video as Base, VideoInfo
from xclip_cli.video.worker import serve

class Video(Base):
    reader = "misbehaving"
    info = VideoInfo(4, 3, 10.0, 100, 10.0)
    display = Display("'misbehaving'", 4, 3)
    missing_seconds = 0.0
    def __init__(self):
        pass
    def frame_at(self, time):
        return np.full((3, 4, 3), 7, np.uint8), time
    def close(self):
        pass

class Reader:
    def open(self, path):
        name = os.path.basename(path)
        if name == "hang":
            time.sleep(600)
        if name == "slow":
            time.sleep(0.3)
        if name == "segfault":
            ctypes.string_at(0)
        if name == "abort":
            os.abort()
        if name == "exit":
            os._exit(3)
        if name == "raise":
            raise ValueError("two" + chr(10) + "lines")
        if name == "refuse":
            raise VideoError("no", "a hint")
        if name == "memory":
            np.empty(2**43, np.uint8)
        if name == "gluttony":
            held = [np.empty(2**28, np.uint8) for _ in range(100)]
        if name == "chatter":
            os.write(1, b"a decoder's own words" * 9999)
            print("more of them", flush=True)
        if name == "pid":
            raise VideoError(str(os.getpid()))
        return Video()

serve(Reader())
"""
COMMAND = (sys.executable, "-c", MISBEHAVING)


@pytest.fixture
def misbehaving():
    with DecodePool(workers=1, timeout_seconds=30, _command=COMMAND) as pool:
        yield pool


@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_a_clip_is_that_of_the_reader(numbered, tmp_path, reader):
    if reader == "decord":
        pytest.importorskip("decord")
    path = os.fsencode(tmp_path) + b"/new\nline \xff.mp4"
    Path(os.fsdecode(path)).write_bytes(numbered("plain.mp4", 40, "-c:v", "mpeg4", "-q:v", "3").read_bytes())
    with DecodePool(reader, workers=1) as pool:
        clip = pool.submit(os.fsdecode(path), 4, 2, start_seconds=0.4, stop_seconds=1.2).result()
    expected = read_clip(open_reader(reader), os.fsdecode(path), 4, 2, 0.4, 1.2)
    np.testing.assert_array_equal(clip.frames, expected.frames)
    np.testing.assert_array_equal(clip.times_seconds, expected.times_seconds)
    assert (clip.info, clip.warnings) == (expected.info, expected.warnings)
    assert clip.frames.dtype == np.uint8 and clip.times_seconds.dtype == np.float64
    assert number_in(clip.frames[0]) == 11


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segfault", "'segfault' crashed the decoder (SIGSEGV)"),
        ("abort", "'abort' crashed the decoder (SIGABRT)"),
        ("exit", "'exit' crashed the decoder (exit code 3)"),
        ("raise", "'raise' cannot be decoded: ValueError: two lines"),
        ("memory", "'memory' cannot be decoded: there is not enough memory (decoding may take 4 GiB)"),
        pytest.param(
            "gluttony",
            "'gluttony' cannot be decoded: there is not enough memory (decoding may take 4 GiB)",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process takes"),
        ),
        ("refuse", "no"),
    ],
)
def test_a_bad_video_costs_itself_alone(misbehaving, name, message):
    futures = [misbehaving.submit(video, 2) for video in ("good", name, "good")]
    assert [futures[i].result().frames.shape for i in (0, 2)] == [(2, 3, 4, 3)] * 2
    with pytest.raises(VideoError) as caught:
        futures[1].result()
    assert caught.value.message == message


def test_a_hint_comes_through(misbehaving):
    with pytest.raises(VideoError) as caught:
        misbehaving.submit("refuse", 2).result()
    assert caught.value.hint == "a hint"


def test_a_hanging_decoder_is_killed_at_its_time():
    with DecodePool(workers=1, timeout_seconds=0.5, _command=COMMAND) as pool:
        pool.submit("good", 2).result()
        began = time.monotonic()
        futures = [pool.submit(name, 2) for name in ("hang", "slow", "slow")]  # time spent waiting does not count
        with pytest.raises(VideoError, match=r"'hang' was not decoded within 0.5 s"):
            futures[0].result()
        assert 0.5 <= time.monotonic() - began < 10
        assert [future.result().frames.max() for future in futures[1:]] == [7, 7]


def test_what_a_decoder_prints_is_not_taken_for_an_answer(misbehaving, capfd):
    assert misbehaving.submit("chatter", 2).result().frames.max() == 7
    assert capfd.readouterr() == ("", "")


def test_closing_is_quick_and_cancels(misbehaving):
    futures = [misbehaving.submit(name, 2) for name in ("good", "hang", "good", "good")]
    futures[0].result()
    time.sleep(0.1)
    assert futures[3].cancel()
    pid = misbehaving._shared.workers[0]._process.pid
    began = time.monotonic()
    misbehaving.close()
    assert time.monotonic() - began < 10
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result(timeout=1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert misbehaving.submit("good", 2).result().frames.max() == 7  # by a new process
    misbehaving.close()
    misbehaving.close()


def test_a_cancelled_video_is_never_begun(misbehaving):
    slow, cancelled, last = (misbehaving.submit(name, 2) for name in ("slow", "segfault", "pid"))
    assert cancelled.cancel()
    slow.result()
    with pytest.raises(VideoError, match=str(misbehaving._shared.workers[0]._process.pid)):
        last.result()


def test_workers_run_side_by_side():
    with DecodePool(workers=2, timeout_seconds=60, _command=COMMAND) as pool:
        assert pool.capacity == 4
        stuck = pool.submit("hang", 2)
        assert all(pool.submit("good", 2).result().frames.max() == 7 for _ in range(5))
        assert not stuck.done()


def test_a_worker_killed_between_videos_is_replaced(misbehaving):
    misbehaving.submit("good", 2).result()
    os.kill(misbehaving._shared.workers[0]._process.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert misbehaving.submit("good", 2).result().frames.max() == 7


def test_a_worker_that_does_not_start():
    with (
        DecodePool(workers=1, _command=(sys.executable, "-c", "raise SystemExit(5)")) as pool,
        pytest.raises(XclipError, match=r"^a decoder process cannot be started: exit code 5") as caught,
    ):
        pool.submit("good", 2).result()
    assert not isinstance(caught.value, VideoError)  # no video is at fault: the run ends


def test_a_clip_is_let_go_with_its_future(misbehaving):
    import weakref

    clip = misbehaving.submit("good", 2).result()
    gone = weakref.ref(clip)
    del clip
    time.sleep(0.05)
    assert gone() is None


def test_a_worker_leaves_with_its_parent():
    program = f"""
import time
from xclip_cli.video.pool import DecodePool
pool = DecodePool(workers=1, _command={COMMAND!r})
pool.submit("good", 2).result()
pool.submit("hang", 2)
print(pool._shared.workers[0]._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, signal.SIGINT)  # Ctrl-C is the parent's to handle
        time.sleep(0.2)
        os.kill(worker, 0)
        parent.kill()
    for _ in range(50):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").exists() and ") Z " in Path(f"/proc/{worker}/stat").read_text():
            return  # dead, and nobody has collected it
        time.sleep(0.05)
    pytest.fail("the worker outlives its parent")


def test_a_worker_imports_neither_torch_nor_the_users_modules(tmp_path, monkeypatch, numbered):
    (tmp_path / "json.py").write_text("raise SystemExit('a stray module')")
    monkeypatch.chdir(tmp_path)
    clip = numbered("plain.mp4", 40, "-c:v", "mpeg4", "-q:v", "3")
    with DecodePool(workers=1) as pool:
        began = time.perf_counter()
        pool.submit(clip, 2).result()
        print(f"first clip, with the worker's start, after {(time.perf_counter() - began) * 1e3:.0f} ms")
        maps = Path(f"/proc/{pool._shared.workers[0]._process.pid}/maps")
        assert not maps.exists() or "torch" not in maps.read_text()


def test_readers_are_checked_at_once(monkeypatch):
    with pytest.raises(UsageError):
        DecodePool("ffmpeg")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError):
        DecodePool("decord")


@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_every_frame_of_a_real_clip_can_be_asked_for(reader, bikes):
    if reader == "decord":
        pytest.importorskip("decord")
    with DecodePool(reader, workers=1) as pool:
        clip = pool.submit(bikes, 250).result()
    assert len(clip.frames) == 250 and not clip.warnings
    assert (np.diff(clip.times_seconds) > 0).all()
