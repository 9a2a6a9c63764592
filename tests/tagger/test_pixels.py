"""What official X-CLIPs see of real clips is what their authors' loader shows them, computed here by OpenCV alone."""

import cv2
import numpy as np
import pytest

from xclip_cli.checkpoint.registry import MODELS, Preprocessing
from xclip_cli.tagger.preprocess import crops, shrink

SPEC = MODELS["xclip-base-patch16"].preprocessing


def frames_of(path, num_frames=4):
    """The first frames of a video, RGB."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while len(frames) < num_frames:
        got, frame = capture.read()
        assert got
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)


def resized(frame, short):
    """mmcv's Resize with scale (inf, short): both sides by one factor, rounded half up; bilinear."""
    height, width = frame.shape[:2]
    factor = short / min(height, width)
    return cv2.resize(frame, (int(width * factor + 0.5), int(height * factor + 0.5)), interpolation=cv2.INTER_LINEAR)


def centre_crop(frame, size):
    height, width = frame.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return frame[top : top + size, left : left + size]


def three_crops(frame, size):
    """mmaction's ThreeCrop of a frame whose short side is ``size``, from left to right or top to bottom."""
    height, width = frame.shape[:2]
    down, right = (height - size) // 2, (width - size) // 2
    return [frame[i * down : i * down + size, i * right : i * right + size] for i in range(3)]


def difference(ours, theirs):
    """The largest, in grey levels; ``ours`` has channels before height, ``theirs`` last."""
    return int(np.abs(ours.numpy().astype(int) - np.moveaxis(np.stack(theirs), -1, -3).astype(int)).max())


@pytest.fixture(scope="module")
def real_clips(shared):
    videos = sorted(path for path in (shared / "clips").iterdir() if path.suffix in (".mp4", ".avi", ".mkv"))
    assert len(videos) == 26
    return {path.name: frames_of(path) for path in videos}


def test_the_authors_pixels_of_real_clips(real_clips):
    found = {}
    for name, frames in real_clips.items():
        small = [resized(frame, 256) for frame in frames]
        assert shrink(frames, SPEC).shape == np.stack(small).shape, name
        whole = int(np.abs(shrink(frames, SPEC).astype(int) - np.stack(small).astype(int)).max())
        [centre] = crops(frames, SPEC)
        views = zip(*(three_crops(resized(frame, 224), 224) for frame in frames), strict=True)
        three = [difference(*pair) for pair in zip(crops(frames, SPEC, 3), views, strict=True)]
        found[name] = whole, difference(centre, [centre_crop(frame, 224) for frame in small]), max(three)
    print("\nlargest difference in grey levels (resize, centre crop, three crops):", *found.items(), sep="\n")
    assert max(max(values) for values in found.values()) <= 1


def test_antialiased_pixels_are_others(real_clips):
    """The clips tell the two ways apart."""
    theirs = {name: crops(frames, SPEC) for name, frames in real_clips.items()}
    other = Preprocessing(256, 224)
    far = [(crops(real_clips[name], other).int() - pixels.int()).abs().max() for name, pixels in theirs.items()]
    assert max(far) > 20
