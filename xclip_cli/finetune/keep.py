"""How much of the original model stays: chosen on validation clips, so that tuning never makes a model worse."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.metrics import hits, share

SHARES = tuple(i / 10 for i in range(10, -1, -1))  # of the original weights, that `--keep auto` chooses from
_ERRORS = 1.64  # standard errors by which a gain must exceed nothing: 95 %, one-sided


def top(logits: Tensor, targets: Tensor, k: int = 1) -> float | None:
    """Share of rows (0 to 1) whose target is among the best k; None without rows, or with k > 1 classes or fewer."""
    if not len(logits) or (k > 1 and logits.shape[1] <= k):
        return None
    return share(hits(logits.topk(k).indices.tolist(), targets.tolist(), k))


def choose(candidates: Sequence[Tensor], targets: Tensor, slack: float = 0.0) -> int:
    """The index of the logits (n, N) to take, of candidates that move from the untouched model, the first, away.

    Counted are those whose gain in log-likelihood over the untouched model is more than chance allows (95 %, by the
    paired differences), and whose loss in top-1, if any, is not (one standard error). Taken is the likeliest of them,
    or one before it that has no less right and is behind by no more than ``slack`` standard errors: 1 is the rule of
    Breiman et al., 1984. 0 where none counts.
    """
    losses = torch.stack([F.cross_entropy(logits, targets, reduction="none") for logits in candidates])
    right = torch.stack([(logits.argmax(1) == targets).float() for logits in candidates])

    def lead(of: int, over: int, by: Tensor) -> tuple[float, float]:
        """The mean and its standard error."""
        gains = by[of] - by[over]
        return gains.mean().item(), gains.std().item() / len(gains) ** 0.5

    def counts(i: int) -> bool:
        (likelier, error), (righter, noise) = lead(i, 0, -losses), lead(i, 0, right)
        return likelier > _ERRORS * error and righter >= -noise

    counted = [i for i in range(1, len(candidates)) if len(targets) > 1 and counts(i)]
    if not counted:
        return 0
    best = min(counted, key=lambda i: losses[i].mean().item())

    def is_as_good(i: int) -> bool:
        mean, error = lead(best, i, -losses)
        return i == best or bool(right[i].sum() >= right[best].sum() and mean <= slack * error)

    return next(i for i in counted if is_as_good(i))


def interpolate(model: nn.Module, original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> None:
    """Gives the model ``share`` times the original weights plus the rest of the tuned ones, so that other labels still
    work (WiSE-FT, Wortsman et al., 2022)."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.lerp(tuned[name], original[name], share))
