"""The features of windows in one flat file: a row of float32 each, E features and then their length.

It is mapped into memory, and all of it is compared in less time than a database takes to hand the same numbers over.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from xclip_cli.errors import StoreError
from xclip_cli.files import open_itself
from xclip_cli.settings import num_cores

_SHARE_ROWS = 1 << 14  # what a thread takes at a time
_MOST_THREADS = 8


def row_bytes(width: int) -> int:
    """Of a row of so many features."""
    return 4 * (width + 1)


class Rows:
    """``num_rows`` rows of ``width`` features. Raises StoreError where the file is shorter than that, or not there."""

    def __init__(self, path: Path, width: int, num_rows: int):
        self.width, self.num_rows, self._path = width, num_rows, path
        found = 0
        with suppress(FileNotFoundError), open(path, "rb", opener=open_itself) as file:
            found = os.fstat(file.fileno()).st_size
        if found < num_rows * row_bytes(width):
            raise self._damaged(f"it has {found} bytes of {num_rows} windows")

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{str(self._path)!r} is damaged: {what}", "delete the index and index again")

    def read(self, first: int, count: int) -> np.ndarray:
        """The features float32 (count, E) of rows."""
        if first + count > self.num_rows:
            raise self._damaged(f"it has {self.num_rows} windows, not {first + count}")
        numbers = count * (self.width + 1)
        with open(self._path, "rb", opener=open_itself) as file:
            rows = np.fromfile(file, np.float32, numbers, offset=first * row_bytes(self.width))
        return np.array(rows.reshape(count, self.width + 1)[:, :-1])

    def cosines(self, query: np.ndarray, spans: Iterable[tuple[int, int]]) -> np.ndarray:
        """Cosines float32 (num_rows,) of the rows of spans [first, stop) with a query (E,); of others -inf.

        A row's cosine is the same number whatever else is compared.
        """
        query = (query / np.linalg.norm(query)).astype(np.float32)
        cosines = np.full(self.num_rows, -np.inf, np.float32)
        if not self.num_rows:
            return cosines
        if len(query) != self.width:
            raise self._damaged(f"it has {self.width} features of a window, the model {len(query)}")
        with open(self._path, "rb", opener=open_itself) as file:
            table = np.memmap(file, np.float32, "r", shape=(self.num_rows, self.width + 1))

        def compare(share: tuple[int, int]) -> None:
            rows = table[slice(*share)]
            with np.errstate(all="ignore"):
                # einsum and not BLAS, whose own threads would wait for each other
                found = np.einsum("ij,j->i", rows[:, :-1], query) / rows[:, -1]
                if not (np.abs(found) <= 1.001).all():
                    raise self._damaged("features or lengths are not those of a window")
            cosines[slice(*share)] = found

        with ThreadPoolExecutor(min(_MOST_THREADS, num_cores())) as pool:
            list(pool.map(compare, _shares(spans)))
        return cosines


def append(path: Path, num_rows: int, features: np.ndarray) -> None:
    """Writes features (n, E) behind the rows that count, over any others, and brings them to the disk."""
    lengths = np.maximum(np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True), np.finfo(np.float32).tiny)
    rows = np.concatenate([features, lengths], axis=1, dtype=np.float32, casting="same_kind")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    with open(open_itself(str(path), flags), "r+b", buffering=0) as file:
        start = num_rows * row_bytes(features.shape[1])
        if os.fstat(file.fileno()).st_size < start:
            raise OSError(errno.EINVAL, f"{path.name} is shorter than its {num_rows} windows")
        file.seek(start)
        if file.write(memoryview(rows).cast("B")) != rows.nbytes:
            raise OSError("the disk is full")
        os.fsync(file.fileno())


def copy(rows: Rows, spans: Iterable[tuple[int, int]], target: Path) -> None:
    """Writes the rows of spans [first, stop), one behind the other, to a file of their own."""
    target.unlink(missing_ok=True)  # of a run that was killed
    done = 0
    for first, stop in _shares(spans):
        append(target, done, rows.read(first, stop - first))
        done += stop - first


def _shares(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same rows: adjoining spans, which are in order, as one, and of those no more than a share at a time."""
    joined: list[list[int]] = []
    for first, stop in spans:
        if joined and joined[-1][1] == first:
            joined[-1][1] = stop
        else:
            joined.append([first, stop])
    for first, stop in joined:
        for start in range(first, stop, _SHARE_ROWS):
            yield start, min(start + _SHARE_ROWS, stop)
