"""Scores over time -> segments: which label holds from when to when. Pure functions over arrays.

A window's scores hold for the cell around its middle, as long as the stride; cells meet, and fill the video. Only
where time stamps jump between two windows, nothing holds there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from xclip_cli.video.types import JUMP_SECONDS

_SAME_SECONDS = 1e-6
_SHARE_OF_SQUARES = 0.4  # less than half, so that two labels can hold at once


class Scored(NamedTuple):
    """W windows and what a model says of them about N labels, in order of time.

    ``spans`` float64 (W, 2) seconds, half-open; ``scenes`` int (W,) numbers the scene that each lies in; ``scores``
    (0..1) and ``similarity`` (-1..1) float32 (W, N).
    """

    spans: np.ndarray
    scenes: np.ndarray
    scores: np.ndarray
    similarity: np.ndarray

    def before(self, number: int) -> "Scored":
        """The windows before this one."""
        return Scored(*(values[:number] for values in self))

    @classmethod
    def none(cls, num_labels: int) -> "Scored":
        scores = np.empty((0, num_labels), np.float32)
        return cls(np.empty((0, 2)), np.empty(0, np.int64), scores, scores)

    @classmethod
    def joined(cls, parts: "Iterable[Scored]") -> "Scored":
        """Windows that follow each other."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


class WindowMemory:
    """Where the windows of a video in progress are kept, should the run stop. This one keeps none."""

    def known(self, path: str, num_labels: int) -> Scored:
        """What an earlier run had done of the video, from its start."""
        return Scored.none(num_labels)

    def add(self, path: str, first: int, scored: Scored) -> None:
        """Keeps windows number ``first`` and on, in place of what was known of them."""


@dataclass(frozen=True)
class Rules:
    """How scores become segments of the first L of N labels; the others only compete.

    A label begins at a score of ``on`` (L,) and holds while it has ``off`` (L,), no more than that, after a moving
    average over ``smooth`` windows (odd). Where ``on`` is NaN, a label begins where its squared score is 40 % of the
    sum of all N squares, however many labels there are, and its score is an even share, 1 / N, at least; where ``off``
    is NaN, it holds down to half of these squares. Pauses up to ``max_gap_seconds`` are filled, then what is
    shorter than ``min_length_seconds`` is dropped. ``exclusive``: only the best of all N holds at any moment.
    """

    on: np.ndarray
    off: np.ndarray
    smooth: int = 1
    min_length_seconds: float = 0.0
    max_gap_seconds: float = 0.0
    exclusive: bool = False


class Found(NamedTuple):
    """Label number ``label`` holds in [start_seconds, end_seconds).

    ``score`` and ``similarity`` are means over its windows, ``peak_score`` the best window's and ``peak_seconds`` the
    middle of that.
    """

    start_seconds: float
    end_seconds: float
    label: int
    score: float
    similarity: float
    peak_score: float
    peak_seconds: float


def segments(scored: Scored, rules: Rules, stop_seconds: float) -> list[Found]:
    """The segments of a video that ends at ``stop_seconds``, by start, end and label; those of one label never meet."""
    parts = split_at_jumps(scored.spans, stop_seconds)
    found = [found for part, end in parts for found in _segments(Scored(*(v[part] for v in scored)), rules, end)]
    return sorted(found, key=lambda segment: segment[:3])


def split_at_jumps(spans: np.ndarray, stop_seconds: float) -> Iterator[tuple[slice, float]]:
    """Yield the windows (W, 2) between jumps of the time stamps, and when that part of the video ends."""
    jumps = np.flatnonzero(spans[1:, 0] - spans[:-1, 1] > JUMP_SECONDS) + 1
    for first, stop in pairwise([0, *jumps.tolist(), len(spans)]):
        if first < stop:
            yield slice(first, stop), stop_seconds if stop == len(spans) else float(spans[stop - 1, 1])


