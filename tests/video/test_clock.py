"""The player's clock: where it begins, how long the last picture stands, holes and jumps in it."""

from fractions import Fraction

import av
import numpy as np
import pytest
from as_shown import ALL_READERS, by_ffmpeg, read_or_skip, small
from numbered_clips import frame_with_number, number_in, run_ffmpeg

from xclip_cli.errors import VideoError
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.probe import probe
from xclip_cli.video.reader import open_reader, read_clip
from xclip_cli.video.stream import Windowing

DAY = 86400.0


@pytest.fixture(scope="module", params=ALL_READERS)
def reader(request):
    return request.param


def write_at(path, times, codec="libx264", last_seconds=0.04, **container_options):
    """A video whose numbered frames are shown at these times, in seconds."""
    with av.open(str(path), "w", container_options=container_options) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 192, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 10
        stream.codec_context.max_b_frames = 0
        packets = []
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(frame_with_number(number), "rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        packets[-1].duration = round(last_seconds / packets[-1].time_base)
        output.mux(packets)
    return path


def shown_at(path, reader, times):
    video = open_reader(reader).open(str(path))
    try:
        return [number_in(image) for image in video.frames_at(np.array(times)).images]
    finally:
        video.close()


STILL = [*np.arange(50) / 25, 2.0, 22.0]


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv", "v.flv", "pieces.mp4"])
def test_the_last_picture_does_not_inherit_the_gap_before_it(reader, tmp_path, name):
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "pieces.mp4" else {}
    path = write_at(tmp_path / name, STILL, **options)
    clip = read_or_skip(reader, path)
    assert clip.info.end_seconds == pytest.approx(22.04, abs=0.005) and clip.warnings == ()
    assert shown_at(path, reader, [1.97, 2.1, 21.9, 22.02]) == [49, 50, 50, 51]


def test_a_last_picture_that_is_said_to_stand_does(tmp_path):
    path = write_at(tmp_path / "v.mp4", [0.0, 0.04, 0.08], last_seconds=5.0)
    assert probe(str(path)).info.end_seconds == pytest.approx(5.08, abs=0.001)


def test_a_hole_is_closed_only_where_ffmpeg_closes_it(reader, tmp_path):
    times = [*np.arange(50) / 25, *(22 + np.arange(50) / 25)]
    for name, end in {"hole.flv": 24.0, "hole.mkv": 24.0, "hole.ts": 4.0}.items():
        path = write_at(tmp_path / name, times)
        clip = read_or_skip(reader, path, 12)
        assert clip.info.duration_seconds == pytest.approx(end, abs=0.05)
        shown = by_ffmpeg(path).times_seconds
        assert shown[-1] == pytest.approx(end - 0.04, abs=0.05)


SOUND_FIRST = {
    "a.mp4": ("libx264", "aac"),
    "a.mov": ("libx264", "pcm_s16le"),
    "a.mkv": ("libx264", "aac"),
    "opus.mkv": ("libx264", "libopus"),
    "a.flv": ("libx264", "aac"),
    "a.ts": ("libx264", "aac"),
    "a.webm": ("libvpx", "libopus"),
    "a.mpg": ("mpeg2video", "mp2"),
}


@pytest.mark.parametrize("name", SOUND_FIRST)
def test_sound_first(reader, tmp_path, name):
    """The clock is the container's: its 0 is its earliest stream, whatever the time stamp there."""
    video, sound = SOUND_FIRST[name]
    picture = write_at(tmp_path / "picture.mkv", np.arange(100) / 25, "libx264")
    sine = ("-f", "lavfi", "-i", "sine=d=7:sample_rate=48000")
    codecs = (
        "-c:v",
        video,
        "-g",
        "12",
        "-pix_fmt",
        "yuv420p",
        "-b:v",
        "900k",
        "-bf",
        "0",
        "-fps_mode",
        "passthrough",
        "-c:a",
        sound,
    )
    run_ffmpeg(*sine, "-itsoffset", 3, "-i", picture, "-map", "0:a", "-map", "1:v", *codecs, tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        first = next(frame for packet in container.demux(stream) for frame in packet.decode())
        start = first.time - container.start_time / av.time_base
    assert start == pytest.approx(3.0, abs=0.1)
    clip = read_or_skip(reader, tmp_path / name)
    assert clip.info.start_seconds == pytest.approx(start, abs=0.001)
    assert clip.info.end_seconds == pytest.approx(start + 4.0, abs=0.06)
    np.testing.assert_allclose(clip.times_seconds, start + np.arange(8) / 2 + 0.25, atol=0.045)
    assert shown_at(tmp_path / name, reader, start + np.array([0.02, 1.02, 3.02])) == [0, 25, 75]
    with DecodePool(reader, workers=1) as pool:
        spans = np.concatenate([p.spans for p in pool.stream(tmp_path / name, Windowing(4, 2.0, 1.0))])
    assert spans[0, 0] == clip.info.start_seconds and spans[-1, 1] == pytest.approx(start + 4, abs=0.06)
    inside = read_clip(open_reader(reader), str(tmp_path / name), 2, 1, 0.0, start + 1)
    np.testing.assert_allclose(inside.times_seconds, [start + 0.25, start + 0.75], atol=0.045)
    with pytest.raises(VideoError, match=r"is empty or not in"):
        read_clip(open_reader(reader), str(tmp_path / name), 2, 1, 0.0, 1.0)


@pytest.mark.parametrize("sound", ["aac", "libopus"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_what_a_decoder_drops_of_sound_makes_no_time_negative(tmp_path, suffix, sound):
    picture = write_at(tmp_path / "picture.mp4", np.arange(50) / 25)
    path = tmp_path / f"a.{suffix}"
    run_ffmpeg("-i", picture, "-f", "lavfi", "-i", "sine=d=2:sample_rate=48000", "-c:v", "copy", "-c:a", sound, path)
    info = read_clip(open_reader("auto"), str(path), 4).info
    with av.open(str(path)) as container:
        assert info.start_seconds == pytest.approx(max(0.0, -container.start_time / av.time_base), abs=0.0006)
    assert 0 <= info.start_seconds < 0.05


def test_a_cover_does_not_set_the_clock(tmp_path):
    picture = write_at(tmp_path / "picture.mp4", np.arange(50) / 25)
    cover = tmp_path / "cover.jpg"
    run_ffmpeg("-i", picture, "-frames:v", 1, cover)
    late = ("-itsoffset", 100, "-i", picture, "-c", "copy", "-avoid_negative_ts", "disabled")
    attached = ("-attach", cover, "-metadata:s:t", "mimetype=image/jpeg", "-metadata:s:t", "filename=cover.jpg")
    run_ffmpeg(*late, *attached, tmp_path / "late.mkv")
    info = probe(str(tmp_path / "late.mkv")).info
    assert (info.start_seconds, info.duration_seconds) == (0.0, pytest.approx(2.0, abs=0.01))


TICKS = {"video_track_timescale": "1000"}  # a day has too many of the usual ones
JUMPED = [*np.arange(50) / 25, *(18 * DAY + np.arange(50) / 25)]


@pytest.mark.parametrize("name", ["jump.mp4", "jump.mkv", "jump.flv"])
def test_a_jump_of_days(reader, tmp_path, name):
    path = write_at(tmp_path / name, JUMPED, **(TICKS if name == "jump.mp4" else {}))
    clip = read_or_skip(reader, path)
    assert clip.info.end_seconds == pytest.approx(18 * DAY + 2, abs=0.05)
    [(first, last)] = clip.info.gaps_seconds
    assert (first, last) == (pytest.approx(2.0, abs=0.005), pytest.approx(18 * DAY, abs=0.005))
    assert clip.warnings == (
        f"time stamps jump from 2.000 s to {last:.3f} s: no picture is taken from what lies between",
    )
    assert [number_in(frame) for frame in clip.frames] == [6, 18, 31, 43, 56, 68, 81, 93]
    with DecodePool(reader, workers=1) as pool:
        spans = np.concatenate([p.spans for p in pool.stream(path, Windowing(4, 1.0, 0.5))])
    np.testing.assert_allclose(spans[:3], [[0, 1], [0.5, 1.5], [1, 2]], atol=0.001)
    np.testing.assert_allclose(spans[3:] - 18 * DAY, spans[:3], atol=0.05)


def test_a_picture_that_is_said_to_stand_for_days_ends_the_video(tmp_path):
    path = write_at(tmp_path / "stands.mp4", np.arange(50) / 25, last_seconds=3 * DAY, **TICKS)
    clip = read_clip(open_reader("auto"), str(path), 4)
    assert clip.info.end_seconds == pytest.approx(2.0, abs=0.01)
    assert "jump from 2.000 s" in clip.warnings[0]
    path = write_at(tmp_path / "alone.mp4", [0.0], last_seconds=3 * DAY, **TICKS)
    clip = read_clip(open_reader("auto"), str(path), 4)
    assert 0 < clip.info.end_seconds < 1 and [number_in(frame) for frame in clip.frames] == [0] * 4


def test_many_jumps_are_no_jumps(tmp_path):
    """A camera that takes a picture every two hours; its windows would be without number."""
    path = write_at(tmp_path / "rare.mkv", np.arange(1200) * 7200.0)
    clip = read_clip(open_reader("auto"), str(path), 4)
    assert clip.info.gaps_seconds == () and [number_in(frame) for frame in clip.frames] == [149, 449, 749, 1049]
    with DecodePool(workers=1) as pool, pytest.raises(VideoError, match="are more than 1000000 windows"):
        list(pool.stream(path, Windowing(4, 4.0, 2.0)))


def test_a_picture_that_stands_is_sent_once(tmp_path):
    path = write_at(tmp_path / "stands.mkv", [*np.arange(50) / 25, 1202.0])
    with DecodePool(workers=1) as pool:
        pieces = list(pool.stream(path, Windowing(8, 4.0, 2.0)))
    windows = sum(len(piece.spans) for piece in pieces)
    assert windows == 600
    assert sum(len(piece.clip.frames) for piece in pieces) < 90
    assert sum(len(np.unique(piece.index, axis=0)) for piece in pieces) < 250


INTRA = {
    "mjpeg": ("mov", "mp4", "mkv", "avi"),
    "png": ("mov", "mkv", "avi"),
    "jpeg2000": ("mov", "mp4", "mkv"),
    "ffv1": ("mkv",),
    "prores": ("mov",),
}


@pytest.mark.parametrize(("codec", "suffix"), [(codec, suffix) for codec, all in INTRA.items() for suffix in all])
def test_pictures_with_sound_are_a_video(reader, tmp_path, codec, suffix):
    path = tmp_path / f"camera.{suffix}"
    picture = write_at(tmp_path / "picture.mkv", np.arange(25) / 25)
    sine = ("-f", "lavfi", "-i", "sine=d=1")
    run_ffmpeg("-i", picture, *sine, "-c:v", codec, "-q:v", 2, "-c:a", "pcm_s16le" if suffix != "mp4" else "aac", path)
    clip = read_or_skip(reader, path)
    assert clip.info.duration_seconds == pytest.approx(1.0, abs=0.03) and clip.warnings == ()
    assert [number_in(frame) for frame in clip.frames] == [1, 4, 7, 10, 14, 17, 20, 23]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_one_picture_with_sound_is_a_cover(reader, tmp_path, suffix):
    picture = write_at(tmp_path / "picture.mkv", [0.0])
    path = tmp_path / f"song.{suffix}"
    run_ffmpeg("-i", picture, "-f", "lavfi", "-i", "sine=d=3", "-c:v", "mjpeg", path)
    with pytest.raises(VideoError, match="only a cover picture"):
        read_or_skip(reader, path)


NAMES = ["PXL_20240101_120000.MP.jpg", "MVIMG_1.jpg", "20240101_120000.jpg", "IMG,1 %d:x.JPEG"]


@pytest.mark.parametrize("name", NAMES)
def test_the_film_of_a_motion_photo(reader, tmp_path, name):
    picture = write_at(tmp_path / "film.mp4", np.arange(40) / 25)
    run_ffmpeg("-i", picture, "-frames:v", 1, tmp_path / "still.jpg")
    trailer = b"\0\0\x31\x0aMotionPhoto_Data" if name.startswith("2024") else b""  # as Samsung has it
    parts = (tmp_path / "still.jpg").read_bytes(), trailer, picture.read_bytes(), trailer and b"SEFH" + bytes(20)
    (tmp_path / name).write_bytes(b"".join(parts))
    clip = read_or_skip(reader, tmp_path / name)
    assert [number_in(frame) for frame in clip.frames] == [2, 7, 12, 17, 22, 27, 32, 37]
    assert clip.info.duration_seconds == pytest.approx(1.6, abs=0.01) and clip.warnings == ()


def test_a_photo_that_only_looks_like_a_motion_photo_is_a_still(tmp_path):
    picture = write_at(tmp_path / "film.mp4", np.arange(5) / 25)
    run_ffmpeg("-i", picture, "-frames:v", 1, tmp_path / "still.jpg")
    still = (tmp_path / "still.jpg").read_bytes()
    ends = (b"\0\0\0\x18ftypisom" * 100, b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 200_000, picture.read_bytes()[:300])
    for end in ends:
        (tmp_path / "a.jpg").write_bytes(still + end)
        assert read_clip(open_reader("auto"), str(tmp_path / "a.jpg"), 2).info.num_frames == 1


def test_a_photo_with_sound_behind_it_is_a_still(reader, tmp_path):
    picture = write_at(tmp_path / "film.mp4", [0.0])
    run_ffmpeg("-i", picture, "-frames:v", 1, tmp_path / "still.jpg")
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.mp4")
    (tmp_path / "a.jpg").write_bytes(b"".join((tmp_path / name).read_bytes() for name in ("still.jpg", "sound.mp4")))
    clip = read_or_skip(reader, tmp_path / "a.jpg", 2)
    assert (clip.info.num_frames, clip.info.duration_seconds) == (1, 0.0)
    assert clip.warnings == ("the film behind the picture is not read: 'a.jpg' holds no video stream",)


def test_a_heic_picture_with_a_film_says_so(tmp_path):
    film = write_at(tmp_path / "film.mp4", np.arange(5) / 25).read_bytes()
    box = (len(film) + 8).to_bytes(4, "big") + b"mpvd" + film
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + box)
    with pytest.raises(VideoError, match="HEIC picture with a film in it") as caught:
        read_clip(open_reader("auto"), str(tmp_path / "a.heic"), 2)
    assert "export its film" in caught.value.hint


@pytest.mark.parametrize("reader_name", ["auto", "pyav"])
def test_the_desk_share_of_a_user(shared, reader_name):
    """Drums for two seconds, a ball that stands for twenty, a bike."""
    path = shared / "cases/still_screen/desk.flv"
    clip = read_clip(open_reader(reader_name), str(path), 28)
    theirs = by_ffmpeg(path)
    late = clip.times_seconds - clip.info.start_seconds
    at = np.searchsorted(theirs.times_seconds, late + 0.0015, "right") - 1
    assert np.abs(theirs.small[at] - small(clip.frames)).mean((1, 2, 3)).max() < 6
    assert (late > 21.9).sum() == 6 and len(np.unique(late[(late > 1.9) & (late < 21.9)])) <= 2


@pytest.mark.parametrize("reader_name", ["auto", "pyav"])
def test_the_clock_jump_of_a_user(shared, reader_name):
    clip = read_clip(open_reader(reader_name), str(shared / "cases/clock_jump/jump.mkv"), 9)
    assert np.searchsorted([1566809, 1566815.9], clip.times_seconds).tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert clip.warnings == (
        "time stamps jump from 6.000 s to 1566810.000 s: no picture is taken from what lies between",
    )
