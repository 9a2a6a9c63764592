"""What an index says of its models and videos, and how it knows a file again."""

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xclip_cli.errors import UsageError
from xclip_cli.files import checked, from_json

_INTEGERS = (-(2**63), 2**63 - 1)  # of SQLite


class Recipe(NamedTuple):
    """What, besides the model, decides the features that are kept."""

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
    """What an index holds of one model: ``num_rows`` windows of ``width`` features, those of lost videos included.

    ``weights`` is the SHA-256 of the model's file where nothing beside it decides the answers, else None. ``prompted``:
    the network has video-specific prompts. ``generation`` counts how often the rows were written anew.
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
        """From a row of the database. Raises ValueError or TypeError where it is damaged."""
        number, model, fingerprint, weights, prompted, recipe, *counts = row
        prompted = bool((0, 1).index(prompted))
        return checked((number, model, fingerprint, weights, prompted, from_json(recipe, Recipe), *counts), cls)

    def require(self, recipe: Recipe) -> None:
        """Raises UsageError where features of this recipe are wanted and others are kept."""
        if self.recipe != recipe:
            raise UsageError(
                f"the index has {self.model} with {self.recipe}, not with {recipe}",
                "take the options that it has, or another --index FOLDER",
            )


class Stamp(NamedTuple):
    """How a file looks from outside."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> "Stamp | None":
        """None where there is no such file. A time that SQLite cannot keep is the nearest that it can."""
        try:
            state = os.stat(path)
        except (OSError, ValueError):
            return None
        return cls(state.st_size, min(max(state.st_mtime_ns, _INTEGERS[0]), _INTEGERS[1]))


class Entry(NamedTuple):
    """A video of an index, by its real path: its file as it was read, and its windows, [first, first + count)."""

    id: int
    path: str
    stamp: Stamp
    sha256: str
    first: int
    count: int

    @classmethod
    def of_row(cls, row: tuple) -> "Entry":
        """From a row of the database. Raises ValueError or TypeError where it is damaged."""
        number, path, size, mtime_ns, *rest = row
        return checked((number, os.fsdecode(path), (size, mtime_ns), *rest), cls)

    @property
    def is_gone(self) -> bool:
        return Stamp.of(self.path) is None

    @property
    def holds(self) -> bool:
        """Whether the file is there as it was read."""
        return Stamp.of(self.path) == self.stamp


class Status(NamedTuple):
    """Of a collection: videos, how many of them are gone, windows, seconds, and bytes of windows on the disk."""

    videos: int
    gone: int
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
    """Windows of a video that ends there, if they are in order of time."""
    spans, end = to_numbers(blob, "<f8").reshape(count, 2), checked(end_seconds, float, "end_seconds")
    if np.abs(spans).max() > 1e11 or (spans[:, 0] > spans[:, 1]).any() or (np.diff(spans[:, 0], append=end) < 0).any():
        raise ValueError("windows of a video are not in order of time")
    return spans
