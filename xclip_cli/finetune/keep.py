"""How much of the original model stays: chosen on validation clips, so that tuning never makes a model worse."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.metrics import hits, share

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
    if len(targets) < 2:
        return False
    likelier, error = _lead(_losses(before, targets) - _losses(after, targets))
    righter, noise = _lead(_right(after, targets) - _right(before, targets))
    return likelier > errors * error and righter > -noise - _ROUNDING


def choose(candidates: Sequence[Tensor], targets: Tensor, slack: float = 0.0, paths: int = 1) -> int:
    """The index of the logits (n, N) to take, of candidates that move from the untouched model, the first, away.

    The others are so many paths of equal length. A path counts where a step on it `helps` by more than chance allows
    (95 %, one-sided), and on it the candidates count that help by a standard error: their noise grows as they move, so
    that far ones are seldom certain. Taken is the likeliest of all, or one before it that has no less right and is
    behind by no more than ``slack`` standard errors: 1 is the rule of Breiman et al., 1984. 0 where none counts.
    """
    untouched, length = candidates[0], (len(candidates) - 1) // paths
    counted = []
    for first in range(1, len(candidates), length):
        path = range(first, first + length)
        if any(helps(untouched, candidates[i], targets, _ERRORS) for i in path):
            counted += [i for i in path if helps(untouched, candidates[i], targets, 1)]
    if not counted:
        return 0
    losses, right = ([of(logits, targets) for logits in candidates] for of in (_losses, _right))
    best = min(counted, key=lambda i: losses[i].mean().item())

    def is_as_good(i: int) -> bool:
        mean, error = _lead(losses[i] - losses[best])
        return i == best or bool(right[i].sum() >= right[best].sum() and mean <= slack * error)

    return next(i for i in counted if is_as_good(i))


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")


def _right(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits.argmax(1) == targets).float()


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
