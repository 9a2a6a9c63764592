"""Frames as a reader gives them -> the tensor the network takes."""

import numpy as np
import torch

from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.video.display import Resize
from xclip_cli.video.display import shrink as shrink_frame


def preprocess(frames: np.ndarray, spec: Preprocessing, num_crops: int = 1) -> torch.Tensor:
    """Network input of one clip: float32 (num_crops, T, 3, S, S), ``crops`` and ``normalise`` in one."""
    return normalise(crops(frames, spec, num_crops), spec)


def crops(frames: np.ndarray, spec: Preprocessing, num_crops: int = 1) -> torch.Tensor:
    """Squares of one clip, uint8 (num_crops, T, 3, S, S); S is ``spec.crop``.

    ``frames`` is uint8 (T, H, W, 3) RGB, of any size; those that ``resizing(spec, num_crops)`` has shrunk give the
    same.
    One crop follows ``spec.mode``; three crops (paper section 4.1) take the short side to S and cut left, centre and
    right squares, or top, centre and bottom ones of a tall frame. Raises ValueError for other numbers of crops.
    """
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops is {num_crops}: it must be 1 or 3")
    pixels = channels_first(shrink(frames, spec, num_crops))
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


def resizing(spec: Preprocessing, num_crops: int = 1) -> Resize:
    """Return how frames are resized before ``num_crops`` squares are cut: for three, the short side is a square's."""
    mode = spec.mode if num_crops == 1 else "shortest"
    size = spec.resize if (num_crops, mode) == (1, "shortest") else spec.crop
    return Resize(size, mode, spec.interpolation, spec.antialias, spec.rounding)


def shrink(frames: np.ndarray, spec: Preprocessing, num_crops: int = 1) -> np.ndarray:
    """Frames uint8 (T, H, W, 3), resized for ``num_crops`` but not cropped: ``crops`` gives the same of both."""
    return resized(frames, resizing(spec, num_crops))


def channels_first(frames: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) -> (T, 3, H, W), the same memory where it can be."""
    return torch.from_numpy(np.require(frames, requirements=["C", "W"])).permute(0, 3, 1, 2)


def resized(frames: np.ndarray, resize: Resize) -> np.ndarray:
    """Every frame of (T, H, W, 3)."""
    height, width = frames.shape[1:3]
    if resize.target(width, height) == (width, height):
        return frames
    return np.stack([shrink_frame(frame, resize) for frame in frames])
