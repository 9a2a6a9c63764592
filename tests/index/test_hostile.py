"""An index that somebody else made: it writes nowhere else, runs nothing, and what is wrong with it is one line."""

import errno
import os
import sqlite3
import struct
import subprocess
import sys

import numpy as np
import pytest
from made import MODEL, WIDTH, add, features

from xclip_cli.errors import StoreError
from xclip_cli.index.entries import Stamp
from xclip_cli.index.search import Query, Scope, example, find
from xclip_cli.index.store import Store
from xclip_cli.settings import TagSettings

QUERY = Query(np.eye(WIDTH)[0], np.eye(WIDTH)[1:3])
needs_links = pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links cannot be told apart")


@pytest.fixture
def folder(tmp_path):
    """An index of two videos, one of whose files is gone."""
    with Store(tmp_path / "index", create=True) as store:
        known = store.begin(MODEL)
        for name, number in (("a.mp4", 1), ("gone.mp4", 2)):
            add(store, known, tmp_path / "videos" / name, features(number))
    (tmp_path / "videos" / "gone.mp4").unlink()
    return tmp_path / "index"


@pytest.fixture
def victim(tmp_path):
    """A file of the user's, which is no part of an index."""
    (tmp_path / "home").mkdir()
    file = tmp_path / "home" / "letter.txt"
    file.write_text("Dear")
    return file


def change(folder, *statements):
    base = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
    for statement in statements:
        base.execute(statement)
    base.close()


def use(folder):
    """What `xclip search` and `xclip tag --from-index` do, then `xclip index` and its --prune."""
    video = folder.parent / "videos" / "a.mp4"
    with Store(folder) as store:
        [known] = store.collections()
        find(store, known, QUERY, 5, Scope())
        find(store, known, QUERY, 5, Scope(os.path.realpath(video.parent), 1))
        example(str(video), store, known, TagSettings())
        store.status(known)
    with Store(folder, create=True) as store:
        known = store.begin(MODEL)
        store.of_size(known, 7)
        add(store, known, video.with_name("new.mp4"), features(3))
        store.prune([entry.path for entry in store.videos()])


def refused(folder):
    with pytest.raises(StoreError) as caught:
        use(folder)
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value.message


def state(victim):
    return sorted(os.listdir(victim.parent)), victim.read_text()


def test_an_index_that_nobody_touched_is_used(folder):
    use(folder)


@needs_links
@pytest.mark.parametrize("name", ["index.sqlite", "index.sqlite-journal", "index.sqlite-wal", "index.sqlite-shm"])
@pytest.mark.parametrize("there", [True, False])
def test_a_database_that_is_a_link_is_refused(folder, victim, name, there):
    target = victim if there else victim.with_name("new")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    assert name in refused(folder)
    with pytest.raises(StoreError, match="link or no file"):
        Store(folder, create=True)
    assert state(victim) == (["letter.txt"], "Dear")


@needs_links
def test_rows_that_are_a_link_are_refused(folder, victim):
    rows = folder / "model-1-0.rows"
    data = rows.read_bytes()
    victim.write_bytes(data)
    rows.unlink()
    rows.symlink_to(victim)
    refused(folder)
    with Store(folder, create=True) as store, pytest.raises(StoreError):
        add(store, store.begin(MODEL), folder.parent / "videos" / "new.mp4", features(3))
    assert victim.read_bytes() == data


@needs_links
def test_new_rows_go_to_no_link(folder, victim):
    (folder / "model-1-1.rows").symlink_to(victim)
    with Store(folder) as store:
        assert store.prune([entry.path for entry in store.videos()]) == 1
    assert state(victim) == (["letter.txt"], "Dear") and not (folder / "model-1-1.rows").is_symlink()


@pytest.mark.skipif(os.name != "posix", reason="has no named pipes")
def test_a_pipe_among_the_files_keeps_nobody_waiting(folder):
    (folder / "model-1-0.rows").unlink()
    os.mkfifo(folder / "model-1-0.rows")
    assert "not a regular file" in refused(folder)


def test_names_of_files_come_from_numbers_alone(folder, victim):
    change(folder, "UPDATE collections SET generation = 'x/../../home/letter'")
    (folder / "model-1-x").mkdir()
    assert "generation is of the type str" in refused(folder)
    assert state(victim) == (["letter.txt"], "Dear")


