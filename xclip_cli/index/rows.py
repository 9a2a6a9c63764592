"""The features of windows in one flat file: one float32 row each, E features and then their norm.

The file is mapped into memory. Comparing all rows takes less time than reading them from a database would.
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

_SHARE_ROWS = 1 << 14  # rows per task of a thread
_MOST_THREADS = 8


def row_bytes(width: int) -> int:
    """Return the size of a row of ``width`` features."""
    return 4 * (width + 1)


class Rows:
    """``num_rows`` rows of ``width`` features. Raises StoreError if the file is shorter or missing."""

    def __init__(self, path: Path, width: int, num_rows: int):
        self.width, self.num_rows, self._path = width, num_rows, path
        size = 0
        with suppress(FileNotFoundError), open(path, "rb", opener=open_itself) as file:
            size = os.fstat(file.fileno()).st_size
        if size < num_rows * row_bytes(width):
            raise self._damaged(f"it has {size} bytes of {num_rows} windows")

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{str(self._path)!r} is damaged: {what}", "delete the index and index again")

    def read(self, first: int, count: int) -> np.ndarray:
        """Return the features float32 (count, E) of rows."""
        if first + count > self.num_rows:
            raise self._damaged(f"it has {self.num_rows} windows, not {first + count}")
        numbers = count * (self.width + 1)
        with open(self._path, "rb", opener=open_itself) as file:
            rows = np.fromfile(file, np.float32, numbers, offset=first * row_bytes(self.width))
        return np.array(rows.reshape(count, self.width + 1)[:, :-1])

    def cosines(self, query: np.ndarray, spans: Iterable[tuple[int, int]]) -> np.ndarray:
        """Return the cosines float32 (num_rows,) of the rows in spans [first, stop) with a query (E,); -inf for others.

        The cosine of a row does not depend on which other rows are compared.
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
                # einsum, not BLAS: threads inside threads would wait for each other
                values = np.einsum("ij,j->i", rows[:, :-1], query) / rows[:, -1]
                if not (np.abs(values) <= 1.001).all():
                    raise self._damaged("features or lengths are not those of a window")
            cosines[slice(*share)] = values

        with ThreadPoolExecutor(min(_MOST_THREADS, num_cores())) as pool:
            list(pool.map(compare, _shares(spans)))
        return cosines


def append(path: Path, num_rows: int, features: np.ndarray) -> None:
    """Write features (n, E) after the first ``num_rows`` rows, replacing any that follow, and flush them to disk."""
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
    """Write the rows of spans [first, stop) to a new file."""
    target.unlink(missing_ok=True)  # left by a process that was killed
    done = 0
    for first, stop in _shares(spans):
        append(target, done, rows.read(first, stop - first))
        done += stop - first


def _shares(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the same rows in spans of at most _SHARE_ROWS; adjacent spans, which are in order, are merged first."""
    joined: list[list[int]] = []
    for first, stop in spans:
        if joined and joined[-1][1] == first:
            joined[-1][1] = stop
        else:
            joined.append([first, stop])
    for first, stop in joined:
        for start in range(first, stop, _SHARE_ROWS):
            yield start, min(start + _SHARE_ROWS, stop)
