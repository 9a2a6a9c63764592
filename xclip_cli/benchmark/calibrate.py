"""Scores that mean what they say, and thresholds for one's own labels, from a few labelled clips.

Two things are fitted to a model's similarities: one temperature, which makes the best label's score the share of clips
that are right (Guo et al., ICML 2017), and for each label the threshold that finds most of its clips with the fewest
others (the best F1). What is told of the result comes from clips that the fit did not see.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xclip_cli.dataset import Sample
from xclip_cli.dataset.metrics import Bin, calibration, share
from xclip_cli.dataset.sample import assign_folds
from xclip_cli.dataset.sources import Findings, number_sources, thumbnails
from xclip_cli.errors import UsageError, VideoError
from xclip_cli.labels import Calibration, LabelSet
from xclip_cli.labels.classlist import NameIndex
from xclip_cli.labels.labelset import TEMPERATURES
from xclip_cli.labels.tables import letters
from xclip_cli.results import UNKNOWN
from xclip_cli.tagger.tagger import Tagger
from xclip_cli.video.ahead import prefetch_clips
from xclip_cli.video.types import Clip

FOLDS = 5
_FEWEST = 5  # clips that a label needs for a threshold of its own; with fewer it has that of all labels together
_STEPS = 60  # of a golden section: a millionth of where it began
_GOLDEN = (math.sqrt(5) - 1) / 2
_NONE = -1

OnProgress = Callable[[int, int], None]  # how many clips are done, of how many


@dataclass(frozen=True)
class Reliability:
    """Of clips that the fit did not see: shares (0 to 1), and the mean negative log of the right label's score.

    ``error`` is the expected calibration error with its ``bins``; ``precision`` and ``recall`` are those of the labels
    that reach their threshold, each by itself.
    """

    clips: int
    top1: float
    error: float
    bins: list[Bin]
    log_loss: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Calibrated:
    """The set with its thresholds and temperature, how it was before and is after, and the clips that failed, why."""

    label_set: LabelSet
    before: Reliability
    after: Reliability
    failed: dict[Sample, str]


def run(samples: Sequence[Sample], tagger: Tagger, seed: int, on_progress: OnProgress) -> Calibrated:
    """Calibrates the tagger's label set for its model on labelled clips; clips called ``unknown`` show no label of it.

    Of a set that is calibrated already thresholds and temperature are fitted anew, from the model's own scores. Raises
    UsageError for a label that the set does not have, and where fewer than two clips of two labels can be read.
    """
    label_set = tagger.label_set
    index = NameIndex(label.name for label in label_set.labels)
    if unknown := sorted({s.label for s in samples if index.get(s.label) is None and letters(s.label) != UNKNOWN}):
        raise UsageError(
            f"label {unknown[0]!r} of the clips is not in the label set {label_set.name!r}",
            f"add it to the labels, or call clips that are none of them {UNKNOWN!r}",
        )
    logits, findings = _read(samples, tagger, on_progress)
    read = [sample for sample in samples if sample in logits]
    found = (index.get(sample.label) for sample in read)
    targets = np.array([_NONE if number is None else number for number in found], int)
    if len(np.unique(targets[targets != _NONE])) < 2 or (targets != _NONE).sum() < 2 * FOLDS:
        raise UsageError(
            f"{(targets != _NONE).sum()} clips of {len(np.unique(targets[targets != _NONE]))} labels can be read: "
            f"it takes {2 * FOLDS} clips of two labels or more",
            "add clips",
        )
    sources = number_sources(read, findings)
    if len(set(sources)) < 2:
        raise UsageError(
            f"all clips are parts of one source, as {read[0].path!r}: it takes two or more", "add clips of others"
        )
    folds = np.array(assign_folds(read, sources, FOLDS, seed))
    return _calibrated(np.stack([logits[sample] for sample in read]), targets, folds, tagger, findings.unreadable)


def _calibrated(
    logits: np.ndarray, targets: np.ndarray, folds: np.ndarray, tagger: Tagger, failed: dict[Sample, str]
) -> Calibrated:
    label_set, checkpoint = tagger.label_set, tagger.checkpoint
    given = np.array([label.threshold or 0.0 for label in label_set.labels])
    scores, thresholds = np.empty_like(logits), np.empty((len(logits), len(given)))
    for fold in range(folds.max() + 1):
        held_out, rest = folds == fold, folds != fold
        temperature, fitted = _fit(logits[rest], targets[rest], len(given))
        scores[held_out], thresholds[held_out] = softmax(logits[held_out] / temperature), fitted
    temperature, fitted = _fit(logits, targets, len(given))
    entries = zip(label_set.labels, fitted.tolist(), strict=True)
    labels = tuple(replace(label, threshold=_rounded(threshold)) for label, threshold in entries)
    fitted_for = Calibration(checkpoint.name, checkpoint.fingerprint, _rounded(temperature))
    return Calibrated(
        replace(label_set, labels=labels, calibration=fitted_for, notes=()),
        reliability(softmax(logits / label_set.temperature(checkpoint.fingerprint)), targets, given),
        reliability(scores, targets, thresholds),
        failed,
    )


def _rounded(value: float) -> float:
    """Six significant digits: thresholds of many labels are small."""
    return float(f"{value:.6g}")


def _fit(logits: np.ndarray, targets: np.ndarray, count: int) -> tuple[float, np.ndarray]:
    temperature = fit_temperature(logits[targets != _NONE], targets[targets != _NONE])
    return temperature, fit_thresholds(softmax(logits / temperature)[:, :count], targets)


def _read(
    samples: Sequence[Sample], tagger: Tagger, on_progress: OnProgress
) -> tuple[dict[Sample, np.ndarray], Findings]:
    """Each sample's logits (N,), not calibrated, of all views' mean score; and what tells sources apart."""
    settings, encoder, num_frames = tagger.settings, tagger.encoder, tagger.checkpoint.num_frames
    logits, findings = {}, Findings()
    requests = ((s, (s.path, num_frames, settings.num_clips, s.start_seconds, s.end_seconds)) for s in samples)
    uncalibrated = tagger.encode_labels(replace(tagger.label_set, calibration=None))
    with encoder.pool.session() as pool:
        for decoded in prefetch_clips(pool, requests, encoder.batch_size, encoder.resize):
            findings.unreadable.update((sample, e.message) for sample, e in decoded if isinstance(e, VideoError))
            clips = {sample: clip for sample, clip in decoded if isinstance(clip, Clip)}
            findings.thumbnails.update((sample, thumbnails(clip.frames)) for sample, clip in clips.items())
            if clips:
                logits.update(zip(clips, np.log(tagger.scores([*clips.values()], uncalibrated)), strict=True))
            on_progress(len(logits) + len(findings.unreadable), len(samples))
    return logits, findings


def softmax(logits: np.ndarray) -> np.ndarray:
    """Scores (n, N) of logits (n, N)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """What to divide logits (n, N) by so that the targets (n,) are likeliest; within ``labels.TEMPERATURES``.

    The log-likelihood is concave in the inverse temperature: a golden section finds its only peak.
    """

    def loss(inverse: float) -> float:
        return log_loss(softmax(logits * inverse), targets)

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.clip(2 / (low + high), *TEMPERATURES))


