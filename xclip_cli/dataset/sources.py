"""Which clips come from one source: the same file, one video, frames that are nearly equal, or names that say so.

A clip to validate on whose source is learned from as well measures memory, not recognition.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePath

import numpy as np

from xclip_cli.dataset.sample import Sample

# Root mean square of the difference between two thumbnails, in grey levels. Measured: of 800,000 pairs of photos of
# different things the nearest are 17 apart, a re-encoded copy is 1 to 3, clips of one still camera 5 to 12.
NEAR, NEAR_IN_A_ROW = 12.0, 20.0
_LEAST_CONTRAST = 8.0  # standard deviation: black frames and white ones are alike in every video
_MOST_FRAMES = 20_000  # compared with each other
THUMBNAIL = 16
_FROM_ONE_VIDEO = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(.+_g\d+)_c\d+",  # UCF101: group, clip
        r"(.+_[fhlu]_(?:cm|nm)_np\d)_\w\w_\w+_\d+",  # HMDB51
        r"([\w-]{11})_\d{6}_\d{6}",  # Kinetics: YouTube's id, start, end
        r"(.+)-scene-\d+",  # PySceneDetect
        r"(?!.*(?:19|20)\d\d)(.+[_-]\d{1,3})[_-]\d{1,3}",  # name_12_3, which is no date
    )
)
_NUMBERED = re.compile(r"(.*?)(\d{1,18})")
_BLOCK = 2048  # frames compared with as many others at once: 16 MB of distances


@dataclass
class Findings:
    """What reading the clips brought to light: seconds of each, why some cannot be read, SHA-256 of the files.

    ``thumbnails``: of each clip, frames uint8 (T, 16, 16), grey.
    """

    seconds: dict[Sample, float] = field(default_factory=dict)
    unreadable: dict[Sample, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    thumbnails: dict[Sample, np.ndarray] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Clips that were read, or could not be."""
        return len(self.seconds) + len(self.unreadable)

    def add(self, more: "Findings") -> None:
        """Add what another reading found."""
        for mine, new in zip(vars(self).values(), vars(more).values(), strict=True):
            mine.update(new)

    def duplicates(self, samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
        """Return pairs of the same content: each duplicate behind the first clip that it equals."""
        first: dict[tuple, Sample] = {}
        pairs = []
        for sample in samples:
            if sample in self.seconds:
                content = self.sha256[sample.path], sample.start_seconds, sample.end_seconds
                if first.setdefault(content, sample) is not sample:
                    pairs.append((first[content], sample))
        return pairs


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) -> uint8 (T, 16, 16): the mean grey of each of 16 x 16 fields."""
    grey = frames.astype(np.float32).mean(axis=3)
    for axis in (1, 2):
        size = grey.shape[axis]
        starts = np.arange(THUMBNAIL) * size // THUMBNAIL
        lengths = np.maximum(np.diff(np.append(starts, size)), 1)
        shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
        grey = np.add.reduceat(grey, starts, axis=axis) / lengths.reshape(shape)
    return grey.round().astype(np.uint8)


def links(
    samples: Sequence[Sample], findings: Findings, group_regex: str | None = None
) -> Iterator[tuple[int, int, str]]:
    """Indices of two clips of one source, the smaller first, and what says so.

    Who gave a ``group_regex`` knows the names: clips are alike where its match is (its first group, if it has one).
    """
    names = _matches(samples, group_regex) if group_regex else _names(samples)
    keys = {
        "the same file": [findings.sha256.get(sample.path) for sample in samples],
        "one video": [sample.path for sample in samples],
        "names of one source": names,
    }
    for why, values in keys.items():
        first: dict[str, int] = {}
        for i, value in enumerate(values):
            if value is not None and (j := first.setdefault(value, i)) != i:
                yield j, i, why
    for i, j in _alike(samples, findings):
        yield i, j, "nearly equal frames"


def number_sources(samples: Sequence[Sample], findings: Findings, group_regex: str | None = None) -> list[int]:
    """A number for each clip, the same for all of one source."""
    parent = list(range(len(samples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, j, _ in links(samples, findings, group_regex):
        parent[max(root(i), root(j))] = min(root(i), root(j))
    return [root(i) for i in range(len(samples))]


def leaks(
    train: Sequence[Sample], val: Sequence[Sample], findings: Findings, group_regex: str | None = None
) -> list[tuple[Sample, Sample, str]]:
    """For each clip to validate on that has a relative among those to learn from: that one, itself, what says so."""
    samples, found = [*train, *val], {}
    for i, j, why in links(samples, findings, group_regex):
        if i < len(train) <= j:
            found.setdefault(j, (samples[i], samples[j], why))
    return [found[j] for j in sorted(found)]


def _matches(samples: Sequence[Sample], pattern: str) -> list[str | None]:
    found = [re.search(pattern, sample.path) for sample in samples]
    return [match and match[1 if match.re.groups else 0] for match in found]


def _names(samples: Sequence[Sample]) -> list[str | None]:
    """What the names say of the source, by the ways in which known programs and data sets write it.

    A name that holds for more than half of the clips is no source but the habit of whoever numbered them.
    """
    stems = [PurePath(sample.path).stem for sample in samples]
    matches = [next((m for p in _FROM_ONE_VIDEO if (m := p.fullmatch(stem))), None) for stem in stems]
    names = [match and match[1] for match in matches]
    counts = Counter(names)
    return [name if counts[name] <= len(samples) / 2 else None for name in names]


def _alike(samples: Sequence[Sample], findings: Findings) -> Iterator[tuple[int, int]]:
    """Yield pairs of clips, i < j, with nearly equal frames; neighbours in a row may differ more.

    A pair that earlier pairs already connect is left out, so that a thousand copies give 999 pairs. The first relative
    of each clip is always among the pairs. Distances are computed block by block: memory does not grow with the square.
    """
    owners, frames = _frames(samples, findings)
    series, numbers = _series(samples)
    starts = np.flatnonzero(np.diff(owners, prepend=-1))  # of the clips: no clip is divided between two blocks
    edges = [*np.unique(starts[np.searchsorted(starts, np.arange(0, len(owners), _BLOCK), "right") - 1]), len(owners)]
    group = np.arange(len(samples))
    for row, (top, bottom) in enumerate(pairwise(edges)):
        for left, right in pairwise(edges[row:]):
            apart = _distances(frames[top:bottom], frames[left:right])
            above, below = np.nonzero(apart <= NEAR_IN_A_ROW**2)
            i, j = owners[top + above], owners[left + below]
            near = (apart[above, below] <= NEAR**2) | ((series[i] == series[j]) & (abs(numbers[i] - numbers[j]) == 1))
            i, j = i[near & (i < j)], j[near & (i < j)]
            while (apart_still := group[i] != group[j]).any():
                i, j = i[apart_still], j[apart_still]
                first, relatives = i[0], np.unique(j[i == i[0]])
                yield from ((int(first), int(relative)) for relative in relatives)
                joined = np.unique(group[[first, *relatives]])
                group[np.isin(group, joined)] = joined[0]


def _frames(samples: Sequence[Sample], findings: Findings) -> tuple[np.ndarray, np.ndarray]:
    """The clip (F,) of each frame to compare, ascending, and the frames uint8 (F, 256); flat ones say nothing."""
    each = max(1, _MOST_FRAMES // max(1, len(samples)))
    owners, frames = [np.empty(0, np.int64)], [np.empty((0, THUMBNAIL**2), np.uint8)]
    for i, sample in enumerate(samples):
        if (grey := findings.thumbnails.get(sample)) is not None:
            grey = grey[:: -(-len(grey) // each)].reshape(-1, THUMBNAIL**2)
            frames.append(grey[grey.std(axis=1) >= _LEAST_CONTRAST])
            owners.append(np.full(len(frames[-1]), i))
    return np.concatenate(owners), np.concatenate(frames)


def _series(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """For each clip a number (n,) for its name without the last number, and that number; names without one differ."""
    matches = [_NUMBERED.fullmatch(PurePath(sample.path).stem) for sample in samples]
    series: dict[str | int, int] = {}
    owners = [series.setdefault(match[1] if match else i, len(series)) for i, match in enumerate(matches)]
    return np.array(owners, np.int64), np.array([int(match[2]) if match else 0 for match in matches], np.int64)


def _distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Mean squared differences float32 (R, C) of frames uint8 (R, P) and (C, P)."""
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    squares, others = ((frames**2).mean(axis=1) for frames in (rows, columns))
    products = rows @ columns.T
    products *= -2 / rows.shape[1]
    products += squares[:, None]
    products += others
    return products
