"""From a picture as it is coded to what a person sees: upright, with square pixels, at the size asked for."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image

from xclip_cli.errors import VideoError

MAX_FRAME_PIXELS = 100_000_000
MAX_CLIP_BYTES = 4 * 2**30
# Pixels nearly square are a rounding of some encoder, of which stretching would only make a blur; pixels of an absurd
# shape are a mistake in the file.
_UNSEEN_STRETCH, _MAX_STRETCH = 1.01, 16
LONGEST = 32  # a frame of 2 x 10000 pixels, resized by its short side, would fill gigabytes


@dataclass(frozen=True)
class Resize:
    """How a frame's size changes.

    ``shortest``: the short side becomes ``size`` pixels, the long one in proportion, its fraction dropped (rounding
    ``floor``) or rounded (``round``); of a side longer than LONGEST times the other only the middle is taken.
    ``squash``: both sides become ``size`` pixels. ``antialias``: the filter is as wide as what becomes one pixel, as
    Pillow's; else it looks at the nearest 2 x 2 pixels (``bilinear``) or 4 x 4 (``bicubic``), as OpenCV's.
    """

    size: int
    mode: str
    interpolation: str
    antialias: bool
    rounding: str

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, in pixels, of what a frame of this width and height becomes."""
        if self.mode == "squash":
            return self.size, self.size
        short, long = min(width, height), max(width, height)
        long = min(long, LONGEST * short)
        # The order of the operations is torchvision's and mmcv's: another would round other fractions.
        long = int(self.size * long / short) if self.rounding == "floor" else int(long * (self.size / short) + 0.5)
        return (long, self.size) if width >= height else (self.size, long)


class Orientation(NamedTuple):
    """How to show a coded picture: ``transposed`` first, then ``mirrored`` (sideways) and ``flipped`` (upside down)."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    @property
    def is_mirror(self) -> bool:
        """Whether left and right change places, as no turning does."""
        return self.transposed == (self.mirrored == self.flipped)

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> "Orientation":
        """That of a display matrix of nine numbers (ISO 14496-12, 6.2.2), at the nearest quarter turn."""
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @classmethod
    def of_rotation(cls, degrees: float) -> "Orientation":
        """That of a turn against the clock, at the nearest quarter turn."""
        return (cls(), cls(True, False, True), cls(False, True, True), cls(True, True, False))[round(degrees / 90) % 4]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A view of the image (H, W, 3), upright."""
        image = image.transpose(1, 0, 2) if self.transposed else image
        return image[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]


UPRIGHT = Orientation()


@dataclass(frozen=True)
class Display:
    """How the pictures of one video are shown. ``width`` and ``height`` are those of a coded picture, in pixels.

    ``name`` is the file's, for messages; ``pixel_aspect`` the width of a pixel over its height.
    """

    name: str
    width: int
    height: int
    orientation: Orientation = UPRIGHT
    pixel_aspect: Fraction | int = 1

    def __post_init__(self):
        if not _UNSEEN_STRETCH < max(self.pixel_aspect, 1 / self.pixel_aspect) < _MAX_STRETCH:
            object.__setattr__(self, "pixel_aspect", 1)
        self._check(self.width, self.height)
        self._check(*self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is shown; the coded width is stretched, as by ffmpeg and most players."""
        width = max(1, round(self.width * self.pixel_aspect))
        return (self.height, width) if self.orientation.transposed else (width, self.height)

    def empty(self, num_frames: int, resize: Resize | None = None) -> np.ndarray:
        """Room for so many pictures, uint8 (N, H, W, 3). VideoError where that is an absurd amount of memory."""
        width, height = resize.target(*self.size) if resize else self.size
        if (total := width * height * 3 * num_frames) > MAX_CLIP_BYTES:
            raise VideoError(
                f"{self.name}: {num_frames} frames of {width}x{height} take {total} bytes; at most {MAX_CLIP_BYTES}",
                "ask for fewer frames or clips",
            )
        return np.empty((num_frames, height, width, 3), np.uint8)

    def __call__(self, image: np.ndarray, resize: Resize | None = None) -> np.ndarray:
        """The coded picture uint8 (H, W, 3), of this size or, in the middle of some videos, of another, as shown."""
        image = self.orientation(image)
        if image.shape[1::-1] != self.size:
            import cv2  # here, so that whoever only hands clips on starts without it

            smaller = image.shape[0] * image.shape[1] > self.size[0] * self.size[1]
            filter = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
            image = cv2.resize(np.ascontiguousarray(image), self.size, interpolation=filter)
        return shrink(image, resize) if resize else image

    def _check(self, width: int, height: int) -> None:
        if width * height > MAX_FRAME_PIXELS:
            raise VideoError(f"{self.name} has frames of {width}x{height}; at most {MAX_FRAME_PIXELS} pixels are read")


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
