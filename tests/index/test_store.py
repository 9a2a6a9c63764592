"""An index on disk: what was added is there, whole, whoever is killed and whoever else writes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made import MODEL, RECIPE, add, assert_same, features

from xclip_cli.errors import StoreError, UsageError
from xclip_cli.index import store as stores
from xclip_cli.index.entries import Recipe
from xclip_cli.index.store import Store

# Adds videos FIRST, FIRST + 1, ... to the index FOLDER and names each once it is in.
WRITER = """
import sys
sys.path[:0] = [{here!r}]
from made import MODEL, add, features
from xclip_cli.index.store import Store
folder, first, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
from pathlib import Path
with Store(Path(folder), create=True) as store:
    known = store.begin(MODEL)
    for number in range(first, stop):
        add(store, known, f"{{folder}}/videos/{{number}}.mp4", features(number))
        print(number, flush=True)
"""


def writer(folder, first, stop):
    code = WRITER.format(here=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(folder), str(first), str(stop)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def check_all(folder, numbers):
    """Every video that the index names is there as it was made, and these are."""
    with Store(folder) as store:
        [known] = store.collections()
        for number in numbers:
            entry = store.entry(known, os.path.realpath(folder / "videos" / f"{number}.mp4"))
            with store.reading():
                assert_same(store.read(known, entry), features(number))
        return store.status(known)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "an index"


def test_what_is_added_is_read_again(folder):
    with Store(folder, create=True) as store:
        known = store.begin(MODEL)
        add(store, known, folder / "a.mp4", features(1))
        add(store, known, folder / "b.mp4", features(2, count=1, patches=3))
    with Store(folder) as store:
        [known] = store.collections()
        assert known.model == "toy" and known.recipe == RECIPE and known.num_rows == 6
        for name, video in (("a", features(1)), ("b", features(2, count=1, patches=3))):
            entry = store.entry(known, os.path.realpath(folder / f"{name}.mp4"))
            assert entry.is_unchanged
            with store.reading():
                assert_same(store.read(known, entry), video)
        assert store.entry(known, "/c.mp4") is None


def test_a_name_of_any_bytes_is_a_path(folder):
    path = os.fsdecode(os.fsencode(folder) + b"/caf\xe9 \n.mp4")
    with Store(folder, create=True) as store:
        known = store.begin(MODEL)
        add(store, known, path, features(1))
        assert store.entry(known, os.path.realpath(path)).path == os.path.realpath(path)
        assert store.spans(known, os.path.realpath(folder), 0) == [(0, 5)]


def test_a_video_that_is_added_again_is_there_once(folder):
    with Store(folder, create=True) as store:
        known = store.begin(MODEL)
        for number in (1, 2):
            add(store, known, folder / "a.mp4", features(number, count=3 + number))
        entry = store.entry(known, os.path.realpath(folder / "a.mp4"))
        with store.reading():
            assert_same(store.read(known, entry), features(2, count=5))
        assert store.entry_at(known, 0) is None and store.entry_at(known, 4) == entry
        assert store.status(known)[:3] == (1, 0, 5)


def test_models_are_kept_apart(folder):
    from dataclasses import replace

    other = replace(MODEL, model="other", fingerprint="e" * 64, weights=None)
    with Store(folder, create=True) as store:
        first, second = store.begin(MODEL), store.begin(other)
        for number, known in enumerate((first, second)):
            add(store, known, folder / "a.mp4", features(number))
        for number, known in enumerate((first, second)):
            with store.reading():
                entry = store.entry(known, os.path.realpath(folder / "a.mp4"))
                assert_same(store.read(known, entry), features(number))
        assert store.find("toy", weights="w" * 64).id == first.id
        assert store.find("other", fingerprint="e" * 64).id == second.id
        with pytest.raises(UsageError, match="nothing of third: it has toy, other"):
            store.find("third", fingerprint="d" * 64)
        with pytest.raises(UsageError, match="nothing of toy as it is now"):
            store.find("toy", fingerprint="d" * 64)


def test_other_windows_of_the_same_model_are_refused(folder):
    from dataclasses import replace

    with Store(folder, create=True) as store:
        store.begin(MODEL)
        with pytest.raises(
            UsageError, match=r"--window 4 --stride 2 .*not with --window 8 --stride 4 --scenes"
        ) as caught:
            store.begin(replace(MODEL, recipe=Recipe(8.0, 4.0, True, "float32", "auto")))
        assert "--index" in caught.value.hint


def test_pruning_takes_out_what_is_gone_and_gives_room_back(folder):
    paths = [folder / "videos" / f"{number}.mp4" for number in range(6)]
    with Store(folder, create=True) as store:
        known = store.begin(MODEL)
        for number, path in enumerate(paths):
            add(store, known, path, features(number, count=4))
        add(store, known, paths[1], features(1, count=4))  # again: its first rows count no more
        for path in paths[::2]:
            path.unlink()
        assert store.status(known)[:2] == (6, 3)
        assert store.prune(store_paths := [entry.path for entry in store.videos()]) == 3
        assert store.prune(store_paths) == 0
        [known] = store.collections()
        assert known.num_rows == 12 and store.status(known)[:3] == (3, 0, 12)
        files = [file for file in folder.iterdir() if file.suffix == ".rows"]
        assert [file.stat().st_size for file in files] == [12 * 4 * 17]
        for number, path in enumerate(paths):
            entry = store.entry(known, os.path.realpath(path))
            assert (entry is None) == (number % 2 == 0)
            if entry:
                with store.reading():
                    assert_same(store.read(known, entry), features(number, count=4))
        add(store, known, paths[0], features(0))
        assert store.entry_at(known, 13).path == os.path.realpath(paths[0])


def test_killed_at_any_moment_the_index_is_whole_and_goes_on(folder):
    done = 0
    for patience in (0, 3, 7):
        run = writer(folder, done, 1000)
        told = [int(run.stdout.readline()) for _ in range(patience + 1)]
        time.sleep(0.003 * patience)
        run.kill()
        told += map(int, run.communicate()[0].splitlines())
        assert run.returncode == -9
        status = check_all(folder, range(told[-1] + 1))
        assert told[-1] + 1 <= status.videos <= told[-1] + 2
        done = status.videos
    with Store(folder) as store:
        add(store, store.collections()[0], folder / "videos" / "last.mp4", features(7))
    check_all(folder, range(done))


def test_two_writers_at_once_lose_nothing(folder):
    runs = [writer(folder, 0, 40), writer(folder, 40, 80)]
    assert [run.wait(60) for run in runs] == [0, 0]
    for run in runs:
        run.stdout.close()
    assert check_all(folder, range(80)) == (80, 0, 400, 80 * 11.5, 400 * 4 * 17)


def test_an_index_that_is_kept_busy_is_one_line(folder, monkeypatch):
    with Store(folder, create=True) as store:
        known = store.begin(MODEL)
        monkeypatch.setattr(stores, "LOCK_SECONDS", 0.05)
        with store.reading(), Store(folder) as other:
            store.status(known)
            with pytest.raises(StoreError, match="cannot be used now: database is locked"):
                add(other, known, folder / "a.mp4", features(1))


def test_no_index_and_one_of_another_version_say_so(folder):
    with pytest.raises(StoreError, match="there is no index in") as caught:
        Store(folder)
    assert "xclip index" in caught.value.hint and not folder.exists()
    Store(folder, create=True).__exit__()
    import sqlite3

    base = sqlite3.connect(folder / "index.sqlite")
    base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(StoreError, match="format 99; this version reads 2"):
        Store(folder)


@pytest.mark.parametrize("damage", ["index.sqlite", "model-1-0.rows"])
def test_damage_is_one_line(folder, damage):
    with Store(folder, create=True) as store:
        add(store, store.begin(MODEL), folder / "a.mp4", features(1))
    data = (folder / damage).read_bytes()
    (folder / damage).write_bytes(b"x" * 50 + data[50 : len(data) // 2])
    with pytest.raises(StoreError, match="damaged") as caught, Store(folder) as store:
        [known] = store.collections()
        with store.reading():
            store.read(known, store.entry(known, os.path.realpath(folder / "a.mp4")))
    assert "\n" not in caught.value.message and caught.value.hint
