"""Frames as a reader gives them -> the tensor the network takes. Deterministic, and one clip in memory at a time."""

import numpy as np
import torch
from torch.nn import functional as F

from xclip_cli.registry import Preprocessing

_LONGEST = 32  # a frame of 2 x 10000 pixels, resized by its short side, would fill gigabytes


def preprocess(frames: np.ndarray, spec: Preprocessing, num_crops: int = 1) -> torch.Tensor:
    """Network input of one clip: float32 (num_crops, T, 3, S, S), normalised by ``spec``; S is ``spec.crop``.

    ``frames`` is uint8 (T, H, W, 3) RGB, of any size. One crop follows ``spec.mode``; three crops (paper section 4.1)
    take the short side to S and cut left, centre and right squares, or top, centre and bottom ones of a tall frame.
    Resizing filters as Pillow does (antialiased) and rounds sizes as torchvision does; an odd margin leaves its pixel
    right and below, as in X-CLIP's own loader. Raises ValueError for other numbers of crops.
    """
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops is {num_crops}: it must be 1 or 3")
    pixels = torch.from_numpy(np.require(frames, requirements=["C", "W"])).permute(0, 3, 1, 2)
    size = spec.crop
    if num_crops == 3:
        views = _ends_and_centre(_resize_short_side(pixels, size, spec.interpolation), size)
    elif spec.mode == "squash":
        views = [_resize(pixels, size, size, spec.interpolation)]
    else:
        views = [_centre(_resize_short_side(pixels, spec.resize, spec.interpolation), size)]
    mean, std = (torch.tensor(values).mul(255).view(3, 1, 1) for values in (spec.mean, spec.std))
    return torch.stack([view.float().sub_(mean).div_(std) for view in views])


def _resize_short_side(pixels: torch.Tensor, size: int, interpolation: str) -> torch.Tensor:
    height, width = pixels.shape[-2:]
    limit = _LONGEST * min(height, width)
    if max(height, width) > limit:
        top, left = max(height - limit, 0) // 2, max(width - limit, 0) // 2
        pixels = pixels[..., top : top + limit, left : left + limit]
        height, width = pixels.shape[-2:]
    if height <= width:
        return _resize(pixels, size, int(size * width / height), interpolation)
    return _resize(pixels, int(size * height / width), size, interpolation)


def _resize(pixels: torch.Tensor, height: int, width: int, interpolation: str) -> torch.Tensor:
    if pixels.shape[-2:] == (height, width):
        return pixels
    return F.interpolate(pixels, size=(height, width), mode=interpolation, antialias=True)


def _centre(pixels: torch.Tensor, size: int) -> torch.Tensor:
    top, left = ((length - size) // 2 for length in pixels.shape[-2:])
    return pixels[..., top : top + size, left : left + size]


def _ends_and_centre(pixels: torch.Tensor, size: int) -> list[torch.Tensor]:
    return [pixels[..., :size, :size], _centre(pixels, size), pixels[..., -size:, -size:]]
