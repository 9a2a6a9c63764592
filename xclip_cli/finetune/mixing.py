"""Mixup and cutmix: clips blended with others of their batch, and their answers with them."""

import torch
from torch import Tensor

_SWITCH = 0.5  # probability of cutmix where both are asked for


def mix(
    frames: Tensor, answers: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Frames (B, T, 3, S, S) and answers (B, N), each row blended with that of the batch read backwards.

    The share of the first is drawn from Beta(a, a), a = ``mixup`` (Zhang et al., 2018) or ``cutmix`` (Yun et al.,
    2019), 0 turning one off. One share and one box for the whole batch.
    """
    cut = cutmix > 0 and (mixup == 0 or torch.rand((), generator=generator) < _SWITCH)
    strength = cutmix if cut else mixup
    if strength == 0 or len(frames) < 2:
        return frames, answers
    share = _beta(strength, generator)
    if cut:
        top, bottom, left, right = _box(share, frames.shape[-1], generator)
        frames = frames.clone()
        frames[..., top:bottom, left:right] = frames.flip(0)[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / frames.shape[-1] ** 2
    else:
        frames = share * frames + (1 - share) * frames.flip(0)
    return frames, share * answers + (1 - share) * answers.flip(0)


def _beta(strength: float, generator: torch.Generator) -> float:
    gamma = torch._standard_gamma(torch.full((2,), strength), generator=generator)
    return (gamma[0] / gamma.sum().clamp_min(1e-12)).item()


def _box(share: float, size: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A square of 1 - ``share`` of the picture around a random middle, cut off at the borders."""
    half = round(size * (1 - share) ** 0.5) // 2
    row, column = torch.randint(size, (2,), generator=generator).tolist()
    return max(0, row - half), min(size, row + half), max(0, column - half), min(size, column + half)
