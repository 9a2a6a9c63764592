"""What the bundled model is chosen by: clips and photos of names never shown to a run, and the names to choose among.

Two folds hold back different names; README.md says why each set is here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from data import Photo, clips, photos, spaced
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
    """Trunk maps and pooled features by place: photos by their row, then every frame of the real clips."""

    def __init__(self, data: Path, work: Path):
        self.photos, self.clips, self.work = photos(data), clips(data), work
        self.views = [np.load(path, mmap_mode="r") for path in sorted(work.glob("maps?.npy"))]
        self.clip_maps = np.load(work / "maps-clips.npy", mmap_mode="r")  # (clips, T, 64, 352)
        self.pooled = [self._pooled(view) for view in range(len(self.views))]

    def _pooled(self, view: int) -> Tensor:
        # Of the real clips there is one view only.
        parts = [np.load(self.work / f"pooled{view}.npy"), np.load(self.work / "pooled-clips.npy")]
        return torch.from_numpy(np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])).float()

    def maps(self, places: list[int], view: int = 0) -> np.ndarray:
        """float16 (N, 64, 352)."""
        count = len(self.photos)
        frames = self.clip_maps.reshape(-1, *self.clip_maps.shape[2:])
        return np.stack([frames[p - count] if p >= count else self.views[view][p] for p in places])

    def frames(self, clip: int) -> tuple[int, ...]:
        """Places of the frames of a real clip."""
        first = len(self.photos) + NUM_FRAMES * clip
        return tuple(range(first, first + NUM_FRAMES))


def gym_name(photo: Photo) -> str | None:
    """The common name of an exercise, if it has one."""
    label = photo.label.lower()
    return next((name for name, pattern in SETS["gym"].items() if re.search(pattern, label)), None)


def everyday(rows: list[Photo]) -> dict[int, str]:
    """Row number -> action, where two captions or more speak of it and of no other."""
    shown = {}
    for number, row in enumerate(rows):
        if not row.captions:
            continue
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


def held_back(caches: Caches, fold: int, plain: Callable[[list[str]], Tensor]) -> set[int]:
    """Places that a run of this fold may not learn from; of other sets, those whose label means the same too.

    ``plain``: texts -> unit MiniLM embeddings, by which two names mean the same from a cosine of ``SAME`` on.
    """
    rows = caches.photos
    held = sorted(held_names(rows, fold))
    labels = sorted({r.label for r in rows if r.label and r.source not in ("imagenet", "exercises")})
    same = {labels[i] for i in (plain(labels) @ plain(held).T >= SAME).any(1).nonzero().flatten().tolist()}
    gone = {i for i, r in enumerate(rows) if r.label in same or (r.source == "exercises" and gym_name(r) in held)}
    real = range(len(rows), len(rows) + NUM_FRAMES * len(caches.clips))
    return gone | set(everyday(rows)) | set(real) | {i for i, r in enumerate(rows) if r.split == "val"}


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
    real = {k: clip.label for k, clip in enumerate(caches.clips) if clip.source == "actions"}
    made["real clips"] = Task([caches.frames(k) for k in real], list(real.values()), sorted({*real.values()}))
    return made


def long_lists(data: Path, caches: Caches) -> dict[str, list[str]]:
    """The lists that the names of a set are mixed into: the names of all sets, and kinetics400."""
    rows = caches.photos
    own = {r.label for r in rows if r.label and r.source not in ("imagenet", "exercises", "caltech101")}
    own |= {clip.label for clip in caches.clips} | set(SETS["gym"]) | set(SETS["everyday"])
    kinetics = {spaced(line) for line in (data / "labels" / "kinetics400.txt").open() if line.strip()}
    return {"all": sorted(own), "k400": sorted(kinetics)}


def _spread(some: list[int], most: int) -> list[int]:
    return some[:: max(1, -(-len(some) // most))]
