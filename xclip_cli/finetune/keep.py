"""How much of the original model stays: chosen on validation clips, so that tuning never makes a model worse."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.dataset.metrics import hits, share

SHARES = tuple(i / 10 for i in range(10, -1, -1))  # of the original weights, that `--keep auto` chooses from
_ERRORS = 1.64  # standard errors by which a gain must exceed nothing: 95 %, one-sided
_ROUNDING = 1e-6  # one clip that is lost is one standard error, exactly


def top(logits: Tensor, targets: Tensor, k: int = 1) -> float | None:
    """Share of rows (0 to 1) whose target is among the best k; None without rows, or with k > 1 classes or fewer."""
    if not len(logits) or (k > 1 and logits.shape[1] <= k):
        return None
    return share(hits(logits.topk(k).indices.tolist(), targets.tolist(), k))


def helps(before: Tensor, after: Tensor, targets: Tensor, errors: float) -> bool:
    """Whether logits (n, N) make the targets likelier by more than so many standard errors of the paired differences,
    and lose no more in top-1 than one. False of one clip or none."""
    return _helps(_judged(before, targets), _judged(after, targets), errors)


def choose(candidates: Sequence[Tensor], targets: Tensor, slack: float = 0.0, paths: int = 1) -> int:
    """The index of the logits (n, N) to take, of candidates that move from the untouched model, the first, away.

    The others are so many paths of equal length. A path counts where a step on it `helps` by more than chance allows
    (95 %, one-sided), and on it the candidates count that help by a standard error: their noise grows as they move, so
    that far ones are seldom certain. Taken is the likeliest of all, or one before it that has no less right and is
    behind by no more than ``slack`` standard errors: 1 is the rule of Breiman et al., 1984. 0 where none counts.
    """
    judged, length = [_judged(logits, targets) for logits in candidates], (len(candidates) - 1) // paths
    counted = []
    for first in range(1, len(candidates), length):
        path = range(first, first + length)
        if any(_helps(judged[0], judged[i], _ERRORS) for i in path):
            counted += [i for i in path if _helps(judged[0], judged[i], 1)]
    if not counted:
        return 0
    best = min(counted, key=lambda i: judged[i].losses.mean().item())

    def is_as_good(i: int) -> bool:
        mean, error = _lead(judged[i].losses - judged[best].losses)
        return i == best or bool(judged[i].right.sum() >= judged[best].right.sum() and mean <= slack * error)

    return next(i for i in counted if is_as_good(i))


class _Judged(NamedTuple):
    """Of every clip (n,): how unlikely its target is, and whether it is the best."""

    losses: Tensor
    right: Tensor


def _judged(logits: Tensor, targets: Tensor) -> _Judged:
    losses = F.cross_entropy(logits, targets, reduction="none")
    return _Judged(losses, (logits.argmax(1) == targets).float())


def _helps(before: _Judged, after: _Judged, errors: float) -> bool:
    if len(before.losses) < 2:
        return False
    likelier, error = _lead(before.losses - after.losses)
    righter, noise = _lead(after.right - before.right)
    return likelier > errors * error and righter > -noise - _ROUNDING


def _lead(gains: Tensor) -> tuple[float, float]:
    """The mean of paired differences, and its standard error."""
    return gains.mean().item(), gains.std().item() / len(gains) ** 0.5


def interpolate(model: nn.Module, original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> None:
    """Gives the model ``share`` times the original weights plus the rest of the tuned ones, so that other labels still
    work (WiSE-FT, Wortsman et al., 2022)."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.lerp(tuned[name], original[name], share))
