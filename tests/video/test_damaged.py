"""Damaged clips, and files made to do harm: each a clip or one line of what is wrong, and the pool lives on."""

import csv
import io
from collections import Counter

import fuzz
import pytest

from xclip_cli.files import one_line
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.process import MAX_BYTES

READERS = {"auto": 2000, "pyav": 400, "opencv": 400, "decord": 400}
QUICK = ("mp4", "mkv", "avi", "ts", "mpg", "flv", "wmv", "gif", "png", "webp")  # containers


@pytest.fixture(scope="module")
def whole(bikes):
    return fuzz.whole_clips(bikes, QUICK)


@pytest.fixture(scope="module")
def all_containers(bikes):
    return fuzz.whole_clips(bikes)


def check(outcomes, most_seconds):
    print(*fuzz.summary(outcomes), sep="\n")
    assert [outcome for outcome in outcomes if outcome.kind in ("wrong", "crash", "memory")] == []
    assert max(outcome.seconds for outcome in outcomes) < most_seconds + 5
    assert max(outcome.peak for outcome in outcomes) < MAX_BYTES, max(outcomes, key=lambda outcome: outcome.peak)


def mutants(clips, numbers):
    return (fuzz.mutant(number, 0, clips) for number in numbers)


@pytest.mark.parametrize(("reader", "count"), [("auto", 120), ("opencv", 30), ("pyav", 30), ("decord", 30)])
def test_damage_costs_one_video(reader, count, whole, tmp_path):
    if reader == "decord":
        pytest.importorskip("decord")
    outcomes = fuzz.decode_all(mutants(whole, range(count)), reader, tmp_path, seconds=20)
    check([outcome for outcome in outcomes if reader != "decord" or outcome.kind != "crash"], 20)
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert len(outcomes) == count and kinds["clip"] and kinds["error"]


def test_what_is_made_to_do_harm_costs_its_time_and_no_more(whole, tmp_path):
    quick = ((name, content) for name, content in fuzz.crafted(whole) if name != "dense.png")
    outcomes = fuzz.decode_all(quick, "auto", tmp_path, seconds=2)
    check(outcomes, 2)
    by_name = {outcome.name: outcome for outcome in outcomes}
    assert by_name["endless.gif"].kind in ("time-out", "clip")
    assert {by_name[f"large.{suffix}"].kind for suffix in ("gif", "png", "y4m")} == {"error"}


def test_every_damaged_video_is_one_row_of_the_program(xclip, toy_model, whole, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, content in mutants(whole, range(0, 200, 8)):
        (folder / name).write_bytes(content)
    videos = sorted(folder.iterdir())
    done = xclip("tag", *videos, "--labels", "a dog,a cat", "--top-k", "1", "-m", toy_model, "--workers", "2")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert sorted(row["video"] for row in rows) == [str(video) for video in videos]
    assert {row["status"] for row in rows} == {"ok", "error"} and done.returncode == 1
    assert all((row["status"] == "ok") == bool(row["score"]) != bool(row["error"]) for row in rows)
    assert "Traceback" not in done.stderr and all(one_line(line) == line for line in done.stderr.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_damage_in_every_container(reader, all_containers, tmp_path):
    """Also an interlaced video, animations, and several codecs."""
    if reader == "decord":
        pytest.importorskip("decord")
    outcomes = fuzz.decode_all(mutants(all_containers, range(READERS[reader])), reader, tmp_path)
    check([outcome for outcome in outcomes if reader != "decord" or outcome.kind != "crash"], fuzz.SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_damage_of_real_clips(reader, tmp_path):
    from numbered_clips import packaged_clips, shared_clips

    if reader == "decord":
        pytest.importorskip("decord")
    paths = packaged_clips() + shared_clips()
    if not paths:
        pytest.skip("no real clips here")
    for path in paths:
        clips = {path.suffix[1:]: path.read_bytes()}
        numbers = range(len(fuzz.WAYS))
        fuzz.decode_all(mutants(clips, numbers), reader, tmp_path)
    with DecodePool(reader, workers=1) as pool:
        assert len(pool.submit(paths[0], 4).result().frames) == 4
