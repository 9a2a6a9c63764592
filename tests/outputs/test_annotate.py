"""The annotated video: captions where and when they belong, sound as before; a decoder that hangs is killed."""

import gc
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from xclip_cli.errors import VideoError
from xclip_cli.outputs import annotate as annotating
from xclip_cli.outputs import overlay as overlaying
from xclip_cli.outputs.annotate import annotate, moments
from xclip_cli.outputs.plots import draw_caption
from xclip_cli.results import UNKNOWN, Segment, Tag, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.video.types import VideoInfo

SETTINGS = TagSettings(workers=1)


def video_with_sound(path, seconds=2, size=(320, 180)):
    """A grey video at 10 frames a second with a tone in AAC."""
    with av.open(str(path), "w", format="mp4") as output:
        pictures, sound = output.add_stream("mpeg4", rate=10), output.add_stream("aac", rate=44100)
        pictures.width, pictures.height = size
        pictures.pix_fmt = "yuv420p"
        for _ in range(10 * seconds):
            grey = np.full((size[1], size[0], 3), 128, np.uint8)
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        output.mux(pictures.encode(None))
        wave = np.sin(np.arange(44100 * seconds) / 20).astype(np.float32)[None] / 2
        for start in range(0, wave.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 44100, start
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path


def result(video, *segments):
    """Segments given as (start, end, label, score)."""
    made = (Segment(start, end, (Tag(label, score, 0.1),)) for start, end, label, score in segments)
    return VideoResult(str(video), "mini", "everyday", tuple(made))


def test_moments_are_the_tags_that_hold_together():
    timeline = result("a.mp4", (1.0, 3.0, "a", 0.5), (2.0, 4.0, "b", 0.9), (6.0, 7.0, "a", 0.4))
    found = [(start, stop, [tag.label for tag in tags]) for start, stop, tags in moments(timeline)]
    assert found == [(1.0, 2.0, ["a"]), (2.0, 3.0, ["b", "a"]), (3.0, 4.0, ["b"]), (6.0, 7.0, ["a"])]
    whole = VideoResult("a.mp4", "m", "l", (Segment(0.0, 5.0, (Tag("a", 0.6, 0.1), Tag("b", 0.2, 0.1))),))
    assert [(*span, [tag.label for tag in tags]) for *span, tags in moments(whole)] == [(0.0, 5.0, ["a", "b"])]


def test_captions_are_burnt_in_when_they_hold_and_sound_stays(tmp_path):
    video = video_with_sound(tmp_path / "a.mp4")
    progress = []
    tagged = result(video, (0.5, 1.0, "running <b>", 0.5), (1.5, 2.0, UNKNOWN, None))
    annotate(tagged, tmp_path / "out.mp4", SETTINGS, lambda *now: progress.append(now))
    with av.open(str(tmp_path / "out.mp4")) as made:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in made.decode(video=0)]
        assert len(frames) == 20 and frames[0].shape == (180, 320, 3)
        made.seek(0)
        heard = np.concatenate([frame.to_ndarray()[0] for frame in made.decode(audio=0)])
    assert len(heard) / 44100 == pytest.approx(2.0, abs=0.05) and np.abs(heard).max() > 0.3
    captioned = [bool((frame.min(axis=2) < 70).mean() > 0.01) for frame in frames]
    assert captioned == [5 <= n < 10 or n >= 15 for n in range(20)]
    dark = np.argwhere(frames[7].max(axis=2) < 80)
    assert dark[:, 0].min() > 90 and dark[:, 1].max() < 200  # lower left
    assert progress == sorted(progress) and progress[-1] == pytest.approx((1.9, 2.0))  # seconds of the video
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "out.mp4"]


