"""One labelled clip: its times, its split and its fold."""

import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xclip_cli.errors import UsageError

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation"),
    "test": ("test", "testing"),
}
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """A labelled clip: a video, or [start_seconds, end_seconds) of it; ``split`` where its list says one."""

    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str | None = None

    @property
    def has_side(self) -> bool:
        """Whether mirroring the picture would make the label wrong."""
        return bool(_SIDE.search(self.label.replace("_", " ")))


def split_named(name: str) -> str | None:
    """The split that a word such as `Train` or `validation` means; None for any other word."""
    return next((split for split, names in _SPLIT_NAMES.items() if name.casefold() in names), None)


def label_names(samples: Iterable[Sample]) -> list[str]:
    """The labels, each once, in alphabetical order: their places are the class numbers."""
    return sorted({sample.label for sample in samples})


def as_label(text: str) -> str:
    """A label as its author sees it: letters with accents are one spelling, however a system writes them."""
    return unicodedata.normalize("NFC", text).strip()


def seconds(where: str, name: str, text: str | None) -> float | None:
    """Return the seconds in a cell: a number or h:mm:ss; None for an empty cell. Raises UsageError."""
    if not text:
        return None
    if _THOUSANDS.fullmatch(text):
        raise UsageError(
            f"{where}: {name} is {text!r}: it must be a number of seconds, and the comma may be decimal or not",
            f"write {text.replace(',', '.')} or {text.replace(',', '')}",
        )
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, rest = float(clock[1] or 0), int(clock[2]), float(clock[3].replace(",", "."))
        value = 3600 * hours + 60 * minutes + rest if minutes < 60 and rest < 60 else math.nan
    else:
        try:
            value = float(text.replace(",", ".", 1).replace("_", "x"))
        except ValueError:
            value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{where}: {name} is {text[:60]!r}: it must be a number of seconds, 0 or more, or h:mm:ss")
    return value


def assign_folds(samples: Sequence[Sample], sources: Sequence[int | str], folds: int, seed: int) -> list[int]:
    """Return the fold, from 0, of each sample: classes about evenly spread, clips of one source in one fold.

    There are at most as many folds as sources.
    """
    groups = by_source(samples, sources)
    folds, fold_of = min(folds, len(groups)), {}
    sizes = [Counter() for _ in range(folds)]
    for source in sorted(random.Random(seed).sample(sorted(groups), len(groups)), key=lambda s: groups[s][0].label):
        labels = Counter(sample.label for sample in groups[source])
        fold = min(range(folds), key=lambda i: (sum(sizes[i][label] for label in labels), sizes[i].total()))
        fold_of[source] = fold
        sizes[fold] += labels
    return [fold_of[source] for source in sources]


def by_source(samples: Sequence[Sample], sources: Sequence[int | str]) -> dict[int | str, list[Sample]]:
    """The samples of each source."""
    groups = defaultdict(list)
    for sample, source in zip(samples, sources, strict=True):
        groups[source].append(sample)
    return groups
