"""`Index`, the Python API: what the commands do, and the same answers."""

import csv
import os
import shutil
import threading
from pathlib import Path

import pytest

import xclip_cli
from xclip_cli import Index, Tagger
from xclip_cli.errors import StoreError, UsageError

LABELS = ["running", "dunking", "a dog"]


@pytest.fixture(scope="module")
def videos(make_clip, make_long_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_clip(folder / "a.mp4")
    make_long_clip(folder / "long.mp4", 12)
    (folder / "deep").mkdir()
    make_clip(folder / "deep" / "c.mp4", shade=9)
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def index(plain_model, videos, tmp_path_factory):
    with Index(tmp_path_factory.mktemp("index") / "new", plain_model) as opened:
        results = opened.add(videos)
        assert [(Path(result.video).name, result.error) for result in results] == [("a.mp4", None), ("long.mp4", None)]
        yield opened


def test_what_is_known_is_not_read_again(index, videos):
    assert index.add([videos, videos / "a.mp4"]) == []


def test_a_search_gives_what_the_command_gives(index, plain_model, xclip):
    answer = index.search("two dogs, running", top_k=3)
    done = xclip("search", "two dogs, running", "-k", "3", "--model", plain_model, "--index", index.folder)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [(m.video, f"{m.score:.4f}") for m in answer.moments] == [(row["video"], row["score"]) for row in rows]
    assert len(rows) == 3 and answer.windows > 3 and answer.lost == []


def test_a_path_is_an_example(index, videos):
    assert index.search(videos / "a.mp4", top_k=1).moments[0].video == os.path.realpath(videos / "a.mp4")
    [moment] = index.search(Path(f"{videos / 'long.mp4'}@5"), top_k=1).moments
    assert moment.video.endswith("long.mp4") and moment.score == pytest.approx(1, abs=1e-5)


def test_a_folder_and_a_time_limit_a_search(index, videos):
    query = index.query("a dog")
    assert {Path(m.video).name for m in index.search(query, folder=videos / "a.mp4").moments} == {"a.mp4"}
    os.utime(shutil.copy(videos / "a.mp4", videos / "deep" / "old.mp4"), (1, 1))
    assert {r.error for r in index.add(videos / "deep" / "old.mp4")} == {None}
    assert index.search(query, changed_since=1e9).windows + 1 == index.search(query).windows
    assert index.search(query, folder=videos / "nowhere").moments == []


@pytest.mark.parametrize("timeline", [False, True])
def test_tags_are_those_of_a_tagger(index, plain_model, videos, timeline):
    paths = [str(videos / "a.mp4"), str(videos / "long.mp4")]
    window = {"window_seconds": "auto", "threshold": 0.3} if timeline else {"top_k": 2}
    own = {"threshold": 0.3} if timeline else {"top_k": 2}
    with Tagger(plain_model, **window) as tagger:
        expected = [tagger.tag(path, LABELS) for path in paths]
    assert index.tag(LABELS, paths, timeline=timeline, **own) == expected
    assert {os.path.realpath(path) for path in paths} <= {result.video for result in index.tag("running, a dog")}


def test_a_video_that_is_missing_is_an_error_of_its_own(index, videos, tmp_path):
    [result] = index.add(tmp_path / "none.mp4")
    assert "none.mp4" in result.error
    [result] = index.tag(LABELS, [videos / "deep" / "c.mp4"])
    assert "'c.mp4' is not in the index" in result.error


def test_folders_inside_folders_are_searched_where_asked(plain_model, videos, tmp_path):
    with Index(tmp_path, plain_model, window_seconds=2) as opened:
        assert {Path(result.video).name for result in opened.add(videos, recursive=True)} >= {"a.mp4", "c.mp4"}
        with pytest.raises(UsageError, match="has plain with --window 2"):
            Index(tmp_path, plain_model, window_seconds=4).add(videos)
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="no videos in the folder"):
            opened.add(tmp_path / "empty")


def test_prompts_that_an_index_does_not_keep_are_a_warning(toy_model, videos, tmp_path):
    with Index(tmp_path, toy_model) as opened:
        opened.add(videos / "a.mp4")
        assert opened.tag(LABELS)[0].warnings == ()
        assert opened.tag(LABELS, timeline=True)[0].warnings[0].startswith("toy prompts its labels with each window's")


def test_threads_may_share_an_index(index):
    queries = ["a dog", "running"]
    expected, found = [index.search(query).moments for query in queries], {}

    def ask(number):
        found[number] = index.search(queries[number % 2]).moments

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(8)] == expected * 4


def test_mistakes_are_errors_at_once(tmp_path):
    assert "Index" in xclip_cli.__all__ and repr(Index("x")) == "Index('x', model='mini')"
    for wrong in ({"stride_seconds": -1}, {"dtype": "float8"}, {"workers": 0}):
        with pytest.raises(UsageError):
            Index(tmp_path, **wrong)
    with pytest.raises(TypeError):
        Index(tmp_path, windows=4)
    with pytest.raises(StoreError, match="there is no index"):
        Index(tmp_path / "none").search("a dog")
    assert not (tmp_path / "none").exists()
