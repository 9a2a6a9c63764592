"""Caches what never changes while learning: trunk maps of every photo in several views, and of the real clips.

Each cache is written under another name and renamed when whole, so a broken run goes on where it stopped.
"""

import argparse
import random
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from data import Archive, clips, photos
from trunk import trunk_state_from_pretrained

from xclip_cli.model.stem import MULTIPLIERS, EfficientNetLite
from xclip_cli.video.reader import open_reader, read_clip

IMAGE_SIZE, GRID = 256, 8
MEAN, STD = 127.0, 128.0
NUM_FRAMES = 8


def plain_view(image: np.ndarray) -> np.ndarray:
    """Short side to 256, centre square: what a frame gets at run time."""
    height, width = image.shape[:2]
    scale = IMAGE_SIZE / min(height, width)
    size = max(IMAGE_SIZE, round(width * scale)), max(IMAGE_SIZE, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (image.shape[0] - IMAGE_SIZE) // 2, (image.shape[1] - IMAGE_SIZE) // 2
    return image[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE].astype(np.float32)


def varied_view(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """A random crop of random shape, mirrored, recoloured, blurred: also what poor video does to a picture."""
    image = _crop(image, rng)
    if rng.random() < 0.3:
        small = rng.randint(96, 200)
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    image = cv2.resize(image, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    image = image.astype(np.float32)
    if rng.random() < 0.8:
        image = _recolour(image, rng)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2))
    return np.clip(image, 0, 255)


def _crop(image: np.ndarray, rng: random.Random) -> np.ndarray:
    height, width = image.shape[:2]
    area = rng.uniform(0.3, 1.0) * height * width
    shape = np.exp(rng.uniform(np.log(0.6), np.log(1.7))) * (width / height) ** 0.5
    wide, high = min(width, round((area * shape) ** 0.5)), min(height, round((area / shape) ** 0.5))
    left, top = rng.randint(0, width - wide), rng.randint(0, height - high)
    return image[top : top + high, left : left + wide]


def _recolour(image: np.ndarray, rng: random.Random) -> np.ndarray:
    image = image * rng.uniform(0.6, 1.4)
    mean = image.mean()
    image = (image - mean) * rng.uniform(0.6, 1.4) + mean
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    colour = rng.uniform(0.3, 1.5)
    if rng.random() < 0.1:
        colour = 0
    return grey[..., None] * (1 - colour) + image * colour


def cache_maps(data: Path, work: Path, trunk: EfficientNetLite, view: int) -> None:
    """``maps{view}.npy``, float16 (photos, 64, 352): before the trunk's last, 1 x 1 convolution; view 0 is plain."""
    rows, archive, draft = photos(data), Archive(data), work / f"draft-maps{view}.npy"
    maps = np.lib.format.open_memmap(draft, "w+", np.float16, (len(rows), GRID * GRID, trunk.head.in_channels))
    for first in range(0, len(rows), 32):
        images = []
        for number in range(first, min(first + 32, len(rows))):
            image = archive.read(rows[number].member)
            rng = random.Random(view * 1_000_003 + number)
            images.append(varied_view(image, rng) if view else plain_view(image))
        maps[first : first + len(images)] = trunk_maps(trunk, np.stack(images))
        if first % 3200 == 0:
            print(f"view {view}: {first}/{len(rows)}", flush=True)
    maps.flush()
    draft.rename(work / f"maps{view}.npy")


@torch.inference_mode()
def cache_pooled(work: Path, trunk: EfficientNetLite, view: str) -> None:
    """``pooled{view}.npy``, float16 (..., 1280): the mean of the last map, of which the class token is made."""
    maps, pooled = np.load(work / f"maps{view}.npy", mmap_mode="r"), []
    weight, bias = trunk.head.weight[:, :, 0, 0], trunk.head.bias
    for first in range(0, len(maps), 32):
        features = F.relu6(F.linear(torch.tensor(maps[first : first + 32]).to(weight.dtype), weight, bias))
        pooled.append(features.float().mean(-2).half().numpy())
    np.save(work / f"pooled{view}.npy", np.concatenate(pooled))


@torch.inference_mode()
def trunk_maps(trunk: EfficientNetLite, images: np.ndarray) -> np.ndarray:
    """RGB (B, 256, 256, 3) in 0..255 -> float16 (B, 64, 352)."""
    pixels = ((torch.from_numpy(images) - MEAN) / STD).permute(0, 3, 1, 2)
    pixels = pixels.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    return trunk.blocks(F.relu6(trunk.stem(pixels))).flatten(2).transpose(1, 2).half().numpy()


def cache_clips(data: Path, work: Path, trunk: EfficientNetLite) -> None:
    """``maps-clips.npy``, float16 (clips, 8, 64, 352): the frames that `xclip tag` looks at."""
    maps = []
    for clip in clips(data):
        frames = read_clip(open_reader("opencv"), str(data / clip.member), NUM_FRAMES).frames
        maps.append(trunk_maps(trunk, np.stack([plain_view(frame) for frame in frames])))
    np.save(work / "maps-clips.npy", np.stack(maps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--trunk", type=Path, required=True, help="efficientnet-lite2-*.pth")
    parser.add_argument("--stem", choices=MULTIPLIERS, default="efficientnet_lite2")
    parser.add_argument("--views", type=int, default=1, help="plain, then varied ones; mini was made with one")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    trunk = EfficientNetLite(*MULTIPLIERS[args.stem])
    trunk.load_state_dict(trunk_state_from_pretrained(torch.load(args.trunk, weights_only=True)))
    trunk = trunk.eval().to(torch.bfloat16).to(memory_format=torch.channels_last)
    if not (args.work / "maps-clips.npy").exists():
        cache_clips(args.data, args.work, trunk)
    for view in ("-clips", *map(str, range(args.views))):
        if not (args.work / f"maps{view}.npy").exists():
            cache_maps(args.data, args.work, trunk, int(view))
        if not (args.work / f"pooled{view}.npy").exists():
            cache_pooled(args.work, trunk, view)


if __name__ == "__main__":
    main()
