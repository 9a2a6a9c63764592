"""What the bundled model is chosen by: clips and photos of names that a run was never shown, and the names to choose among.

Two folds hold back different names; README.md says why each set is here.
"""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from data import Photo, photos, spaced
from torch import Tensor

FOLDS, SAME, NUM_FRAMES = 2, 0.7, 8
MOST_PHOTOS = {"har15": 40, "sports100": 25, "bar": 60, "yoga5": 60}  # of one name
SETS = yaml.safe_load(Path(__file__).with_name("protocol.yaml").read_text())


@dataclass(frozen=True)
class Task:
    """Clips as tuples of places in the caches (``Caches``), the label of each, and the set's own names."""

    clips: list[tuple[int, ...]]
    labels: list[str]
    names: list[str]


class Caches:
    """Trunk maps and pooled features by place: photos by their row, then the frames of the clips of actions.csv."""

    def __init__(self, data: Path, work: Path):
        self.photos = photos(data)
        with (data / "actions" / "actions.csv").open(newline="") as file:
            self.actions = list(csv.DictReader(file))
        self.work, self.clip_maps = work, np.load(work / "actions.npy", mmap_mode="r")
        self.views = [np.load(path, mmap_mode="r") for path in sorted(work.glob("maps?.npy"))]

    def pooled(self, view: int) -> Tensor:
        """float32 (places, 1280); real clips have one view only."""
        parts = [np.load(self.work / f"pooled{view}.npy"), np.load(self.work / "actions-pooled.npy")]
        return torch.from_numpy(np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])).float()

    def maps(self, places: list[int], view: int = 0) -> np.ndarray:
        """float16 (N, 64, 352)."""
        count = len(self.photos)
        frames = self.clip_maps.reshape(-1, *self.clip_maps.shape[2:])
        return np.stack([frames[p - count] if p >= count else self.views[view][p] for p in places])

    def action_clips(self) -> list[tuple[int, ...]]:
        """Places of the frames of every clip of actions.csv."""
        first = len(self.photos)
        return [tuple(range(first + NUM_FRAMES * k, first + NUM_FRAMES * (k + 1))) for k in range(len(self.actions))]


def gym_name(photo: Photo) -> str | None:
    """The common name of an exercise, if it has one."""
    label = photo.label.lower()
    return next((name for name, pattern in SETS["gym"].items() if re.search(pattern, label)), None)


def everyday(rows: list[Photo]) -> dict[int, str]:
    """Row number -> action, where two captions or more speak of it and of no other."""
    shown = {}
    for number, row in enumerate(rows):
        hits = {name: sum(bool(re.search(p, c, re.I)) for c in row.captions) for name, p in SETS["everyday"].items()}
        found = [name for name, count in hits.items() if count >= 2]
        if len(found) == 1:
            shown[number] = found[0]
    return shown


def held_names(rows: list[Photo], fold: int) -> set[str]:
    """The names of HAR, yoga, BAR, gym and of a fifth of the sports that a run of this fold is not shown."""
    names = {source: sorted({r.label for r in rows if r.source == source}) for source in ("har15", "yoga5", "bar")}
    sports = sorted({r.label for r in rows if r.source == "sports100"})
    held = [some[fold::FOLDS] for some in (*names.values(), sorted(SETS["gym"]))]
    return set().union(*held, sports[2 * fold :: 5])


def held_back(rows: list[Photo], fold: int, plain: Callable[[list[str]], Tensor]) -> set[int]:
    """Rows that a run of this fold may not learn from; of other sets, those whose label means the same too.

    ``plain``: texts -> unit MiniLM embeddings, by which two names mean the same from a cosine of ``SAME`` on.
    """
    held = sorted(held_names(rows, fold))
    labels = sorted({r.label for r in rows if r.label and r.source not in ("imagenet", "exercises")})
    same = {labels[i] for i in (plain(labels) @ plain(held).T >= SAME).any(1).nonzero().flatten().tolist()}
    gone = {i for i, r in enumerate(rows) if r.label in same or (r.source == "exercises" and gym_name(r) in held)}
    return gone | set(everyday(rows)) | {i for i, r in enumerate(rows) if r.split == "val"}


def tasks(caches: Caches, fold: int) -> dict[str, Task]:
    """The zero-shot sets of a fold. Everyday actions and the real clips are the same in both."""
    rows, held = caches.photos, held_names(caches.photos, fold)
    made = {}
    for source, most in MOST_PHOTOS.items():
        some = [i for i, r in enumerate(rows) if r.source == source and r.label in held]
        some = [i for name in sorted(held) for i in _spread([i for i in some if rows[i].label == name], most)]
        names = sorted({r.label for r in rows if r.source == source})
        made[source] = Task([(i,) for i in some], [rows[i].label for i in some], names)
    shown = everyday(rows)
    made["everyday"] = Task([(i,) for i in shown], list(shown.values()), sorted(SETS["everyday"]))
    pairs = {}
    for i, row in enumerate(rows):
        if row.source == "exercises" and gym_name(row) in held:
            pairs.setdefault(row.label, []).append(i)
    pairs = [tuple(pair) for pair in pairs.values()]
    made["gym"] = Task(pairs, [gym_name(rows[pair[0]]) for pair in pairs], sorted(SETS["gym"]))
    labels = [row["label"] for row in caches.actions]
    made["real clips"] = Task(caches.action_clips(), labels, sorted(set(labels)))
    return made


def long_lists(data: Path, caches: Caches) -> dict[str, list[str]]:
    """The lists that the names of a set are mixed into: the names of all sets, and kinetics400."""
    rows = caches.photos
    own = {r.label for r in rows if r.label and r.source not in ("imagenet", "exercises", "caltech101")}
    own |= {row["label"] for row in caches.actions} | set(SETS["gym"]) | set(SETS["everyday"])
    kinetics = {spaced(line) for line in (data / "labels" / "kinetics400.txt").open() if line.strip()}
    return {"all": sorted(own), "k400": sorted(kinetics)}


def _spread(some: list[int], most: int) -> list[int]:
    return some[:: max(1, -(-len(some) // most))]
