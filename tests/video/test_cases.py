"""The small files that users' reports describe (shared/cases/README.md), and what is right for each."""

from typing import NamedTuple

import numpy as np
import pytest
from as_shown import ALL_READERS, DEINTERLACED, assert_as_shown, by_ffmpeg, by_pillow, read_or_skip, small

from xclip_cli.errors import VideoError
from xclip_cli.video.reader import open_reader, read_clip


class Right(NamedTuple):
    size: tuple[int, int]
    duration_seconds: float
    stream: str = "v:0"
    filters: tuple[str, ...] = ()
    within_seconds: float = 0.07
    start_seconds: float = 0.0


CASES = {
    "interlaced/tennis_i.mp4": Right((384, 288), 4.0, filters=(DEINTERLACED,)),
    "interlaced/tennis_p.mp4": Right((384, 288), 4.0),
    "mirror/tennis_selfie.mp4": Right((384, 288), 4.0),
    "mirror/tennis_vflip.mp4": Right((384, 288), 4.0),
    "anamorphic/anam.mp4": Right((448, 252), 1.25),
    "wrong_stream/cover0.mkv": Right((320, 180), 6.0, "v:1"),
    "wrong_stream/two.mkv": Right((320, 180), 6.0, "v:1"),
    "header_too_short/both.ts": Right((384, 288), 5.13),
    "header_too_short/stale.flv": Right((384, 288), 5.13),
    "header_too_long/trim.mp4": Right((320, 180), 3.0),
    "header_too_long/off.mkv": Right((384, 288), 4.0),  # the README's 6 s are of another cut
    "header_too_long/fps2000.mp4": Right((160, 90), 0.2, within_seconds=0.002),
    "av1/tc_av1_video.mkv": Right((640, 360), 5.0),
    "mjpeg_audio/camera.mov": Right((160, 282), 1.0, within_seconds=0.001),
    "mjpeg_audio/png.mkv": Right((128, 226), 1.0, within_seconds=0.001, start_seconds=0.023),
    "still_screen/v.mp4": Right((320, 240), 22.04, within_seconds=0.001),
    "still_screen/v.mkv": Right((320, 240), 22.04, within_seconds=0.001),
    "still_screen/v.webm": Right((320, 240), 22.04, within_seconds=0.001),
    "still_screen/desk.flv": Right((320, 240), 28.0, within_seconds=0.001, start_seconds=0.046),
    "sound_first/a.mp4": Right((320, 240), 6.0, within_seconds=0.001, start_seconds=3.0),
}


@pytest.fixture(scope="module")
def cases(shared):
    return shared / "cases"


@pytest.mark.parametrize("reader", ALL_READERS)
@pytest.mark.parametrize("name", CASES)
def test_as_ffmpeg_shows_it(cases, reader, name):
    right = CASES[name]
    clip = read_or_skip(reader, cases / name)
    assert (clip.info.width, clip.info.height) == clip.frames.shape[2:0:-1] == right.size
    assert clip.info.duration_seconds == pytest.approx(right.duration_seconds, abs=right.within_seconds)
    assert clip.info.start_seconds == pytest.approx(right.start_seconds, abs=0.0005)
    assert clip.warnings == ()
    assert_as_shown(clip, by_ffmpeg(cases / name, right.stream, *right.filters))


@pytest.mark.parametrize("reader", ALL_READERS)
def test_an_interlaced_video_is_the_progressive_one(cases, reader):
    clip = read_or_skip(reader, cases / "interlaced/tennis_i.mp4", 16)
    assert 82 < clip.frames.mean() < 102
    assert clip.frames.mean((1, 2, 3)).min() > 60
    assert len(np.unique(clip.times_seconds)) == 16
    assert_as_shown(clip, by_ffmpeg(cases / "interlaced/tennis_p.mp4"), most=8)


