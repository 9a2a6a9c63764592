"""Real clips with bytes flipped, cut off or zeroed: a clip or a VideoError, and the pool lives on."""

from collections import Counter, deque

import numpy as np
import pytest
from numbered_clips import packaged_clips, run_ffmpeg, shared_clips

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
    content[rng.integers(0, min(4096, len(content)), 40)] ^= rng.integers(1, 256, 40, dtype=np.uint8)
    return content


DAMAGES = (flip, cut, zero, flip_head)


def damaged_copies(clips, seeds, folder):
    """Each damage of each clip, written when it is asked for."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for path in clips:
            for damage in DAMAGES:
                broken = folder / f"{seed}-{damage.__name__}-{path.name}"
                damage(np.fromfile(path, np.uint8), rng).tofile(broken)
                yield broken


def outcome(broken, future) -> str:
    try:
        clip = future.result()
    except VideoError as error:
        assert "\n" not in error.message and len(error.message) < 400, broken
        assert "TypeError" not in error.message and "IndexError" not in error.message, error.message
        ends = {"crashed the decoder": "crashed", "was not decoded within": "hung"}
        return next((name for end, name in ends.items() if end in error.message), "error")
    assert clip.frames.shape == (4, clip.info.height, clip.info.width, 3), broken
    assert np.isfinite(clip.times_seconds).all() and (clip.times_seconds >= 0).all(), broken
    assert np.isfinite(clip.info.duration_seconds), broken
    return "warned" if clip.warnings else "clip"


def decode_damaged(reader: str, clips, seeds, folder) -> None:
    if reader == "decord":
        pytest.importorskip("decord")
    outcomes = Counter()
    with DecodePool(reader, workers=2, timeout_seconds=30) as pool:
        waiting = deque()
        for broken in damaged_copies(clips, seeds, folder):
            waiting.append((broken, pool.submit(broken, 4)))
            if len(waiting) == pool.capacity:
                outcomes[outcome(*waiting.popleft())] += 1
        outcomes.update(outcome(*pair) for pair in waiting)
        assert pool.submit(clips[0], 4).result().frames.shape[0] == 4
    print(f"{reader}: {outcomes.total()} copies, {dict(outcomes)}")


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


X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "12")
CONTAINERS = {
    "mp4": X264,
    "mov": (*X264, "-flags", "+ilme+ildct", "-x264opts", "tff=1"),
    "mkv": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0"),
    "webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "avi": ("-c:v", "mpeg4", "-bf", "2"),
    "ts": X264,
    "mpg": ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "5"),
    "flv": X264,
    "wmv": ("-c:v", "wmv2"),
    "ogv": ("-c:v", "libtheora", "-q:v", "6"),
    "gif": (),
    "png": ("-f", "apng"),
    "webp": ("-c:v", "libwebp_anim"),
}
COPIES = {"auto": 2000, "pyav": 400, "opencv": 400, "decord": 400}


@pytest.mark.slow
@pytest.mark.parametrize("reader", COPIES)
def test_damage_in_every_container(reader, tmp_path, bikes):
    """Also an interlaced video, animations, and several codecs."""
    clips = []
    for suffix, codec in CONTAINERS.items():
        clips.append(tmp_path / f"whole.{suffix}")
        run_ffmpeg("-i", bikes, "-t", "2", "-vf", "scale=192:108,fps=12", "-an", *codec, clips[-1])
    seeds = range(-(-COPIES[reader] // (len(clips) * len(DAMAGES))))
    (tmp_path / "broken").mkdir()
    decode_damaged(reader, clips, seeds, tmp_path / "broken")
