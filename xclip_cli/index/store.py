"""An index on disk: SQLite knows the videos, a flat file per model holds the features of their windows (``rows``).

A video is added in one transaction: its rows are written behind those that count, brought to the disk, and then named.
After a kill at any moment the index is as before or as after, and rows that nobody names are written over. Writers wait
for each other, a video at a time; readers see whole videos only.
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
_OURS = re.compile(r"index\.sqlite(-\w+)?|model-\d+-\d+\.rows")
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

_OF_SQLITE = ("", "-journal", "-wal", "-shm")  # what it opens by name
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file, which SQLite may delete
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


class Store:
    """The index in ``folder``, made where there is none if ``create``; a context manager.

    Every method raises StoreError where the index cannot be read or written, is damaged, or is kept busy too long.
    """

    def __init__(self, folder: Path, create: bool = False):
        self.folder, path = folder, folder / "index.sqlite"
        with self._understood():
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            elif not os.path.lexists(path):
                raise _no_index(folder)
            self._base = _connect(path, LOCK_SECONDS, create)
        try:
            self._check_format(create)
        except BaseException:
            self._base.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self._base.close()

    def _check_format(self, create: bool) -> None:
        [(version,)] = self._all("PRAGMA user_version")
        if version == 0 and create:
            with self._transaction():
                if self._all("PRAGMA user_version") == [(0,)]:  # another run may have been faster
                    for statement in _TABLES.split(";"):
                        self._base.execute(statement)
                    self._base.execute(f"PRAGMA user_version = {FORMAT}")
        elif version == 0:
            raise _no_index(self.folder)
        elif version != FORMAT:
            raise StoreError(
                f"the index in {str(self.folder)!r} has format {version}; this version reads {FORMAT}",
                "choose another folder: --index FOLDER",
            )
        with self._understood():
            _check_tables(self._base)

    def collections(self) -> list[Collection]:
        """What it holds, a model each."""
        with self._understood():
            return [Collection.of_row(row) for row in self._base.execute("SELECT * FROM collections ORDER BY id")]

    def find(self, model: str, *, fingerprint: str | None = None, weights: str | None = None) -> Collection:
        """What it holds of the model of this fingerprint, or of these weights. UsageError that names others, without.

        ``model`` is its name, for the message.
        """
        held = self.collections()
        for known in held:
            if fingerprint == known.fingerprint or (weights is not None and weights == known.weights):
                return known
        names = ", ".join(dict.fromkeys(known.model for known in held)) or "no model"
        was = " as it is now" if any(known.model == model for known in held) else ""
        raise UsageError(
            f"the index in {str(self.folder)!r} has nothing of {model}{was}: it has {names}",
            f"xclip index FOLDER --model {model}" + (f", or take --model {held[0].model}" if held and not was else ""),
        )

    def begin(self, new: Collection) -> Collection:
        """What it holds of a model, nothing yet if that is new. Raises UsageError where it was made in another way."""
        values = new.model, new.fingerprint, new.weights, new.prompted, json.dumps(new.recipe)
        with self._transaction():
            self._base.execute(
                "INSERT INTO collections (model, fingerprint, weights, prompted, recipe) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                values,
            )
        known = self.find(new.model, fingerprint=new.fingerprint)
        known.require(new.recipe)
        return known

    def entry(self, known: Collection, path: str) -> Entry | None:
        """The video of this real path, if it is here."""
        found = self._all(f"{_ENTRY} AND path = ?", known.id, os.fsencode(path))
        return self._entries(found)[0] if found else None

    def holder(self, known: Collection, row: int) -> Entry | None:
        """The video that a row is of; None where that was lost or replaced."""
        found = self._all(f"{_ENTRY} AND first <= ? ORDER BY first DESC LIMIT 1", known.id, row)
        entries = [entry for entry in self._entries(found) if row < entry.first + entry.count]
        if entries and entries[0].first + entries[0].count > self._now(known).num_rows:
            raise self._damaged("a video has windows that are not there")
        return entries[0] if entries else None

    def of_size(self, known: Collection, size: int) -> list[Entry]:
        """The videos of so many bytes."""
        return self._entries(self._all(f"{_ENTRY} AND size = ?", known.id, size))

    def spans(self, known: Collection, place: str | None, since_ns: int) -> list[tuple[int, int]]:
        """[first, stop) of the rows of videos, in order: of those in a folder, or of one, given by its real path.

        None: anywhere. Only files changed at that time or later count.
        """
        query = "SELECT first, first + count FROM videos WHERE collection = ? AND mtime_ns >= ?"
        values = [known.id, since_ns]
        if place is not None:
            inside = os.fsencode(os.path.join(place, ""))
            query += " AND (path = ? OR path >= ? AND path < ?)"
            values += os.fsencode(place), inside, inside[:-1] + bytes([inside[-1] + 1])
        spans = self._all(f"{query} ORDER BY first", *values)
        table = np.array(spans or np.empty((0, 2), int))
        if table.dtype.kind != "i" or table.min(initial=0) < 0 or table.max(initial=0) > self._now(known).num_rows:
            raise self._damaged("a video has windows that are not there")
        return spans

    def timeline(self, entry: Entry) -> tuple[np.ndarray, float]:
        """The windows of a video, float64 (W, 2), and where it ends, in seconds."""
        [(spans, end)] = self._all("SELECT spans, end_seconds FROM videos WHERE id = ?", entry.id)
        with self._understood():
            return to_spans(spans, entry.count, end), end

    def rows(self, known: Collection) -> Rows:
        """The features of its windows; to be used while it is `reading`."""
        now = self._now(known)
        return Rows(self._file(now), now.width, now.num_rows)

    def read(self, known: Collection, entry: Entry) -> Embeddings:
        """All that is kept of a video, while it is `reading`."""
        rows = self.rows(known)
        [(start, duration, end, reader, warnings, spans, scenes, whole, patches)] = self._all(
            "SELECT start_seconds, duration_seconds, end_seconds, reader, warnings, spans, scenes, whole, patches"
            " FROM videos WHERE id = ?",
            entry.id,
        )
        with self._understood():
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

    def add(self, known: Collection, path: str, stamp: Stamp, sha256: str, video: Embeddings) -> None:
        """Adds a video, or takes it anew. It is here, whole and on the disk, when this returns."""
        warnings = json.dumps([video.warnings, video.timeline_warnings])
        arrays = (video.spans, "<f8"), (video.scenes, "<i8"), (video.whole, "<f4"), (video.patches, "<f4")
        blobs = [None if values is None else values.astype(kind).tobytes() for values, kind in arrays]
        with self._transaction():
            now = self._now(known)
            append(self._file(now), now.num_rows, video.windows)
            place, count = os.fsencode(path), len(video.windows)
            self._base.execute("DELETE FROM videos WHERE collection = ? AND path = ?", (known.id, place))
            said = video.start_seconds, video.duration_seconds, video.end_seconds, video.reader, warnings
            self._base.execute(_ADD, (known.id, place, *stamp, sha256, now.num_rows, count, *said, *blobs))
            grown = count, video.windows.shape[1], known.id
            self._base.execute("UPDATE collections SET num_rows = num_rows + ?, width = ? WHERE id = ?", grown)

    def rename(self, entry: Entry, path: str, stamp: Stamp) -> None:
        """The same bytes lie at another path now, or have another time of change."""
        values = os.fsencode(path), *stamp, entry.id
        with self._transaction():
            self._base.execute("UPDATE OR REPLACE videos SET path = ?, size = ?, mtime_ns = ? WHERE id = ?", values)

    def status(self, known: Collection) -> Status:
        """How much it holds of a model; asks the disk whether every file is there."""
        entries = self.videos(known)
        [(seconds,)] = self._all("SELECT total(end_seconds - start_seconds) FROM videos WHERE collection = ?", known.id)
        gone = sum(entry.is_gone for entry in entries)
        size = known.num_rows * row_bytes(known.width)
        return Status(len(entries), gone, sum(entry.count for entry in entries), seconds, size)

    def num_bytes(self) -> int:
        """What it takes on the disk."""
        return sum(file.lstat().st_size for file in self.folder.iterdir() if _OURS.fullmatch(file.name))

    def videos(self, known: Collection | None = None) -> list[Entry]:
        """The videos of one model, or of all models."""
        collections = self.collections() if known is None else [known]
        return [entry for known in collections for entry in self._entries(self._all(_ENTRY, known.id))]

    def prune(self, paths: Iterable[str]) -> int:
        """Takes those of these videos out whose files are gone, and gives their room back; tells how many they were."""
        wanted = set(paths)
        with self._transaction():
            gone = [(entry.id,) for entry in self.videos() if entry.path in wanted and entry.is_gone]
            self._base.executemany("DELETE FROM videos WHERE id = ?", gone)
            for row in self._base.execute("SELECT * FROM collections").fetchall():
                self._compact(Collection.of_row(row))
        with self._transaction():  # nobody writes, and who reads has the file open
            named = {self._file(known).name for known in self.collections()}
            for file in self.folder.glob("*.rows"):
                if _OURS.fullmatch(file.name) and file.name not in named:
                    with suppress(OSError):
                        file.unlink()
        with self._understood():
            self._base.execute("VACUUM")
        return len(gone)

    def _compact(self, known: Collection) -> None:
        """Writes the rows that count to a new file, where some do not."""
        videos = self._all("SELECT first, count, id FROM videos WHERE collection = ? ORDER BY first", known.id)
        num_rows = sum(count for _, count, _ in videos)
        if num_rows == known.num_rows:
            return
        spans = [(first, first + count) for first, count, _ in videos]
        target = self.folder / _rows_name(known.id, known.generation + 1)
        copy(self.rows(known), spans, target)
        first = 0
        for _, count, number in videos:
            self._base.execute("UPDATE videos SET first = ? WHERE id = ?", (first, number))
            first += count
        values = num_rows, known.id
        self._base.execute("UPDATE collections SET generation = generation + 1, num_rows = ? WHERE id = ?", values)

    def _now(self, known: Collection) -> Collection:
        [row] = self._all("SELECT * FROM collections WHERE id = ?", known.id)
        with self._understood():
            return Collection.of_row(row)

    def _file(self, known: Collection) -> Path:
        return self.folder / _rows_name(known.id, known.generation)

    def _entries(self, rows: list[tuple]) -> list[Entry]:
        with self._understood():
            return [Entry.of_row(row) for row in rows]

    def _damaged(self, what: str) -> StoreError:
        what = f"the index in {str(self.folder)!r} is damaged: {what}"
        return StoreError(what, "delete the folder and index again")

    def _all(self, query: str, *values) -> list[tuple]:
        with self._understood():
            return self._base.execute(query, values).fetchall()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One view of the index for the body, whatever other runs write; they wait for it, so it has to be short."""
        with self._transaction("DEFERRED"):
            yield

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """All that the body writes, or none of it; no other run writes meanwhile."""
        with self._understood():
            if kind == "IMMEDIATE":
                self._base.execute("PRAGMA query_only = OFF")
            self._base.execute(f"BEGIN {kind}")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    @contextmanager
    def _understood(self) -> Iterator[None]:
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


def _no_index(folder: Path) -> StoreError:
    return StoreError(f"there is no index in {str(folder)!r}", "make one with: xclip index FOLDER")


def _connect(path: Path, timeout_seconds: float, create: bool = False) -> sqlite3.Connection:
    """Open the database, for reading only until `PRAGMA query_only = OFF`.

    Raises ValueError where one of its files is a link or no file, or where its journal names another file.
    """
    for suffix in _OF_SQLITE:
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
    base = sqlite3.connect(address, timeout_seconds, uri=True, isolation_level=None)
    base.text_factory = bytes.decode
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
        base.execute(f"PRAGMA {setting}")
    return base


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


def _check_tables(base: sqlite3.Connection) -> None:
    """Raise ValueError unless the database has the tables of an index and nothing else, such as a trigger."""
    with closing(sqlite3.connect(":memory:")) as own:
        own.executescript(_TABLES)
        if base.execute(_SCHEMA).fetchall() != own.execute(_SCHEMA).fetchall():
            raise ValueError("its tables are not those of an index")
