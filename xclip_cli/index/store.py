"""An index on disk: SQLite lists the videos, one flat file per model holds the features of their windows (``rows``).

A video is added in one transaction: its rows are appended and flushed to disk, then the database refers to them. After
a kill at any moment the index is as before or as after the transaction. Rows without a reference are overwritten.
Writers wait for each other, one video at a time. Readers see whole videos only.

Somebody else may have made the folder: nothing outside it is written or run.
"""

import json
import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np

from xclip_cli.errors import StoreError, UsageError
from xclip_cli.files import NO_LOCKS, checked, from_json
from xclip_cli.index.entries import Collection, Entry, Stamp, Status, require_finite, to_numbers, to_spans
from xclip_cli.index.rows import Rows, append, copy, row_bytes
from xclip_cli.tagger.embeddings import Embeddings

FORMAT = 2
_OWN_FILES = re.compile(r"index\.sqlite(-\w+)?|model-\d+-\d+\.rows")
LOCK_SECONDS = 60.0  # how long another writer may take over one video, or to write the rows anew
_TABLES = """
CREATE TABLE collections (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, fingerprint TEXT NOT NULL UNIQUE, weights TEXT,
    prompted INTEGER NOT NULL, recipe TEXT NOT NULL, width INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0, num_rows INTEGER NOT NULL DEFAULT 0);
CREATE TABLE videos (
    id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    start_seconds REAL NOT NULL, duration_seconds REAL NOT NULL, end_seconds REAL NOT NULL,
    reader TEXT NOT NULL, warnings TEXT NOT NULL,
    spans BLOB NOT NULL, scenes BLOB NOT NULL, whole BLOB NOT NULL, patches BLOB,
    UNIQUE (collection, path), UNIQUE (collection, first));
CREATE INDEX by_size ON videos (collection, size)"""
_ENTRY = "SELECT id, path, size, mtime_ns, sha256, first, count FROM videos WHERE collection = ?"
_ADD = (
    "INSERT INTO videos (collection, path, size, mtime_ns, sha256, first, count, start_seconds, duration_seconds,"
    " end_seconds, reader, warnings, spans, scenes, whole, patches) VALUES"
    " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

_SQLITE_SUFFIXES = ("", "-journal", "-wal", "-shm")  # what it opens by name
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file, which SQLite may delete
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


class Store:
    """The index in ``folder``; a context manager. With ``create`` it is made if there is none.

    Every method raises StoreError where the index cannot be read or written, is damaged, or is kept busy too long.
    """

    def __init__(self, folder: Path, create: bool = False):
        self.folder, path = folder, folder / "index.sqlite"
        with self._convert_errors():
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            elif not os.path.lexists(path):
                raise _missing_index(folder)
            self._database = _connect(path, LOCK_SECONDS, create)
        try:
            self._check_format(create)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self._database.close()

    def _check_format(self, create: bool) -> None:
        [(version,)] = self._all("PRAGMA user_version")
        if version == 0 and create:
            with self._transaction():
                if self._all("PRAGMA user_version") == [(0,)]:  # another run may have been faster
                    for statement in _TABLES.split(";"):
                        self._database.execute(statement)
                    self._database.execute(f"PRAGMA user_version = {FORMAT}")
        elif version == 0:
            raise _missing_index(self.folder)
        elif version != FORMAT:
            raise StoreError(
                f"the index in {str(self.folder)!r} has format {version}; this version reads {FORMAT}",
                "choose another folder: --index FOLDER",
            )
        with self._convert_errors():
            _check_tables(self._database)

    def collections(self) -> list[Collection]:
        """The collections of the index, one per model."""
        with self._convert_errors():
            return [Collection.of_row(row) for row in self._database.execute("SELECT * FROM collections ORDER BY id")]

    def find(self, model: str, *, fingerprint: str | None = None, weights: str | None = None) -> Collection:
        """Return the collection of the model with this fingerprint, or with these weights.

        Raises UsageError, with ``model`` as its name, if the index has none; the message lists those it has.
        """
        held = self.collections()
        for collection in held:
            if fingerprint == collection.fingerprint or (weights is not None and weights == collection.weights):
                return collection
        names = ", ".join(dict.fromkeys(collection.model for collection in held)) or "no model"
        was = " as it is now" if any(collection.model == model for collection in held) else ""
        raise UsageError(
            f"the index in {str(self.folder)!r} has nothing of {model}{was}: it has {names}",
            f"xclip index FOLDER --model {model}" + (f", or take --model {held[0].model}" if held and not was else ""),
        )

    def begin(self, new: Collection) -> Collection:
        """Return the collection of a model, empty if it is new. Raises UsageError if its recipe differs."""
        values = new.model, new.fingerprint, new.weights, new.prompted, json.dumps(new.recipe)
        with self._transaction():
            self._database.execute(
                "INSERT INTO collections (model, fingerprint, weights, prompted, recipe) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                values,
            )
        collection = self.find(new.model, fingerprint=new.fingerprint)
        collection.require(new.recipe)
        return collection

    def entry(self, collection: Collection, path: str) -> Entry | None:
        """Return the video with this real path, None if it is not in the index."""
        rows = self._all(f"{_ENTRY} AND path = ?", collection.id, os.fsencode(path))
        return self._entries(rows)[0] if rows else None

    def entry_at(self, collection: Collection, row: int) -> Entry | None:
        """Return the video that a row belongs to; None if it was removed or replaced."""
        rows = self._all(f"{_ENTRY} AND first <= ? ORDER BY first DESC LIMIT 1", collection.id, row)
        entries = [entry for entry in self._entries(rows) if row < entry.first + entry.count]
        if entries and entries[0].first + entries[0].count > self._current(collection).num_rows:
            raise self._damaged("a video has windows that are not there")
        return entries[0] if entries else None

    def of_size(self, collection: Collection, size: int) -> list[Entry]:
        """Return the videos whose files have this size in bytes."""
        return self._entries(self._all(f"{_ENTRY} AND size = ?", collection.id, size))

    def spans(self, collection: Collection, folder: str | None, since_ns: int) -> list[tuple[int, int]]:
        """Return the rows [first, stop) of each video in a folder, in order; ``folder`` is a real path or None for all.

        It may be the path of a single video. Only files changed at ``since_ns`` or later count.
        """
        query = "SELECT first, first + count FROM videos WHERE collection = ? AND mtime_ns >= ?"
        values = [collection.id, since_ns]
        if folder is not None:
            inside = os.fsencode(os.path.join(folder, ""))
            query += " AND (path = ? OR path >= ? AND path < ?)"
            values += os.fsencode(folder), inside, inside[:-1] + bytes([inside[-1] + 1])
        spans = self._all(f"{query} ORDER BY first", *values)
        table = np.array(spans or np.empty((0, 2), int))
        if (
            table.dtype.kind != "i"
            or table.min(initial=0) < 0
            or table.max(initial=0) > self._current(collection).num_rows
        ):
            raise self._damaged("a video has windows that are not there")
        return spans

    def timeline(self, entry: Entry) -> tuple[np.ndarray, float]:
        """Return the spans float64 (W, 2) of a video's windows and its end, in seconds."""
        [(spans, end)] = self._all("SELECT spans, end_seconds FROM videos WHERE id = ?", entry.id)
        with self._convert_errors():
            return to_spans(spans, entry.count, end), end

    def rows(self, collection: Collection) -> Rows:
        """Return the features of all windows; use them inside `reading`."""
        now = self._current(collection)
        return Rows(self._file(now), now.width, now.num_rows)

    def read(self, collection: Collection, entry: Entry) -> Embeddings:
        """Return the embeddings of a video; call it inside `reading`."""
        rows = self.rows(collection)
        [(start, duration, end, reader, warnings, spans, scenes, whole, patches)] = self._all(
            "SELECT start_seconds, duration_seconds, end_seconds, reader, warnings, spans, scenes, whole, patches"
            " FROM videos WHERE id = ?",
            entry.id,
        )
        with self._convert_errors():
            whole_warnings, timeline_warnings = from_json(warnings, tuple[tuple[str, ...], ...])
            return Embeddings(
                whole=to_numbers(whole, "<f4").reshape(rows.width),
                patches=None if patches is None else to_numbers(patches, "<f4").reshape(-1, rows.width),
                windows=require_finite(rows.read(entry.first, entry.count)),
                spans=to_spans(spans, entry.count, end),
                scenes=to_numbers(scenes, "<i8").reshape(entry.count),
                start_seconds=checked(start, float, "start_seconds"),
                duration_seconds=checked(duration, float, "duration_seconds"),
                end_seconds=end,
                warnings=whole_warnings,
                timeline_warnings=timeline_warnings,
                reader=checked(reader, str),
            )

    def add(self, collection: Collection, path: str, stamp: Stamp, sha256: str, video: Embeddings) -> None:
        """Add or replace a video. All of it is on the disk when this returns."""
        warnings = json.dumps([video.warnings, video.timeline_warnings])
        arrays = (video.spans, "<f8"), (video.scenes, "<i8"), (video.whole, "<f4"), (video.patches, "<f4")
        blobs = [None if values is None else values.astype(kind).tobytes() for values, kind in arrays]
        with self._transaction():
            now = self._current(collection)
            append(self._file(now), now.num_rows, video.windows)
            path_bytes, count = os.fsencode(path), len(video.windows)
            self._database.execute("DELETE FROM videos WHERE collection = ? AND path = ?", (collection.id, path_bytes))
            times = video.start_seconds, video.duration_seconds, video.end_seconds, video.reader, warnings
            self._database.execute(
                _ADD, (collection.id, path_bytes, *stamp, sha256, now.num_rows, count, *times, *blobs)
            )
            grown = count, video.windows.shape[1], collection.id
            self._database.execute("UPDATE collections SET num_rows = num_rows + ?, width = ? WHERE id = ?", grown)

    def rename(self, entry: Entry, path: str, stamp: Stamp) -> None:
        """Record a new path or modification time of a file whose bytes are the same."""
        values = os.fsencode(path), *stamp, entry.id
        with self._transaction():
            self._database.execute("UPDATE OR REPLACE videos SET path = ?, size = ?, mtime_ns = ? WHERE id = ?", values)

    def status(self, collection: Collection) -> Status:
        """Return the size of a collection and how many of its files are missing."""
        entries = self.videos(collection)
        [(seconds,)] = self._all(
            "SELECT total(end_seconds - start_seconds) FROM videos WHERE collection = ?", collection.id
        )
        missing = sum(entry.is_missing for entry in entries)
        size = collection.num_rows * row_bytes(collection.width)
        return Status(len(entries), missing, sum(entry.count for entry in entries), seconds, size)

    def num_bytes(self) -> int:
        """Return the size of the index on disk."""
        return sum(file.lstat().st_size for file in self.folder.iterdir() if _OWN_FILES.fullmatch(file.name))

    def videos(self, collection: Collection | None = None) -> list[Entry]:
        """The videos of one model, or of all models."""
        collections = self.collections() if collection is None else [collection]
        return [entry for collection in collections for entry in self._entries(self._all(_ENTRY, collection.id))]

    def prune(self, paths: Iterable[str]) -> int:
        """Remove those of these videos whose files are missing, free their space, and return their number."""
        wanted = set(paths)
        with self._transaction():
            missing = [(entry.id,) for entry in self.videos() if entry.path in wanted and entry.is_missing]
            self._database.executemany("DELETE FROM videos WHERE id = ?", missing)
            for row in self._database.execute("SELECT * FROM collections").fetchall():
                self._compact(Collection.of_row(row))
        with self._transaction():  # nobody writes, and who reads has the file open
            named = {self._file(collection).name for collection in self.collections()}
            for file in self.folder.glob("*.rows"):
                if _OWN_FILES.fullmatch(file.name) and file.name not in named:
                    with suppress(OSError):
                        file.unlink()
        with self._convert_errors():
            self._database.execute("VACUUM")
        return len(missing)

    def _compact(self, collection: Collection) -> None:
        """Write the rows that belong to videos to a new file, if others do not."""
        videos = self._all("SELECT first, count, id FROM videos WHERE collection = ? ORDER BY first", collection.id)
        num_rows = sum(count for _, count, _ in videos)
        if num_rows == collection.num_rows:
            return
        spans = [(first, first + count) for first, count, _ in videos]
        target = self.folder / _rows_name(collection.id, collection.generation + 1)
        copy(self.rows(collection), spans, target)
        first = 0
        for _, count, number in videos:
            self._database.execute("UPDATE videos SET first = ? WHERE id = ?", (first, number))
            first += count
        values = num_rows, collection.id
        self._database.execute("UPDATE collections SET generation = generation + 1, num_rows = ? WHERE id = ?", values)

    def _current(self, collection: Collection) -> Collection:
        [row] = self._all("SELECT * FROM collections WHERE id = ?", collection.id)
        with self._convert_errors():
            return Collection.of_row(row)

    def _file(self, collection: Collection) -> Path:
        return self.folder / _rows_name(collection.id, collection.generation)

    def _entries(self, rows: list[tuple]) -> list[Entry]:
        with self._convert_errors():
            return [Entry.of_row(row) for row in rows]

    def _damaged(self, what: str) -> StoreError:
        what = f"the index in {str(self.folder)!r} is damaged: {what}"
        return StoreError(what, "delete the folder and index again")

    def _all(self, query: str, *values) -> list[tuple]:
        with self._convert_errors():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Give the body one consistent view of the index. Keep it short: writers wait for its end."""
        with self._transaction("DEFERRED"):
            yield

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """Commit all writes of the body, or none of them; no other process writes meanwhile."""
        with self._convert_errors():
            if kind == "IMMEDIATE":
                self._database.execute("PRAGMA query_only = OFF")
            self._database.execute(f"BEGIN {kind}")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        what = f"the index in {str(self.folder)!r}"
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = "wait for the run that uses it, or check the disk"
            raise StoreError(f"{what} cannot be used now: {error}", hint) from error
        except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            hint = "free space, or choose another --index FOLDER"
            raise StoreError(f"{what} cannot be used: {error.strerror or error}", hint) from error


def _rows_name(number: int, generation: int) -> str:
    return f"model-{number}-{generation}.rows"


def _missing_index(folder: Path) -> StoreError:
    return StoreError(f"there is no index in {str(folder)!r}", "make one with: xclip index FOLDER")


def _connect(path: Path, timeout_seconds: float, create: bool = False) -> sqlite3.Connection:
    """Open the database, for reading only until `PRAGMA query_only = OFF`.

    Raises ValueError where one of its files is a link or no file, or where its journal names another file.
    """
    for suffix in _SQLITE_SUFFIXES:
        file = Path(f"{path}{suffix}")
        if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):
            raise ValueError(f"{file.name} is a link or no file")
    journal = Path(f"{path}-journal")
    if journal.exists():
        with journal.open("rb") as stream:
            stream.seek(-min(len(_SUPER_JOURNAL), journal.stat().st_size), os.SEEK_END)
            if stream.read() == _SUPER_JOURNAL:
                raise ValueError(f"{journal.name} names another file")
    address = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}&nolock={int(not _has_locks(path.parent))}"
    database = sqlite3.connect(address, timeout_seconds, uri=True, isolation_level=None)
    database.text_factory = bytes.decode
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
        database.execute(f"PRAGMA {setting}")
    return database


def _has_locks(folder: Path) -> bool:
    """Whether files there can be locked; if nothing can be written there, nobody needs to."""
    try:
        import fcntl

        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return True
    except OSError as error:
        return error.errno not in NO_LOCKS
    return True


def _check_tables(database: sqlite3.Connection) -> None:
    """Raise ValueError unless the database has the tables of an index and nothing else, such as a trigger."""
    with closing(sqlite3.connect(":memory:")) as own:
        own.executescript(_TABLES)
        if database.execute(_SCHEMA).fetchall() != own.execute(_SCHEMA).fetchall():
            raise ValueError("its tables are not those of an index")
