"""Sound that starts three seconds before the first picture: every output counts as a player does."""

import csv
import io
import json
import re

import av
import numpy as np
import pytest

SECONDS = 6.0  # of pictures
LABELS = ("--labels", "running,dunking,a dog")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A black half, then a white one, from 3 s on, and sound from 0 on."""
    path = tmp_path_factory.mktemp("first") / "sound first.mp4"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=48000)
        sound.layout = "mono"
        picture = output.add_stream("libx264", rate=10)
        picture.width, picture.height, picture.pix_fmt, picture.gop_size = 64, 48, "yuv420p", 5
        for number in range(int((3 + SECONDS) * 48000 / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 1024 * number
            output.mux(sound.encode(frame))
        for number in range(int(SECONDS * 10)):
            shade = np.full((48, 64, 3), 255 * (number >= SECONDS * 5), np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, "rgb24")
            frame.pts = 30 + number
            output.mux(picture.encode(frame))
        output.mux(sound.encode(None))
        output.mux(picture.encode(None))
    return path


@pytest.fixture(scope="module")
def run(xclip, plain_model):
    """A function: the program with the toy, without an error."""

    def run(*arguments):
        done = xclip(*arguments, "--model", plain_model)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def spans(text):
    return {(float(row["start_seconds"]), float(row["end_seconds"])) for row in csv.DictReader(io.StringIO(text))}


def test_rows_of_the_whole(run, clip):
    assert spans(run("tag", clip, *LABELS)) == {(3.0, 9.0)}
    [video] = json.loads(run("tag", clip, *LABELS, "--format", "json"))
    [segment] = video["segments"]
    assert (segment["start_seconds"], segment["end_seconds"]) == (3.0, 9.0)


def test_segments_and_subtitles(run, clip):
    window = ("--window", 2, "--stride", 1, "--threshold", 0.1, "--exclusive")
    found = spans(run("tag", clip, *LABELS, *window))
    assert min(found)[0] == 3.0 and max(end for _, end in found) == 9.0
    cues = re.findall(r"00:00:(\S+) --> 00:00:(\S+)", run("tag", clip, *LABELS, *window, "--format", "srt"))
    assert cues[0][0] == "03,000" and cues[-1][1] == "09,000"
    assert spans(run("tag", clip, *LABELS, "--window", 2, "--threshold", 1)) == {(3.0, 9.0)}  # unknown


def test_the_report_places_pictures_and_segments(run, clip, tmp_path):
    run("tag", clip, *LABELS, "--report", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert 'data-seconds="9.000"' in page
    assert 'data-pictures="8" data-start="3.000"' in page
    assert 'data-start="3.0" data-end="9.0"' in page


def test_an_index_and_its_searches(run, clip, tmp_path):
    index = ("--index", tmp_path / "index")
    run("index", clip, "--window", 2, "--stride", 1, *index)
    for window in ((), ("--window", 2, "--stride", 1)):
        direct = run("tag", clip, *LABELS, *window)
        assert run("tag", clip, *LABELS, *window, "--from-index", *index) == direct
    found = spans(run("search", "a dog", *index))
    assert min(start for start, _ in found) >= 3.0 and max(end for _, end in found) <= 9.0
    for moment, (first, last) in {"4": (3.0, 6.0), "8": (6.0, 9.0)}.items():
        [row, *_] = csv.DictReader(io.StringIO(run("search", "--like", f"{clip}@{moment}", *index)))
        assert first <= float(row["start_seconds"]) and float(row["end_seconds"]) <= last
        assert float(row["score"]) > 0.999


def test_times_of_a_table_are_those_of_a_player(clip, tmp_path):
    from xclip_cli.video.reader import open_reader, read_clip

    black, white = (
        read_clip(open_reader("auto"), str(clip), 4, 1, start, stop).frames.mean()
        for start, stop in ((0.0, 6.0), (6.0, 9.0))
    )
    assert black < 5 and white > 250


def test_a_clock_that_jumps_is_warned_of_and_answered_at_once(run, xclip, plain_model, tmp_path, shared):
    path = shared / "cases/clock_jump/jump.mkv"
    done = xclip("tag", path, *LABELS, "--window", 4, "--threshold", 0.1, "--exclusive", "--model", plain_model)
    assert done.returncode == 0 and "time stamps jump from 6.000 s to 1566810.000 s" in done.stderr
    found = sorted(spans(done.stdout))
    assert all(end <= 6.001 or start >= 1566809.999 for start, end in found)
    assert (found[0][0], found[-1][1]) == (0.0, 1566822.0)
    index = ("--index", tmp_path / "index")
    run("index", path, "--window", 4, *index)
    assert all(end <= 6.001 or start >= 1566809.999 for start, end in spans(run("search", "a dog", *index)))