def _segments(scored: Scored, rules: Rules, stop_seconds: float) -> list[Found]:
    borders = cells(scored.spans, stop_seconds)
    smoothed = smooth(scored.scores, scored.scenes, rules.smooth)
    on, off = thresholds(smoothed, rules)
    wanted = smoothed[:, : len(rules.on)]
    if rules.exclusive:
        wanted = np.where(np.arange(wanted.shape[1]) == smoothed.argmax(axis=1)[:, None], wanted, -np.inf)
    active = tidy(hysteresis(wanted, on, off), borders, rules)
    middles = scored.spans.mean(axis=1)
    found = []
    for label in np.flatnonzero(active.any(axis=0)).tolist():
        for first, stop in runs(active[:, label]):
            scores, similarity = scored.scores[first:stop, label], scored.similarity[first:stop, label]
            peak = int(scores.argmax())
            means = float(scores.mean(dtype=np.float64)), float(similarity.mean(dtype=np.float64))
            best = float(scores[peak]), float(middles[first + peak])
            found.append(Found(float(borders[first]), float(borders[stop]), label, *means, *best))
    return found


def cells(spans: np.ndarray, stop_seconds: float) -> np.ndarray:
    """Where the cells of windows (W, 2) begin, and where the last one ends, float64 (W + 1,).

    The first begins with its window. Cells of overlapping windows meet halfway between their middles, those of others
    halfway between the windows.
    """
    middles = spans.mean(axis=1)
    apart = spans[1:, 0] >= spans[:-1, 1]
    between = np.where(apart, spans[:-1, 1] + spans[1:, 0], middles[:-1] + middles[1:]) / 2
    return np.concatenate([spans[:1, 0], np.minimum(between, stop_seconds), [stop_seconds]])


def smooth(scores: np.ndarray, scenes: np.ndarray, width: int) -> np.ndarray:
    """Moving average of scores (W, N) over ``width`` windows, an odd number, of one scene: fewer at its ends."""
    if width == 1:
        return scores
    place = np.arange(len(scores))
    total, count = np.zeros(scores.shape), np.zeros((len(scores), 1))
    for shift in range(-(width // 2), width // 2 + 1):
        source = np.clip(place + shift, 0, len(scores) - 1)
        same = ((source == place + shift) & (scenes[source] == scenes))[:, None]
        total += np.where(same, scores[source], 0)
        count += same
    return total / count


def thresholds(scores: np.ndarray, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Return at which scores (W, L) labels begin, and down to which they hold, in windows of these scores (W, N)."""
    squares = np.einsum("ij,ij->i", scores, scores, dtype=np.float64)[:, None]
    outstanding = np.maximum(np.sqrt(_SHARE_OF_SQUARES * squares), 1 / scores.shape[1])
    off = np.where(np.isnan(rules.off), outstanding * 0.5**0.5, rules.off)
    return np.where(np.isnan(rules.on), np.maximum(outstanding, off), rules.on), off


def hysteresis(scores: np.ndarray, on: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Bool (W, L): which labels hold; each begins at ``on`` (W, L) and goes on while it has ``off`` (W, L)."""
    active = np.zeros(scores.shape, bool)
    holds = np.zeros(scores.shape[1], bool)
    for row, now, begin, least in zip(active, scores, on, off, strict=True):
        row[:] = holds = now >= np.where(holds, least, begin)
    return active


def tidy(active: np.ndarray, borders: np.ndarray, rules: Rules) -> np.ndarray:
    """Bool (W, L), its short pauses filled and short segments dropped; doing so again changes nothing.

    If ``exclusive``, what another label holds is no pause.
    """
    active = active.copy()
    while True:
        before = active.copy()
        for label in np.flatnonzero(active.any(axis=0)):
            column = active[:, label]
            held = runs(column)
            for (_, first), (stop, _) in pairwise(held):
                free = not (rules.exclusive and active[first:stop].any())
                if free and borders[stop] - borders[first] <= rules.max_gap_seconds + _SAME_SECONDS:
                    column[first:stop] = True
            for first, stop in runs(column):
                if borders[stop] - borders[first] < rules.min_length_seconds - _SAME_SECONDS:
                    column[first:stop] = False
        if (active == before).all():
            return active


def runs(column: np.ndarray) -> list[tuple[int, int]]:
    """Where a bool (W,) is true: [first, stop) of each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], column.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
