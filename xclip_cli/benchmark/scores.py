"""Results and answers in, the figures of one row out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xclip_cli.metrics import Bin, calibration, class_accuracies, confusion, interval
from xclip_cli.results import VideoResult

TOP = 5


@dataclass(frozen=True)
class Scores:
    """Shares, 0 to 1, of the ``clips`` that were tagged; ``errors`` counts those that were not, which are not in them.

    ``top1_interval`` is where top-1 may truly lie (95 %); ``top5`` is None where there are no more than five labels;
    ``mean_class`` averages over the classes that have clips; ``calibration_error`` is of the best label's score.
    """

    clips: int
    errors: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float | None
    mean_class: float
    calibration_error: float
    bins: list[Bin]
    confusion: np.ndarray

    @classmethod
    def of(cls, results: Sequence[VideoResult], answers: Sequence[int], names: Sequence[str]) -> "Scores":
        """Of results in the order of the answers, which are places in ``names``. Without a clip, shares are NaN."""
        place = {name: i for i, name in enumerate(names)}
        told = [
            (answer, result.segments[0].tags)
            for answer, result in zip(answers, results, strict=True)
            if result.error is None
        ]
        ranked = [[place[tag.label] for tag in tags] for _, tags in told]
        right = [guesses[0] == answer for guesses, (answer, _) in zip(ranked, told, strict=True)]
        near = [answer in guesses[:TOP] for guesses, (answer, _) in zip(ranked, told, strict=True)]
        counts = confusion([answer for answer, _ in told], [guesses[0] for guesses in ranked], len(names))
        error, bins = calibration([tags[0].score for _, tags in told], right)
        with_clips = class_accuracies(counts)[counts.sum(axis=1) > 0]
        return cls(
            len(told),
            len(results) - len(told),
            _share(right),
            interval(sum(right), len(right)),
            _share(near) if len(names) > TOP else None,
            _share(with_clips),
            error,
            bins,
            counts,
        )


def _share(values: Sequence) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
