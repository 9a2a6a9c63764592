"""One labelled clip, and the splits that it may belong to."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation"),
    "test": ("test", "testing"),
}
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
