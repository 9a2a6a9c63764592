"""Frames as a reader gives them -> the tensor the network takes, for tagging and, varied, for training."""

import numpy as np
import torch

from xclip_cli.registry import Preprocessing, Resize
from xclip_cli.video.shrink import shrink as shrink_frame

_CROP_SCALES = (1, 0.875, 0.75, 0.66)
_JITTER, _JITTER_PROBABILITY, _GREY_PROBABILITY = 0.4, 0.8, 0.2


def preprocess(frames: np.ndarray, spec: Preprocessing, num_crops: int = 1) -> torch.Tensor:
    """Network input of one clip: float32 (num_crops, T, 3, S, S), ``crops`` and ``normalise`` in one."""
    return normalise(crops(frames, spec, num_crops), spec)


def crops(frames: np.ndarray, spec: Preprocessing, num_crops: int = 1) -> torch.Tensor:
    """Squares of one clip, uint8 (num_crops, T, 3, S, S); S is ``spec.crop``.

    ``frames`` is uint8 (T, H, W, 3) RGB, of any size; those that ``spec.resizing(num_crops)`` has shrunk give the same.
    One crop follows ``spec.mode``; three crops (paper section 4.1) take the short side to S and cut left, centre and
    right squares, or top, centre and bottom ones of a tall frame. Raises ValueError for other numbers of crops.
    """
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops is {num_crops}: it must be 1 or 3")
    pixels = _pixels(shrink(frames, spec, num_crops))
    margins = [length - spec.crop for length in pixels.shape[-2:]]
    centre = [round(m / 2) if spec.cropping == "torchvision" else m // 2 for m in margins]
    last = [2 * c for c in centre] if spec.cropping == "mmcv" else margins
    places = [centre] if num_crops == 1 else [(0, 0), centre, last]
    return torch.stack([pixels[..., y : y + spec.crop, x : x + spec.crop] for y, x in places])


def normalise(pixels: torch.Tensor, spec: Preprocessing) -> torch.Tensor:
    """Pixels 0..255 (..., 3, S, S), uint8 or float -> float32, less the mean and over the deviation of ``spec``.

    Works where the pixels are: bytes are a quarter of what floats would take on their way to an accelerator.
    """
    mean, std = (torch.tensor(values).mul(255).view(3, 1, 1) for values in (spec.mean, spec.std))
    mean, std = (values.to(pixels.device, non_blocking=True) for values in (mean, std))
    return pixels.to(torch.float32, copy=True).sub_(mean).div_(std)


def shrink(frames: np.ndarray, spec: Preprocessing, num_crops: int = 1) -> np.ndarray:
    """Frames uint8 (T, H, W, 3), resized for ``num_crops`` but not cropped: ``crops`` gives the same of both."""
    return _resized(frames, spec.resizing(num_crops))


def augment(frames: np.ndarray, spec: Preprocessing, generator: torch.Generator, flip: bool = True) -> torch.Tensor:
    """A training view of shrunk frames uint8 (T, H, W, 3): float32 (T, 3, S, S), every frame changed alike.

    Multi-scale crop at a corner or the middle, mirrored half the time if ``flip``, colours jittered with probability
    0.8, grey with 0.2: the paper's recipe (section 4.1, after TSN, Wang et al. 2016). Drawn from ``generator`` alone.
    """
    pixels = _pixels(_multi_scale_crop(frames, spec, generator)).float()
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
    places = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
    down, right = places[int(_draw(generator) * len(places))]
    top, left = int((height - tall) * down), int((width - wide) * right)
    square = Resize(spec.crop, "squash", spec.interpolation, spec.antialias, spec.rounding)
    return _resized(frames[:, top : top + tall, left : left + wide], square)


def _jitter(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Brightness, contrast and saturation, each by a factor of 1 - 0.4 to 1 + 0.4."""
    brightness, contrast, saturation = (1 + _JITTER * (2 * _draw(generator) - 1) for _ in range(3))
    pixels = pixels * brightness
    pixels = contrast * pixels + (1 - contrast) * _grey(pixels).mean()
    return (saturation * pixels + (1 - saturation) * _grey(pixels)).clamp(0, 255)


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """(T, 3, H, W) -> luma (T, 1, H, W), ITU-R BT.601."""
    return (pixels * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)


def _draw(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()


def _pixels(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.require(frames, requirements=["C", "W"])).permute(0, 3, 1, 2)


def _resized(frames: np.ndarray, resize: Resize) -> np.ndarray:
    height, width = frames.shape[1:3]
    if resize.target(width, height) == (width, height):
        return frames
    return np.stack([shrink_frame(frame, resize) for frame in frames])
