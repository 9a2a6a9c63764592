"""What ffmpeg and Pillow show of a file, to hold our frames against: small pictures, their times, the size."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from xclip_cli.errors import VideoError
from xclip_cli.video.reader import open_reader, read_clip

SIDE = 96
DEINTERLACED = "bwdif=mode=send_frame:deint=interlaced"
_SQUARE = "scale=iw*if(sar\\,sar\\,1):ih,setsar=1,showinfo"
ALL_READERS = ("auto", "pyav", "opencv", "decord")


class Shown(NamedTuple):
    """int16 (N, 96, 96, 3), float64 (N,) seconds from the first, (width, height)."""

    small: np.ndarray
    times_seconds: np.ndarray
    size: tuple[int, int]


def small(frames: np.ndarray) -> np.ndarray:
    resized = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(resized).astype(np.int16)


def by_ffmpeg(path: Path, stream: str = "v:0", *filters: str) -> Shown:
    """Turned and with square pixels, as ffmpeg does; ``filters`` come before."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    chain = ",".join((*filters, _SQUARE))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "info", "-i", path, "-map", f"0:{stream}"]
    command += ["-vf", chain, "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    run = subprocess.run(list(map(str, command)), capture_output=True)
    log = run.stderr.decode("utf8", "replace")
    times = np.array([float(time) for time in re.findall(r" n: *\d+ pts: *\S+ pts_time: *(\S+)", log)])
    sizes = re.findall(r"showinfo.* s:(\d+)x(\d+) ", log)
    assert len(times), log[-500:]
    width, height = map(int, sizes[0])
    frames = np.frombuffer(run.stdout, np.uint8).reshape(-1, height, width, 3)
    return Shown(small(frames), times[: len(frames)] - times[0], (width, height))


def by_pillow(path: Path) -> Shown:
    """Each picture of an animation, as it is shown."""
    image_module = pytest.importorskip("PIL.Image")
    frames, starts, now = [], [], 0.0
    with image_module.open(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            starts.append(now)
            now += image.info.get("duration", 0) / 1000
        return Shown(small(np.stack(frames)), np.array(starts), image.size)


def assert_as_shown(clip, shown: Shown, most: float = 6) -> None:
    """Each frame is the one that is shown at its time (mean absolute difference), and its time is the one asked for."""
    ours = small(clip.frames)
    wanted = (np.arange(len(ours)) + 0.5) / len(ours) * clip.info.duration_seconds
    step = np.median(np.diff(shown.times_seconds)) if len(shown.times_seconds) > 1 else 1.0
    slack = min(0.0015, 0.4 * step)  # time stamps are rounded
    for frame, said, want in zip(ours, clip.times_seconds - clip.info.start_seconds, wanted, strict=True):
        at = np.searchsorted(shown.times_seconds, [said + slack, want + slack], "right") - 1
        near = shown.small[max(0, at[0] - 1) : at[0] + 2]
        assert np.abs(near - frame).mean((1, 2, 3)).min() <= most, f"the frame at {said:.3f} s is another"
        late = abs(shown.times_seconds[at[1]] - said)
        assert late <= max(1.5 * step, 0.0011), f"{said:.3f} s instead of {want:.3f} s"


def read_or_skip(name: str, path: Path, num_frames: int = 8):
    """The clip; a reader that was chosen by name may refuse a kind if it names another one."""
    if name == "decord":
        pytest.importorskip("decord")
    try:
        return read_clip(open_reader(name), str(path), num_frames)
    except VideoError as error:
        if name in ("auto", "pyav") or not (error.hint or "").startswith("try --reader "):
            raise
        pytest.skip(error.message)