@pytest.mark.parametrize("reader", ALL_READERS)
def test_mirrors(cases, reader):
    """The selfie's matrix makes a mirrored picture right; the other's stands a picture on its head."""
    upright = small(read_or_skip(reader, cases / "interlaced/tennis_p.mp4").frames)
    for name, right in (("selfie", upright), ("vflip", upright[:, ::-1])):
        shown = small(read_or_skip(reader, cases / f"mirror/tennis_{name}.mp4").frames)
        assert np.abs(shown - right).mean() < 6 < np.abs(shown - right[:, :, ::-1]).mean()


@pytest.mark.parametrize("reader", ALL_READERS)
def test_wide_pixels_are_those_of_the_square_twin(cases, reader):
    wide, square = (read_or_skip(reader, cases / f"anamorphic/{name}.mp4") for name in ("anam", "sq"))
    assert wide.frames.shape == square.frames.shape
    assert np.abs(small(wide.frames) - small(square.frames)).mean() < 5


@pytest.mark.parametrize("reader", ALL_READERS)
@pytest.mark.parametrize("name", ["both.ts", "stale.flv"])
def test_what_follows_the_header_s_length_is_sampled(cases, reader, name):
    clip = read_or_skip(reader, cases / "header_too_short" / name)
    horse = by_ffmpeg(cases / "header_too_short/p2.ts")
    tennis = by_ffmpeg(cases / "header_too_short/p1.ts")
    for frame, time in zip(small(clip.frames), clip.times_seconds, strict=True):
        differences = [np.abs(part.small - frame).mean((1, 2, 3)).min() for part in (tennis, horse)]
        assert differences.index(min(differences)) == (time > 2.14), f"the frame at {time:.3f} s"
        assert min(differences) < 8
    assert (clip.times_seconds > 2.2).sum() in (4, 5)


@pytest.mark.parametrize("reader", ALL_READERS)
def test_an_edit_list_s_end_is_the_end(cases, reader):
    path = cases / "header_too_long/trim.mp4"
    with_end = read_or_skip(reader, path, 75)
    assert with_end.times_seconds.max() == pytest.approx(2.96, abs=0.002)
    with pytest.raises(VideoError):
        read_clip(open_reader(reader), str(path), 4, start_seconds=3.2)


@pytest.mark.parametrize("reader", ALL_READERS)
@pytest.mark.parametrize(("name", "size", "seconds"), [("anim.webp", (160, 120), 2.0), ("anim.png", (64, 48), 1.0)])
def test_an_animation_moves(cases, reader, name, size, seconds):
    path = cases / "animated_still" / name
    clip = read_or_skip(reader, path)
    assert clip.frames.shape[2:0:-1] == size
    assert clip.info.duration_seconds == pytest.approx(seconds, abs=0.01)
    assert clip.warnings == ()
    assert_as_shown(clip, by_pillow(path))
    assert len(np.unique(clip.frames.reshape(8, -1), axis=0)) == len(np.unique(clip.times_seconds)) > 4


@pytest.mark.parametrize("reader", ALL_READERS)
@pytest.mark.parametrize("name", ["song.mp4", "song.m4a"])
def test_sound_with_a_cover_is_no_video(cases, reader, name):
    if reader == "decord":
        pytest.importorskip("decord")
    with pytest.raises(VideoError, match=r"no video.*cover") as caught:
        read_clip(open_reader(reader), str(cases / "cover_only" / name), 8)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("reader", ALL_READERS)
def test_a_motion_photo_is_its_film(cases, reader, tmp_path):
    photo = cases / "motion_photo/PXL_20240101_120000.MP.jpg"
    (tmp_path / "film.mp4").write_bytes(photo.read_bytes()[6385:])
    clip = read_or_skip(reader, photo)
    assert clip.info.duration_seconds == pytest.approx(6.0, abs=0.001) and clip.warnings == ()
    assert_as_shown(clip, by_ffmpeg(tmp_path / "film.mp4"))
