"""How good predictions are: counts and shares, numpy alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Predictions whose score lies in (start, stop]: how many, their mean score, and the share that is right."""

    start: float
    stop: float
    count: int
    score: float
    accuracy: float


def confusion(targets: Sequence[int], predictions: Sequence[int], classes: int) -> np.ndarray:
    """Counts int64 (classes, classes): rows are what the clips are, columns what they were taken for."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(targets, np.int64), np.asarray(predictions, np.int64)), 1)
    return counts


def hits(ranked: Sequence[Sequence[int]], targets: Sequence[int], k: int) -> np.ndarray:
    """Whether each target, bool (n,), is among the first ``k`` of its row of ``ranked``: class indices, best first."""
    return np.array([target in row[:k] for row, target in zip(ranked, targets, strict=True)], bool)


def share(values: Sequence) -> float:
    """The mean, as top-1 of hits; NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def class_accuracies(counts: np.ndarray) -> np.ndarray:
    """Share that is right of each class (N,), from its row of the confusion matrix; NaN for a class without clips."""
    with np.errstate(invalid="ignore"):
        return np.diag(counts) / counts.sum(axis=1)


def calibration(scores: Sequence[float], right: Sequence[bool]) -> tuple[float, list[Bin]]:
    """Expected calibration error (0..1) and its bins of equal width (Guo et al., ICML 2017); 0 without any.

    The error is the distance between score and share that is right, averaged over the predictions of each bin.
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, np.float64)
    index = np.clip(np.ceil(scores * _BINS).astype(int) - 1, 0, _BINS - 1)
    bins = []
    for i in range(_BINS):
        inside = index == i
        count = int(inside.sum())
        means = (float(scores[inside].mean()), float(right[inside].mean())) if count else (0.0, 0.0)
        bins.append(Bin(i / _BINS, (i + 1) / _BINS, count, *means))
    return sum(b.count * abs(b.score - b.accuracy) for b in bins) / max(1, len(scores)), bins


def interval(right: int, count: int) -> tuple[float, float]:
    """Where a share of ``right`` out of ``count`` may truly lie, 95 % (Wilson, 1927); the whole 0 to 1 for none."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
