"""Real clips with bytes flipped, cut off or zeroed: a clip or a VideoError, and the pool lives on."""

import numpy as np
import pytest
from numbered_clips import packaged_clips, shared_clips

from xclip_cli.errors import VideoError
from xclip_cli.video.worker import DecodePool


def flip(content: np.ndarray, rng) -> np.ndarray:
    content = content.copy()
    content[rng.integers(0, len(content), 200)] ^= rng.integers(1, 256, 200, dtype=np.uint8)
    return content


def cut(content: np.ndarray, rng) -> np.ndarray:
    return content[: rng.integers(1, len(content))]


def zero(content: np.ndarray, rng) -> np.ndarray:
    content = content.copy()
    start = rng.integers(0, len(content))
    content[start : start + len(content) // 5] = 0
    return content


def flip_head(content: np.ndarray, rng) -> np.ndarray:
    content = content.copy()
    content[rng.integers(0, 4096, 40)] ^= rng.integers(1, 256, 40, dtype=np.uint8)
    return content


def decode_damaged(reader: str, clips, seeds, folder) -> None:
    if reader == "decord":
        pytest.importorskip("decord")
    whole = clips[0]
    outcomes = {"clip": 0, "warned": 0, "error": 0}
    with DecodePool(reader, workers=2, timeout_seconds=8) as pool:
        futures = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            for path in clips:
                for damage in (flip, cut, zero, flip_head):
                    broken = folder / f"{seed}-{damage.__name__}-{path.name}"
                    damage(np.fromfile(path, np.uint8), rng).tofile(broken)
                    futures.append((broken, pool.submit(broken, 4)))
        for broken, future in futures:
            try:
                clip = future.result()
                assert clip.frames.shape == (4, clip.info.height, clip.info.width, 3)
                assert np.isfinite(clip.times_seconds).all() and (clip.times_seconds >= 0).all()
                outcomes["warned" if clip.warnings else "clip"] += 1
            except VideoError as error:
                assert "\n" not in error.message and len(error.message) < 400, broken
                assert "TypeError" not in error.message and "IndexError" not in error.message, error.message
                outcomes["error"] += 1
        assert pool.submit(whole, 4).result().frames.shape[0] == 4
    print(f"{reader}: {outcomes}")


@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_damage_costs_one_video(reader, numbered, tmp_path):
    clips = [
        numbered("damaged.mp4", 60, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "12"),
        numbered("damaged.mkv", 60, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"),
        numbered("damaged.avi", 60, "-c:v", "mpeg4", "-bf", "2"),
        *(path for path in packaged_clips() if "carphone" in path.name),
    ]
    decode_damaged(reader, clips, range(2), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["opencv", "decord"])
def test_much_damage(reader, tmp_path):
    clips = packaged_clips() + shared_clips()
    if not clips:
        pytest.skip("no real clips here")
    decode_damaged(reader, clips, range(3), tmp_path)