def test_a_journal_that_names_another_file_deletes_none(folder, victim):
    code = f"""
import os, sqlite3
base = sqlite3.connect({str(folder / "index.sqlite")!r}, isolation_level=None)
base.execute("PRAGMA cache_size = 1")
base.execute("BEGIN IMMEDIATE")
for _ in range(50):
    base.execute("UPDATE videos SET spans = randomblob(10000)")
os._exit(0)"""
    subprocess.run([sys.executable, "-c", code], check=True)
    name = os.fsencode(victim)
    with (folder / "index.sqlite-journal").open("ab") as file:
        file.write(struct.pack(">I", 2**30 // 4096 + 1) + name)
        file.write(struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7"))
    assert "names another file" in refused(folder)
    assert state(victim) == (["letter.txt"], "Dear")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON videos BEGIN DELETE FROM videos; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE other (x)",
        "DROP INDEX by_size",
        "ALTER TABLE videos ADD COLUMN x",
    ],
)
def test_tables_are_ours_or_refused(folder, statement):
    change(folder, statement)
    assert "its tables are not those of an index" in refused(folder)


COUNTS = "'x'", "-1", "1e300", "9223372036854775807", "2.5", "x'00'", "'1/../../x'"
TAMPERED = {
    "collections": {
        "model": ("x'ff'", "CAST(x'ff' AS TEXT)"),
        "fingerprint": ("x'ff'",),
        "weights": ("x'ff'",),
        "prompted": ("'x'", "7", "-1"),
        "recipe": (
            "'['", "''", "'[1, 2]'", "x'00'", "3.5", "'[NaN, 2, false, \"float32\", \"auto\"]'",
            "'[4, 1e999, false, \"float32\", \"auto\"]'", "'[4, 2, 3, \"float32\", \"auto\"]'",
        ),
        "width": (*COUNTS, "15", "17", "1000000000"),
        "generation": (*COUNTS, "3"),
        "num_rows": (*COUNTS, "1000000000"),
    },
    "videos": {
        "path": ("5", "1.5"),
        "size": ("'x'", "-1", "1e300", "x'00'"),
        "mtime_ns": ("'x'", "1e300", "x'00'"),
        "sha256": ("x'00'", "CAST(x'ff' AS TEXT)"),
        "first": (*COUNTS, "6", "1000000000"),
        "count": (*COUNTS, "4", "6", "1000000000"),
        "start_seconds": ("'x'", "9e999", "1e300", "x'00'"),
        "duration_seconds": ("'x'", "9e999", "1e300", "x'00'"),
        "end_seconds": ("'x'", "9e999", "-1e300", "x'00'"),
        "reader": ("x'00'", "CAST(x'ff' AS TEXT)"),
        "warnings": ("'['", "'[1, 2]'", "'[[], [], []]'", "'[[1], [2]]'", "x'00'"),
        "spans": ("x''", "x'00'", "5", "'x'", "randomblob(80)", "zeroblob(160)"),
        "scenes": ("x''", "x'00'", "5", "zeroblob(48)"),
        "whole": ("x''", "x'00'", "5", "zeroblob(60)", "CAST(x'0000c07f' || zeroblob(60) AS BLOB)"),
        "patches": ("x''", "x'00'", "5", "zeroblob(60)"),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [(table, column, value) for table, columns in TAMPERED.items() for column, of in columns.items() for value in of],
)
def test_values_that_no_run_writes_are_refused(folder, table, column, value):
    where = "" if table == "collections" else " WHERE id = 1"
    change(folder, "PRAGMA ignore_check_constraints = ON", f"UPDATE {table} SET {column} = {value}{where}")
    before = {file.name: file.stat().st_size for file in folder.iterdir()}
    message = refused(folder)
    assert str(folder) in message
    if table == "collections" and "rows" not in column:
        assert {file.name: file.stat().st_size for file in folder.iterdir()} == before


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -1e30])
@pytest.mark.parametrize("column", [0, WIDTH])
def test_rows_of_numbers_that_no_model_gives_are_refused(folder, value, column):
    rows = np.memmap(folder / "model-1-0.rows", np.float32, "r+", shape=(10, WIDTH + 1))
    rows[3, column] = value if column == 0 else -value if np.isnan(value) else 1e-30
    rows.flush()
    refused(folder)


@pytest.mark.parametrize("part", range(12))
def test_bytes_that_were_changed_give_one_line_or_the_same_answer(folder, part):
    rng = np.random.default_rng(part)
    data = bytearray((folder / "index.sqlite").read_bytes())
    for place in rng.integers(0, len(data), 1 + 3 * part):
        data[place] = rng.integers(256)
    if part % 3 == 0:
        data = data[: rng.integers(len(data))]
    (folder / "index.sqlite").write_bytes(data)
    try:
        use(folder)
    except StoreError as error:
        assert "\n" not in error.message


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_an_index_is_written_all_the_same(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with Store(tmp_path / "index", create=True) as store, Store(tmp_path / "index", create=True) as other:
        known = store.begin(MODEL)
        add(store, known, tmp_path / "a.mp4", features(1))
        with store._transaction(), other._transaction():  # which would wait for each other
            pass
    with Store(tmp_path / "index") as store:
        assert len(store.videos()) == 1


@pytest.mark.parametrize("seconds", [2**33, -(2**33), 10**11])
def test_times_that_no_database_keeps_are_kept_as_the_nearest(tmp_path, seconds):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"video")
    try:
        os.utime(video, (seconds, seconds))
    except OSError:
        pytest.skip("this file system has no such times")
    with Store(tmp_path / "index", create=True) as store:
        known = store.begin(MODEL)
        add(store, known, video, features(1))
        entry = store.entry(known, os.path.realpath(video))
        assert entry.is_unchanged and entry.stamp == Stamp.of(str(video))
        assert abs(entry.stamp.mtime_ns) <= 2**63
        assert len(store.spans(known, None, 0)) == (seconds > 0)
        assert len(find(store, known, QUERY, 5, Scope(None, -(2**63))).moments) > 0
