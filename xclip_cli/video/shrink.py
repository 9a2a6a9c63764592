"""A frame of any size -> the frame as a model wants it resized; in a decoding process, so that little is sent on."""

import numpy as np
from PIL import Image

from xclip_cli.registry import LONGEST, Resize


def shrink(image: np.ndarray, resize: Resize) -> np.ndarray:
    """The image uint8 (H, W, 3), resized: uint8 (h, w, 3), C-contiguous. One that fits comes back as it is.

    Antialiased resizing is Pillow's, which torch's is within one grey level; without antialiasing it is OpenCV's.
    """
    height, width = image.shape[:2]
    target = resize.target(width, height)
    if target == (width, height):
        return np.ascontiguousarray(image)
    if resize.mode == "shortest":
        image = _middle(image)
    return _antialiased(image, target, resize) if resize.antialias else _nearby(image, target, resize)


def _middle(image: np.ndarray) -> np.ndarray:
    """What is looked at of a frame like a thread."""
    height, width = image.shape[:2]
    limit = LONGEST * min(height, width)
    top, left = max(height - limit, 0) // 2, max(width - limit, 0) // 2
    return image[top : top + limit, left : left + limit]


def _antialiased(image: np.ndarray, target: tuple[int, int], resize: Resize) -> np.ndarray:
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return np.array(Image.fromarray(image).resize(target, filters[resize.interpolation]))


def _nearby(image: np.ndarray, target: tuple[int, int], resize: Resize) -> np.ndarray:
    import cv2

    filters = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    return cv2.resize(np.ascontiguousarray(image), target, interpolation=filters[resize.interpolation])
