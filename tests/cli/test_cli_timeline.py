"""`xclip tag --window`: segments as rows, resumed in the middle of a video, cut out as files."""

import csv
import io
import json
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from xclip_cli.cli import cuts, progress
from xclip_cli.errors import VideoError

LABELS = ["--labels", "running,dunking,a dog"]
# The toy model finds "a dog" in about half of the windows, "dunking" in all.
WINDOW = ["--window", "1", "--stride", "0.25", "--threshold", "0.339", "--threshold-low", "0.338", "--min-length", "3"]


def table(data):
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.fixture(scope="module")
def long_video(make_long_clip, tmp_path_factory):
    return make_long_clip(tmp_path_factory.mktemp("long") / "a long one.mp4", 40)


def test_segments_are_rows(tag, long_video, clips):
    done = tag(long_video, clips / "a.mp4", *WINDOW)
    assert done.returncode == 0 and done.stderr == b""
    rows = table(done.stdout)
    first = [row for row in rows if row["video"] == str(long_video)]
    assert len(first) > 3 and {row["rank"] for row in rows} == {"1"} and len({row["label"] for row in first}) > 1
    starts = [(float(row["start_seconds"]), float(row["end_seconds"])) for row in first]
    assert starts == sorted(starts) and starts[0][0] >= 0 and max(end for _, end in starts) <= 100
    assert {row["video"] for row in rows} == {str(long_video), str(clips / "a.mp4")}


def test_killed_in_the_middle_of_a_video_the_run_goes_on_there(tag, toy_model, long_video, tmp_path):
    assert tag(long_video, *WINDOW, "-o", tmp_path / "whole.csv").returncode == 0
    output, windows = tmp_path / "o.csv", tmp_path / "o.csv.journal.windows"
    chance, kept = random.Random(0), []
    command = [
        sys.executable,
        "-m",
        "xclip_cli",
        "tag",
        "--model",
        toy_model,
        *LABELS,
        *WINDOW,
        long_video,
        "-o",
        output,
    ]
    for _ in range(3):
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        goal = (windows.stat().st_size if windows.exists() else 0) + chance.randrange(1, 2000)
        while run.poll() is None and (not windows.exists() or windows.stat().st_size < goal):
            time.sleep(0.002)
        run.kill()
        run.wait()
        lines = [json.loads(line)["windows"]["first"] for line in windows.read_bytes().splitlines()[:-1]]
        kept.append(max(lines, default=0))
    assert kept == sorted(kept) and kept[-1] > kept[0]
    assert tag(long_video, *WINDOW, "-o", output).returncode == 0
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["o.csv", "o.csv.journal", "whole.csv", "whole.csv.journal"]


def test_segments_become_files(tag, long_video, tmp_path):
    av = pytest.importorskip("av")
    folder = tmp_path / "cuts"
    done = tag(long_video, *WINDOW, "--cut", folder)
    assert done.returncode == 0 and b"segments cut: " in done.stderr
    rows = table(done.stdout)
    names = sorted(os.listdir(folder))
    assert len(names) == len(rows) and all(name.startswith("a-long-one__") for name in names)
    row = rows[-1]
    start = float(row["start_seconds"])
    stamp = f"{start // 3600:02.0f}-{start % 3600 // 60:02.0f}-{start % 60:06.3f}"
    label = row["label"].replace(" ", "-")
    with av.open(str(folder / f"a-long-one__{label}__{stamp}.mp4")) as file:
        length = sum(1 for _ in file.decode(video=0)) / 8
    assert length == pytest.approx(float(row["end_seconds"]) - start, abs=0.7)


@pytest.mark.parametrize(
    "arguments",
    [["--cut", "x"], ["--stride", "2"], ["--window", "0"], ["--window", "soon"], ["--exclusive"],
     ["--window", "4", "--num-clips", "2"], ["--window", "4", "--smooth", "4"],
     ["--window", "4", "--threshold", "0.5", "--threshold-low", "0.9"]],
)  # fmt: skip
def test_a_wrong_option_is_one_line(tag, clips, arguments):
    done = tag(clips, *arguments)
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr.startswith(b"error:") and b"Traceback" not in done.stderr


def test_the_bar_of_cutting_counts_seconds_of_video(tmp_path, monkeypatch):
    heard = []

    @contextmanager
    def bar(title, total, hidden, unit):
        heard.append((title, total))
        yield lambda done, failed=0: heard.append((done, failed))

    def cut(video, start, end, target, timeout, on_progress):
        on_progress((end - start) / 2, end - start)
        if video == "broken.mp4":
            raise VideoError("it is broken")
        return "copied"

    monkeypatch.setattr(progress, "bar", bar)
    monkeypatch.setattr("xclip_cli.outputs.cut.cut", cut)
    parts = [
        cuts.Part("a.mp4", 0.0, 4.0, "x"),
        cuts.Part("broken.mp4", 2.0, 4.0, "x"),
        cuts.Part("a.mp4", 6.0, 8.0, "x"),
    ]
    assert cuts.write(parts, [], tmp_path, 60, quiet=True) == 1
    assert heard == [("seconds cut", 8), (2, 0), (4, 0), (5, 0), (6, 1), (7, 1), (8, 1)]