def fit_thresholds(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """For each label the threshold (N,) of the best F1, from scores (n, N) and targets (n,), -1 for none of them.

    A label with few clips has the threshold that is best for all labels taken together.
    """
    own = targets[:, None] == np.arange(scores.shape[1])
    shared = _best_threshold(scores.ravel(), own.ravel())
    return np.array(
        [_best_threshold(s, o) if o.sum() >= _FEWEST else shared for s, o in zip(scores.T, own.T, strict=True)]
    )


def _best_threshold(scores: np.ndarray, own: np.ndarray) -> float:
    """Half way between the lowest score that is taken for the label and the highest that is not."""
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(own[order])
    f1 = 2 * found / (np.arange(1, len(scores) + 1) + max(1, own.sum()))
    f1[:-1][scores[:-1] == scores[1:]] = -1  # equal scores are taken together
    best = int(f1.argmax())
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float((scores[best] + below) / 2)


def log_loss(scores: np.ndarray, targets: np.ndarray) -> float:
    """The mean negative log of the targets' scores."""
    own = scores[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())


def reliability(scores: np.ndarray, targets: np.ndarray, thresholds: np.ndarray) -> Reliability:
    """Of scores (n, labels + background), targets (n,), -1 for none, and thresholds (labels,) or (n, labels)."""
    count = thresholds.shape[-1]
    best, known = scores.argmax(axis=1), targets != _NONE
    error, bins = calibration(scores.max(axis=1)[known], best[known] == targets[known])
    shown, own = scores[:, :count] >= thresholds, targets[:, None] == np.arange(count)
    return Reliability(
        int(known.sum()),
        share(best[known] == targets[known]),
        error,
        bins,
        log_loss(scores[known], targets[known]),
        float((shown & own).sum() / max(1, shown.sum())),
        float((shown & own).sum() / max(1, own.sum())),
    )
