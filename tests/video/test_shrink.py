"""Resizing in the decoding process: torch's antialiased pixels, or OpenCV's; small, and once only."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from xclip_cli.video.display import Resize, shrink

SIZES = [(120, 160), (161, 97), (33, 500), (500, 33), (48, 48), (7, 5), (1, 1), (314, 640), (1080, 1920)]


def photo(height, width):
    """Smooth colours with some noise: what resizing is made for."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(height * width).integers(0, 60, (height, width, 3))
    base = np.stack([x * 190 / width, y * 190 / height, (x + y) * 190 / (width + height)], axis=-1)
    return (base + noise).astype(np.uint8)


def resize(size=48, mode="shortest", interpolation="bilinear", antialias=True, rounding="floor"):
    return Resize(size, mode, interpolation, antialias, rounding)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_antialiased_pixels_are_torchs_within_one_grey_level(size, interpolation, mode):
    """The first pass rounds; a bicubic second pass, whose weights are not all positive, can make two levels of it."""
    image = photo(*size)
    ours = shrink(image, resize(48, mode, interpolation))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    theirs = F.interpolate(pixels, size=ours.shape[:2], mode=interpolation, antialias=True)
    difference = np.abs(ours.astype(int) - theirs[0].permute(1, 2, 0).numpy().astype(int))
    assert difference.max() <= (1 if interpolation == "bilinear" else 2)
    assert (difference > 1).mean() < 1e-4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_without_antialiasing_pixels_are_opencvs(size, interpolation):
    image = photo(*size)
    ours = shrink(image, resize(48, "shortest", interpolation, False, "round"))
    filters = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    theirs = cv2.resize(image, ours.shape[1::-1], interpolation=filters[interpolation])
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("width", "height", "rounding", "target"),
    [
        (640, 314, "floor", (521, 256)),
        (640, 314, "round", (522, 256)),
        (314, 640, "floor", (256, 521)),
        (314, 640, "round", (256, 522)),
        (640, 360, "round", (455, 256)),
        (256, 256, "round", (256, 256)),
        (1, 1, "floor", (256, 256)),
        (20_000, 2, "round", (256 * 32, 256)),
        (2, 20_000, "floor", (256, 256 * 32)),
    ],
)
def test_the_long_side_is_floored_or_rounded_and_bounded(width, height, rounding, target):
    assert resize(256, rounding=rounding).target(width, height) == target
    assert shrink(np.zeros((height, width, 3), np.uint8), resize(256, rounding=rounding)).shape[1::-1] == target
    assert resize(224, "squash", rounding=rounding).target(width, height) == (224, 224)


def test_of_a_thread_the_middle_is_taken():
    image = np.zeros((2, 200, 3), np.uint8)
    image[:, 68:132] = 255
    assert (shrink(image, resize(8)) == 255).all()
    assert not (shrink(image, resize(8, "squash")) == 255).all()


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("rounding", ["floor", "round"])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [*SIZES, (2, 5000)], ids=str)
def test_what_fits_is_left_alone_so_twice_is_once(size, mode, rounding, antialias):
    how = resize(48, mode, "bilinear", antialias, rounding)
    once = shrink(photo(*size), how)
    assert once.flags.c_contiguous and once.dtype == np.uint8
    assert shrink(once, how) is once


@pytest.mark.parametrize("antialias", [True, False])
def test_takes_read_only_and_mirrored_images_and_leaves_them_alone(antialias):
    image, how = photo(90, 160), resize(antialias=antialias)
    frozen = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert np.array_equal(shrink(frozen, how), shrink(image, how))
    assert np.array_equal(shrink(image[:, ::-1], how), shrink(mirrored, how))
    assert np.array_equal(shrink(image[:, 10:-10], how), shrink(image[:, 10:-10].copy(), how))
