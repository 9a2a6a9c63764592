"""Frames in memory get the tags of the file that they came from."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from xclip_cli import Tagger
from xclip_cli.errors import UsageError
from xclip_cli.video.probe import probe
from xclip_cli.video.reader import open_reader

LABELS = "running,dunking,a dog"


def read_whole(path):
    video = open_reader("opencv").open(str(path))
    info = probe(str(path)).info
    middles = info.start_seconds + (np.arange(info.num_frames) + 0.5) / info.fps
    images, _ = video.frames_at(middles)
    video.close()
    return images, info.fps


def as_of_file(result, path):
    return replace(result, video=str(path), reader="opencv")


@pytest.mark.parametrize("options", [{}, {"num_clips": 2, "num_crops": 3}, {"window_seconds": 0.5, "threshold": 0.3}])
def test_frames_get_the_tags_of_their_file(toy_model, clips, options):
    with Tagger(toy_model, LABELS, workers=1, **options) as tagger:
        for path in sorted(clips.iterdir()):
            frames, fps = read_whole(path)
            expected = tagger.tag(path)
            assert as_of_file(tagger.tag_frames(frames, fps), path) == expected
            pictures = [Image.fromarray(frame) for frame in frames]
            assert as_of_file(tagger.tag_frames(pictures, fps, LABELS), path) == expected


@pytest.mark.parametrize("number", range(5))
def test_real_frames_get_the_tags_of_their_file(toy_model, shared, number):
    path = sorted((shared / "clips").glob("*.mp4"))[number]
    frames, fps = read_whole(path)
    with Tagger(toy_model, LABELS, workers=1, reader="opencv") as tagger:
        expected = tagger.tag(path).segments[0].tags
        found = tagger.tag_frames(frames, fps).segments[0].tags
    assert found == expected


def test_frames_are_embedded_as_their_file(toy_model, clips):
    path = clips / "a.mp4"
    frames, fps = read_whole(path)
    with Tagger(toy_model, workers=1).encoder as encoder:
        ours, theirs = encoder.embed_frames(frames, fps), encoder.embed(str(path))
    for name in ("whole", "patches", "windows", "spans", "scenes"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.duration_seconds, ours.end_seconds) == (theirs.duration_seconds, theirs.end_seconds)


SOUND = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "fps", "message", "hint"),
    [
        (SOUND.astype(np.float32), 25, "frames are float32: they must be uint8", "frames * 255"),
        (SOUND.astype(np.int64), 25, "frames are int64: they must be uint8", None),
        (SOUND.transpose(0, 3, 1, 2), 25, r"the shape \(4, 3, 8, 8\): it must be \(T, H, W, 3\)", "transpose"),
        (SOUND[0], 25, r"the shape \(8, 8, 3\)", "np.stack"),
        (SOUND[..., :1], 25, r"the shape \(4, 8, 8, 1\)", "RGB"),
        (SOUND[:0], 25, "there are 0 frames: there must be 1 or more", None),
        ([], 25, r"the shape \(0,\)", "RGB"),
        ([SOUND[0], SOUND[0][:4]], 25, r"the shapes \(4, 8, 3\) and \(8, 8, 3\)", "resize"),
        ([Image.new("L", (8, 8)), Image.new("RGB", (4, 8))], 25, r"\(8, 4, 3\) and \(8, 8, 3\)", "resize"),
        ("clip.mp4", 25, r"the shape \(\)", "RGB"),
        (SOUND, 0, "fps is 0: it must be more than 0", "frames per second"),
        (SOUND, -1.0, "fps is -1.0", "frames per second"),
        (SOUND, float("nan"), "fps is nan", "frames per second"),
        (SOUND, "25", "fps is '25'", "frames per second"),
    ],
)
def test_other_frames_are_refused(toy_model, frames, fps, message, hint):
    tagger = Tagger(toy_model)
    with pytest.raises(UsageError, match=message) as caught:
        tagger.tag_frames(frames, fps, LABELS)
    assert (hint is None) == (caught.value.hint is None) and (hint or "") in (caught.value.hint or "")
    with pytest.raises(UsageError, match=message):
        tagger.encoder.embed_frames(frames, fps)


@pytest.mark.parametrize("options", [{}, {"window_seconds": "auto"}])
def test_one_frame_is_enough(toy_model, options):
    result = Tagger(toy_model, LABELS, **options).tag_frames(SOUND[:1], 25.0)
    assert result.error is None and result.video == "frames" and result.reader == "memory"
