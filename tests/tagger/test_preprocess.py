import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TV

from xclip_cli.checkpoint.registry import CLIP, Preprocessing, as_published
from xclip_cli.finetune.augment import augment
from xclip_cli.tagger.preprocess import crops, preprocess, shrink

RAW = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}  # leaves 0..255, so that results read as pixels
SHORTEST = Preprocessing(resize=48, crop=40, **RAW)
SQUASH = Preprocessing(resize=0, crop=40, mode="squash", **RAW)
SIZES = [(120, 160), (161, 97), (33, 500), (500, 33), (40, 40), (48, 48), (7, 5), (1, 1), (49, 64)]


def photo(height, width, frames=2):
    """Smooth colours with some noise: what resizing is made for."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(height * width).integers(0, 60, (frames, height, width, 3))
    base = np.stack([x * 190 / width, y * 190 / height, (x + y) * 190 / (width + height)], axis=-1)
    return (base + noise).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_one_crop_is_torchvisions_resize_and_centre_crop(size, interpolation):
    frames = photo(*size)
    spec = Preprocessing(48, 40, **RAW, interpolation=interpolation)
    ours = preprocess(frames, spec)
    mode = TV.InterpolationMode(interpolation)
    resized = [TV.resize(Image.fromarray(frame), 48, mode) for frame in frames]
    theirs = [TV.crop(image, (image.height - 40) // 2, (image.width - 40) // 2, 40, 40) for image in resized]
    theirs = torch.stack([TV.pil_to_tensor(image) for image in theirs]).float()
    assert ours.shape == (1, 2, 3, 40, 40) and ours.dtype == torch.float32
    assert (ours[0] - theirs).abs().max() <= 2


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_squash_keeps_the_whole_frame(size):
    frames = photo(*size)
    theirs = [np.asarray(Image.fromarray(frame).resize((40, 40), Image.Resampling.BILINEAR)) for frame in frames]
    ours = preprocess(frames, SQUASH)[0].permute(0, 2, 3, 1)
    assert np.abs(ours.numpy() - np.stack(theirs)).max() <= 2


@pytest.mark.parametrize("spec", [SHORTEST, SQUASH], ids=["shortest", "squash"])
def test_three_crops_of_a_wide_frame_are_left_centre_right(spec):
    frames = np.zeros((3, 40, 120, 3), np.uint8)
    frames[:, :, 40:80] = 100
    frames[:, :, 80:] = 200
    crops = preprocess(frames, spec, num_crops=3)
    assert crops.shape == (3, 3, 3, 40, 40)
    assert [crop.unique().tolist() for crop in crops] == [[0], [100], [200]]
    turned = preprocess(frames.transpose(0, 2, 1, 3), spec, num_crops=3)
    assert torch.equal(turned, crops.transpose(-1, -2))


@pytest.mark.parametrize(("cropping", "starts"), [("edge", (0, 1, 3)), ("mmcv", (0, 1, 2)), ("torchvision", (0, 2, 3))])
def test_where_squares_lie_in_an_odd_margin(cropping, starts):
    """A margin of 3 pixels; columns are numbered by their grey."""
    wide = np.zeros((1, 40, 43, 3), np.uint8) + np.arange(43, dtype=np.uint8)[:, None]
    spec = Preprocessing(40, 40, **RAW, cropping=cropping)
    assert tuple(int(crop[0, 0, 0, 0]) for crop in crops(wide, spec, 3)) == starts
    assert int(crops(wide, spec)[0, 0, 0, 0, 0]) == starts[1]
    assert torch.equal(crops(wide.transpose(0, 2, 1, 3), spec, 3), crops(wide, spec, 3).transpose(-1, -2))


OFFICIAL = as_published(40)


@pytest.mark.parametrize("num_crops", [1, 3])
@pytest.mark.parametrize("spec", [SHORTEST, SQUASH, OFFICIAL], ids=["shortest", "squash", "official"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shrunk_frames_give_what_full_frames_give(size, spec, num_crops):
    frames = photo(*size)
    small = shrink(frames, spec, num_crops)
    assert torch.equal(crops(small, spec, num_crops), crops(frames, spec, num_crops))
    assert shrink(small, spec, num_crops) is small


@pytest.mark.parametrize("spec", [SHORTEST, OFFICIAL], ids=["ours", "official"])
def test_a_training_view_is_drawn_from_its_generator_alone(spec):
    frames = shrink(photo(120, 160, frames=3), spec)
    first, again, other = (augment(frames, spec, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert first.shape == (3, 3, 40, 40) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_normalises_by_mean_and_std():
    frames = np.full((1, 8, 8, 3), 255, np.uint8)
    frames[..., 2] = 0
    pixels = preprocess(frames, Preprocessing(8, 8, *CLIP))[0, 0, :, 0, 0]
    expected = [(value - mean) / std for value, mean, std in zip((1, 1, 0), *CLIP, strict=True)]
    assert torch.allclose(pixels, torch.tensor(expected))


def test_a_thread_like_frame_stays_small():
    assert preprocess(photo(2, 20_000, frames=1), Preprocessing(256, 224), num_crops=3).shape == (3, 1, 3, 224, 224)


def test_takes_read_only_and_reversed_arrays_and_leaves_them_alone():
    frames = photo(60, 60)
    before = frames.copy()
    frozen = np.frombuffer(frames.tobytes(), np.uint8).reshape(frames.shape)
    assert torch.equal(preprocess(frozen, SHORTEST), preprocess(frames, SHORTEST))
    assert torch.equal(preprocess(frames[::-1], SHORTEST)[0].flip(0), preprocess(frames, SHORTEST)[0])
    assert np.array_equal(frames, before)


def test_a_clip_does_not_depend_on_its_neighbours():
    frames = photo(70, 90, frames=4)
    assert torch.equal(preprocess(frames, SHORTEST)[:, 2:3], preprocess(frames[2:3], SHORTEST))


def test_refuses_other_numbers_of_crops():
    with pytest.raises(ValueError, match="1 or 3"):
        preprocess(photo(8, 8), SHORTEST, num_crops=2)
