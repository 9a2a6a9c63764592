"""The database of an index, which somebody else may have made: nothing outside of its folder is written or run."""

import os
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path

from xclip_cli.files import NO_LOCKS

_OF_SQLITE = ("", "-journal", "-wal", "-shm")  # what it opens by name
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file, which SQLite may delete
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


def connect(path: Path, timeout_seconds: float, create: bool = False) -> sqlite3.Connection:
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


def make_tables(base: sqlite3.Connection, tables: str) -> None:
    for statement in tables.split(";"):
        base.execute(statement)


def check_tables(base: sqlite3.Connection, tables: str) -> None:
    """Raise ValueError unless the database has what `make_tables` makes and nothing else, such as a trigger."""
    with closing(sqlite3.connect(":memory:")) as own:
        make_tables(own, tables)
        if base.execute(_SCHEMA).fetchall() != own.execute(_SCHEMA).fetchall():
            raise ValueError("its tables are not those of an index")
