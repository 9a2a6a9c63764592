"""Videos that never were: files of a few bytes, and features for them out of a random number generator."""

import os

import numpy as np

from xclip_cli.index.entries import Collection, Recipe, Stamp
from xclip_cli.index.store import Store
from xclip_cli.tagger.embeddings import Embeddings

WIDTH = 16
RECIPE = Recipe(4.0, 2.0, False, "float32", "auto")
MODEL = Collection(0, "toy", "f" * 64, "w" * 64, False, RECIPE)


def features(number: int, count: int = 5, patches: int | None = None) -> Embeddings:
    """Of a video of ``count`` windows; the same for the same number."""
    rng = np.random.default_rng(number)
    starts = 2.0 * np.arange(count)
    return Embeddings(
        whole=rng.standard_normal(WIDTH, np.float32),
        patches=None if patches is None else rng.standard_normal((patches, WIDTH), np.float32),
        windows=rng.standard_normal((count, WIDTH), np.float32),
        spans=np.stack([starts, starts + 4], axis=1),
        scenes=np.arange(count),
        start_seconds=0.0,
        duration_seconds=2.0 * count + 2,
        end_seconds=2.0 * count + 1.5,
        warnings=("whole",),
        timeline_warnings=("windows", "two"),
        reader="opencv",
    )


def add(store: Store, known: Collection, path, video: Embeddings) -> None:
    """With a file at that path, made where there is none."""
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.fsencode(path))
    store.add(known, os.path.realpath(path), Stamp.of(path), "0" * 64, video)


def assert_same(found: Embeddings, expected: Embeddings) -> None:
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value)
            assert getattr(found, name).dtype == value.dtype
        else:
            assert getattr(found, name) == value, name
