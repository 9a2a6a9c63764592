"""Training clips varied: cropped, mirrored and recoloured one by one, then blended with others of their batch."""

import numpy as np
import torch
from torch import Tensor

from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.tagger.preprocess import channels_first, normalise, resized
from xclip_cli.video.display import Resize

_CROP_SCALES = (1, 0.875, 0.75, 0.66)
_JITTER, _JITTER_PROBABILITY, _GREY_PROBABILITY = 0.4, 0.8, 0.2
_SWITCH = 0.5  # probability of cutmix where both are asked for


def augment(frames: np.ndarray, spec: Preprocessing, generator: torch.Generator, flip: bool = True) -> Tensor:
    """A training view of shrunk frames uint8 (T, H, W, 3): float32 (T, 3, S, S), every frame changed alike.

    Multi-scale crop at a corner or the middle, mirrored half the time if ``flip``, colours jittered with probability
    0.8, grey with 0.2: the paper's recipe (section 4.1, after TSN, Wang et al. 2016). Drawn from ``generator`` alone.
    """
    pixels = channels_first(_multi_scale_crop(frames, spec, generator)).float()
    if flip and _draw(generator) < 0.5:
        pixels = pixels.flip(-1)
    if _draw(generator) < _JITTER_PROBABILITY:
        pixels = _jitter(pixels, generator)
    if _draw(generator) < _GREY_PROBABILITY:
        pixels = _grey(pixels).expand_as(pixels)
    return normalise(pixels, spec)


def _multi_scale_crop(frames: np.ndarray, spec: Preprocessing, generator: torch.Generator) -> np.ndarray:
    height, width = frames.shape[1:3]
    first = int(_draw(generator) * len(_CROP_SCALES))
    second = min(max(first + int(_draw(generator) * 3) - 1, 0), len(_CROP_SCALES) - 1)  # nearly square
    tall, wide = (max(1, round(min(height, width) * _CROP_SCALES[i])) for i in (first, second))
    corners_and_middle = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
    down, right = corners_and_middle[int(_draw(generator) * len(corners_and_middle))]
    top, left = int((height - tall) * down), int((width - wide) * right)
    square = Resize(spec.crop, "squash", spec.interpolation, spec.antialias, spec.rounding)
    return resized(frames[:, top : top + tall, left : left + wide], square)


def _jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each by a factor of 1 - 0.4 to 1 + 0.4."""
    brightness, contrast, saturation = (1 + _JITTER * (2 * _draw(generator) - 1) for _ in range(3))
    pixels = pixels * brightness
    pixels = contrast * pixels + (1 - contrast) * _grey(pixels).mean()
    return (saturation * pixels + (1 - saturation) * _grey(pixels)).clamp(0, 255)


def _grey(pixels: Tensor) -> Tensor:
    """(T, 3, H, W) -> luma (T, 1, H, W), ITU-R BT.601."""
    return (pixels * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)


def _draw(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()


def mix(
    frames: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Frames (B, T, 3, S, S) and targets (B, N), each row blended with that of the batch read backwards.

    The share of the first is drawn from Beta(a, a), a = ``mixup`` (Zhang et al., 2018) or ``cutmix`` (Yun et al.,
    2019), 0 turning one off; without cutmix frames may be tokens, (B, ...). One share and one box for the whole batch.
    """
    cut = cutmix > 0 and (mixup == 0 or torch.rand((), generator=generator) < _SWITCH)
    strength = cutmix if cut else mixup
    if strength == 0 or len(frames) < 2:
        return frames, targets
    share = _beta(strength, generator)
    if cut:
        top, bottom, left, right = _box(share, frames.shape[-1], generator)
        frames = frames.clone()
        frames[..., top:bottom, left:right] = frames.flip(0)[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / frames.shape[-1] ** 2
    else:
        frames = share * frames + (1 - share) * frames.flip(0)
    return frames, share * targets + (1 - share) * targets.flip(0)


def _beta(strength: float, generator: torch.Generator) -> float:
    gamma = torch._standard_gamma(torch.full((2,), strength), generator=generator)
    return (gamma[0] / gamma.sum().clamp_min(1e-12)).item()


def _box(share: float, size: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A square of 1 - ``share`` of the picture around a random middle, cut off at the borders."""
    half = round(size * (1 - share) ** 0.5) // 2
    row, column = torch.randint(size, (2,), generator=generator).tolist()
    return max(0, row - half), min(size, row + half), max(0, column - half), min(size, column + half)
