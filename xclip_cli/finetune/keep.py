"""Tuned and original weights, interpolated, so that other labels still work (WiSE-FT, Wortsman et al., 2022)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

GRID = tuple(i / 10 for i in range(10))


def interpolate(model: nn.Module, original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], keep: float) -> None:
    """Gives the model ``keep`` times the original weights plus the rest of the tuned ones."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.lerp(tuned[name], original[name], keep))


def choose(accuracy_at: Callable[[float], float], count: int) -> float:
    """The largest share whose accuracy on ``count`` validation clips is within one standard error of the best.

    What the clips cannot tell apart is decided for the labels that they do not show (the one-standard-error rule,
    Breiman et al., 1984).
    """
    accuracies = {keep: accuracy_at(keep) for keep in GRID}
    best = max(accuracies.values())
    error = (best * (1 - best) / count) ** 0.5
    return max(keep for keep, accuracy in accuracies.items() if accuracy >= best - error)