def test_captions_are_drawn_as_they_come_and_one_is_kept(tmp_path, monkeypatch):
    """An hour of captions of 2 s each."""
    video = video_with_sound(tmp_path / "a.mp4", seconds=1)
    spans = [(2.0 * n, 2.0 * n + 2, [[f"label {n}", "0.50"]]) for n in range(1800)]
    hour = VideoInfo(64, 36, 3600.0, 1800, 0.5)
    monkeypatch.setattr(overlaying, "probe", lambda path: SimpleNamespace(info=hour))
    drawn, made = [], []

    def draw(lines, width, height):
        pixels = np.full((4, 20, 4), 255, np.uint8)
        made.append(weakref.ref(pixels))
        drawn.append(lines[0][0])
        assert sum(reference() is not None for reference in made) <= 2
        return 1, 30, pixels

    def paint_each(path, found, start, end, output, on_progress, paint, changes):
        grey = np.full((36, 64, 3), 128, np.uint8)
        for time in np.arange(0, 3600, 1.0):
            assert paint(time, grey)[32, 10, 0] == 255
        assert grey[32, 10, 0] == 128

    monkeypatch.setattr(overlaying, "encode", paint_each)
    overlaying.overlay(str(video), "", spans, draw, lambda *_: None)
    assert drawn == [f"label {n}" for n in range(1800)]


def test_figures_of_captions_are_not_kept(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    video = video_with_sound(tmp_path / "a.mp4", seconds=1)
    monkeypatch.setattr(overlaying, "probe", lambda path: SimpleNamespace(info=VideoInfo(320, 180, 30.0, 30, 1.0)))

    def paint_each(path, found, start, end, output, on_progress, paint, changes):
        for time in range(10):
            paint(float(time), np.zeros((180, 320, 3), np.uint8))
        assert sum(issubclass(type(thing), Figure) for thing in gc.get_objects()) <= before + 1

    monkeypatch.setattr(overlaying, "encode", paint_each)
    gc.collect()
    before = sum(issubclass(type(thing), Figure) for thing in gc.get_objects())
    spans = [(float(n), n + 1.0, [[f"label {n}", "0.50"]]) for n in range(10)]
    overlaying.overlay(str(video), "", spans, draw_caption, lambda *_: None)


def test_a_caption_changes_while_one_picture_stands(tmp_path):
    video = tmp_path / "a.mp4"
    with av.open(str(video), "w", format="mp4") as output:  # pictures at 0 and 2.9 s
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for pts in (0, 29):
            frame = av.VideoFrame.from_ndarray(np.full((180, 320, 3), 128, np.uint8), "rgb24")
            frame.pts = pts
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    annotate(result(video, (1.0, 2.0, "running", 0.5)), tmp_path / "out.mp4", SETTINGS)
    with av.open(str(tmp_path / "out.mp4")) as made:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in made.decode(video=0)]
    assert [time for time, _ in frames] == pytest.approx([0, 1, 2, 2.9], abs=0.001)
    assert [bool((frame.min(axis=2) < 70).mean() > 0.01) for _, frame in frames] == [False, True, False, False]


@pytest.mark.parametrize("size", [(640, 360), (64, 48), (90, 400)])
@pytest.mark.parametrize("label", ["running", "x" * 500, "灌篮", "כדורסל", "$x^2$ \\frac", ""])
def test_a_caption_lies_in_the_picture_whatever_the_label(size, label):
    left, top, pixels = draw_caption([(label, "0.50"), ("b", "")] * 3, *size)
    height, width = pixels.shape[:2]
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 4
    assert left >= 0 and left + width <= size[0] and top >= 0 and top + height <= size[1]
    assert (pixels[..., 3] > 0).mean() > 0.9 and pixels[..., 0].max() > 150


def test_a_picture_and_what_is_no_video_are_errors_and_leave_nothing(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    for name, reason in (("a.png", "is a picture"), ("b.mp4", "no video")):
        with pytest.raises(VideoError, match=reason):
            annotate(result(tmp_path / name, (0.0, 1.0, "a", 0.5)), tmp_path / "out.mp4", SETTINGS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.mp4"]


@pytest.mark.parametrize(
    ("code", "patience", "reason"),
    [("import time; time.sleep(60)", 0.5, "made no progress for 0.5 s"), ("import os; os.abort()", 20, "crashed")],
)
def test_a_process_that_hangs_or_dies_is_an_error(monkeypatch, tmp_path, make_clip, code, patience, reason):
    video = make_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(annotating, "program", lambda _: [sys.executable, "-c", code])
    with pytest.raises(VideoError, match=f"'a.mp4' {reason}"):
        annotate(
            result(video, (0.0, 1.0, "a", 0.5)), tmp_path / "out.mp4", TagSettings(decode_timeout_seconds=patience)
        )
    assert not Path(tmp_path / "out.mp4").exists()
