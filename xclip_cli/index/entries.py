"""Rows of the database as typed tuples: collections, videos, and the arrays stored in them."""

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xclip_cli.errors import UsageError
from xclip_cli.files import checked, from_json

_INTEGERS = (-(2**63), 2**63 - 1)  # of SQLite


class Recipe(NamedTuple):
    """The settings that decide the features, besides the model."""

    window_seconds: float
    stride_seconds: float
    scenes: bool
    dtype: str
    reader: str

    def __str__(self) -> str:
        """As options of `xclip index`."""
        how = f"--window {self.window_seconds:g} --stride {self.stride_seconds:g}" + " --scenes" * self.scenes
        return f"{how} --dtype {self.dtype} --reader {self.reader}"


@dataclass(frozen=True)
class Collection:
    """The part of an index that one model made: ``num_rows`` windows of ``width`` features.

    ``weights`` is the SHA-256 of the model's file if that file alone defines the model, else None. ``prompted``: the
    network has video-specific prompts. ``generation`` counts how often the rows were rewritten. ``num_rows`` includes
    rows of videos that were removed or replaced.
    """

    id: int
    model: str
    fingerprint: str
    weights: str | None
    prompted: bool
    recipe: Recipe
    width: int = 0
    generation: int = 0
    num_rows: int = 0

    @classmethod
    def of_row(cls, row: tuple) -> "Collection":
        """Return a row of the database, checked. Raises ValueError or TypeError if it is damaged."""
        number, model, fingerprint, weights, prompted, recipe, *counts = row
        prompted = bool((0, 1).index(prompted))
        return checked((number, model, fingerprint, weights, prompted, from_json(recipe, Recipe), *counts), cls)

    def require(self, recipe: Recipe) -> None:
        """Raise UsageError unless the collection was made with this recipe."""
        if self.recipe != recipe:
            raise UsageError(
                f"the index has {self.model} with {self.recipe}, not with {recipe}",
                "take the options that it has, or another --index FOLDER",
            )


class Stamp(NamedTuple):
    """Size and modification time of a file: if both are the same, the file is taken as unchanged."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> "Stamp | None":
        """Return the stamp of a file, None if it is missing. The time is clipped to what SQLite can store."""
        try:
            state = os.stat(path)
        except (OSError, ValueError):
            return None
        return cls(state.st_size, min(max(state.st_mtime_ns, _INTEGERS[0]), _INTEGERS[1]))


class Entry(NamedTuple):
    """A video of an index: the real path and state of its file when read, and its rows [first, first + count)."""

    id: int
    path: str
    stamp: Stamp
    sha256: str
    first: int
    count: int

    @classmethod
    def of_row(cls, row: tuple) -> "Entry":
        """Return a row of the database, checked. Raises ValueError or TypeError if it is damaged."""
        number, path, size, mtime_ns, *rest = row
        return checked((number, os.fsdecode(path), (size, mtime_ns), *rest), cls)

    @property
    def is_missing(self) -> bool:
        return Stamp.of(self.path) is None

    @property
    def is_unchanged(self) -> bool:
        """Whether the file exists and has the size and time that it had when it was read."""
        return Stamp.of(self.path) == self.stamp


class Status(NamedTuple):
    """Size of a collection: videos, how many files are missing, windows, seconds, bytes of windows on disk."""

    videos: int
    missing: int
    windows: int
    seconds: float
    num_bytes: int


def to_numbers(blob: bytes, kind: str) -> np.ndarray:
    if not blob:
        raise ValueError("a video has no features")
    return require_finite(np.frombuffer(blob, kind).copy())


def require_finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("features of a video are no finite numbers")
    return values


def to_spans(blob: bytes, count: int, end_seconds: float) -> np.ndarray:
    """Return the windows of a video as float64 (count, 2). Raises ValueError unless they are in order of time."""
    spans, end = to_numbers(blob, "<f8").reshape(count, 2), checked(end_seconds, float, "end_seconds")
    if np.abs(spans).max() > 1e11 or (spans[:, 0] > spans[:, 1]).any() or (np.diff(spans[:, 0], append=end) < 0).any():
        raise ValueError("windows of a video are not in order of time")
    return spans
