"""One contract over every reader and every clip: the frame on display at each time, and its time stamp."""

import cv2
import numpy as np
import pytest
from numbered_clips import FPS, make_numbered, number_in, packaged_clips, paused_time, run_ffmpeg, shared_clips

from xclip_cli.errors import MissingExtraError, UsageError, VideoError
from xclip_cli.video.reader import READERS, open_reader, read_clip

# Frames of 10 bits are rounded to 8 by each FFmpeg in its own way; 8-bit frames come out equal.
MAX_DIFFERENCE, MEAN_DIFFERENCE = 40, 2.5
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
PAUSES = ("-vf", "settb=1/1000,setpts=N*40+floor(N/10)*500", "-fps_mode", "passthrough", "-enc_time_base", "1/1000")
ENCODINGS = {
    "b-frames.mp4": X264,
    "start-at-5.mp4": (*X264, "-output_ts_offset", "5"),
    "short-groups.mkv": (*X264, "-g", "12"),
    "open-groups.mkv": (*X264, "-x264-params", "open-gop=1:keyint=24:bframes=3"),
    "h265.mp4": ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params", "log-level=0:keyint=24"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "50"),
    "mpeg4-b.avi": ("-c:v", "mpeg4", "-bf", "2", "-q:v", "3"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "3"),
    "transport.ts": X264,
    "ten-bits.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-preset", "veryfast"),
    "h265-ten-bits.mp4": ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=0"),
    "grey.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray"),
    "alpha.mov": ("-c:v", "qtrle", "-pix_fmt", "argb"),
    "alpha.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-deadline", "realtime", "-cpu-used", "8"),
    "one-frame.mp4": (*X264, "-frames:v", "1"),
}
NUM_FRAMES = 150


@pytest.fixture(scope="session", params=READERS)
def reader(request):
    if request.param == "decord":
        pytest.importorskip("decord")
    return open_reader(request.param)


@pytest.fixture(scope="session")
def three_readers():
    pytest.importorskip("decord")
    return [open_reader(name) for name in ("opencv", "pyav", "decord")]


def open_or_skip(reader, path):
    """The video; decord says itself what it cannot read."""
    try:
        return reader.open(str(path))
    except VideoError as error:
        if error.hint != "try --reader pyav":
            raise
        pytest.skip(error.message)


def assert_alike(one, *others):
    for other in others:
        np.testing.assert_allclose(one.times_seconds, other.times_seconds, atol=0.0005)
        assert one.info == other.info
        assert one.warnings == other.warnings
        difference = np.abs(one.frames.astype(int) - other.frames)
        assert difference.max() <= MAX_DIFFERENCE and difference.mean() <= MEAN_DIFFERENCE


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_frame_on_display_is_read(reader, numbered, name):
    path = numbered(name, NUM_FRAMES, *ENCODINGS[name])
    open_or_skip(reader, path).close()
    clip = read_clip(reader, str(path), 8, 3)
    count = 1 if name.startswith("one") else NUM_FRAMES
    wanted = np.minimum(np.floor((np.arange(24) + 0.5) / 24 * clip.info.duration_seconds * FPS + 1e-6), count - 1)
    order = np.argsort(clip.times_seconds, kind="stable")
    assert [number_in(frame) for frame in clip.frames[order]] == wanted.tolist()
    np.testing.assert_allclose(clip.times_seconds[order], wanted / FPS, atol=0.0011)  # mkv ticks in milliseconds
    assert clip.frames.dtype == np.uint8 and clip.frames.flags.c_contiguous
    assert clip.times_seconds.dtype == np.float64
    assert clip.info.duration_seconds == pytest.approx(count / FPS, rel=0.05)  # estimated in MPEG streams
    assert clip.warnings == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_times_come_from_time_stamps(reader, numbered, suffix):
    path = numbered(f"pauses.{suffix}", 120, *PAUSES, *X264, "-video_track_timescale", "1000")
    stamps = np.array([paused_time(number) for number in range(120)])
    clip = read_clip(reader, str(path), 16, 2, stop_seconds=9.0)
    wanted = (np.arange(32) + 0.5) / 32 * 9.0
    numbers = stamps.searchsorted(wanted + 0.0005, side="right") - 1
    order = np.argsort(clip.times_seconds, kind="stable")
    assert [number_in(frame) for frame in clip.frames[order]] == numbers.tolist()
    np.testing.assert_allclose(clip.times_seconds[order], stamps[numbers], atol=0.0011)


FAR = {
    "far.mp4": X264,
    "far.mkv": X264,
    "far.ts": X264,
    "far-one-group.mp4": (*X264, "-g", "1000"),
    "far-open-groups.mkv": (*X264, "-x264-params", "open-gop=1:keyint=50:scenecut=0"),
    "far-pauses.mp4": (*X264, *PAUSES),
    "far-pauses.mkv": (*X264, *PAUSES),
    "far.avi": ("-c:v", "mpeg4", "-bf", "2", "-q:v", "3"),
    "far.mpg": ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "3"),
}


@pytest.mark.parametrize("name", FAR)
def test_far_frames_are_those_of_reading_through(reader, numbered, name):
    count = 1000
    stamps = np.array([paused_time(n) if "pauses" in name else n / FPS for n in range(count)])
    video = open_or_skip(reader, numbered(name, count, *FAR[name]))
    rng = np.random.default_rng(0)
    for times in (rng.uniform(0, stamps[-5], 5), np.array([stamps[-5]]), np.array([0.0, 0.05])):
        frames = video.frames_at(times)
        numbers = stamps.searchsorted(times + 0.0005, side="right") - 1
        assert [number_in(image) for image in frames.images] == numbers.tolist()
        np.testing.assert_allclose(frames.times_seconds, stamps[numbers], atol=0.0011)
    video.close()


def test_only_what_may_be_on_display_is_converted(numbered, monkeypatch):
    converted, make = [], cv2.VideoCapture

    class Counting:  # no subclass: OpenCV's types free such objects before the garbage collector forgets them
        def __init__(self, *arguments):
            self._capture = make(*arguments)

        def __getattr__(self, name):
            return getattr(self._capture, name)

        def retrieve(self):
            converted.append(1)
            return self._capture.retrieve()

    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    read_clip(open_reader("opencv"), str(numbered("b-frames.mp4", NUM_FRAMES, *X264)), 8)
    assert 8 <= len(converted) <= 16


def test_a_span_is_sampled_alone(reader, numbered):
    path = str(numbered("b-frames.mp4", NUM_FRAMES, *X264))
    clip = read_clip(reader, path, 4, start_seconds=2.0, stop_seconds=4.0)
    assert [number_in(frame) for frame in clip.frames] == [56, 68, 81, 93]


@pytest.mark.parametrize(("turn", "shape"), [(0, (64, 192)), (90, (192, 64)), (180, (64, 192)), (270, (192, 64))])
def test_rotation_is_honoured(reader, tmp_path, numbered, turn, shape):
    source = numbered("b-frames.mp4", NUM_FRAMES, *X264)
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", turn, "-i", source, "-c", "copy", turned)
    clip = read_clip(reader, str(turned), 2)
    assert clip.frames.shape[1:3] == shape == (clip.info.height, clip.info.width)
    upright = np.rot90(clip.frames, -turn // 90, axes=(1, 2))  # the tag turns against the clock
    assert [number_in(frame) for frame in upright] == [37, 112]


@pytest.mark.parametrize("size", ["161x121", "33x47"])
def test_odd_sizes(three_readers, tmp_path, numbered, size):
    path = tmp_path / "odd.mp4"
    source = numbered("b-frames.mp4", NUM_FRAMES, *X264)
    run_ffmpeg("-i", source, "-vf", f"scale={size.replace('x', ':')}", "-pix_fmt", "yuv444p", path)
    clips = [read_clip(reader, str(path), 4) for reader in three_readers]
    assert_alike(*clips)
    assert f"{clips[0].info.width}x{clips[0].info.height}" == size


def test_a_cut_tail_is_left_out_with_a_warning(reader, tmp_path, numbered):
    whole = numbered("short-groups.mkv", NUM_FRAMES, *ENCODINGS["short-groups.mkv"]).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    clip = read_clip(reader, str(cut), 8)
    assert len(clip.warnings) == 1 and "nothing decodes after" in clip.warnings[0]
    numbers = [number_in(frame) for frame in clip.frames]
    assert len(set(numbers)) == 8 and max(numbers) < 110
    np.testing.assert_allclose(np.array(numbers) / FPS, clip.times_seconds, atol=0.0011)


def test_what_follows_damage_is_read(tmp_path, numbered):
    content = bytearray(numbered("groups.mp4", NUM_FRAMES, *X264, "-g", "12", "-movflags", "faststart").read_bytes())
    start = content.index(b"mdat")
    third = (len(content) - start) // 3
    content[start + third : start + 2 * third] = bytes(third)
    (tmp_path / "hole.mp4").write_bytes(content)
    clip = read_clip(open_reader("opencv"), str(tmp_path / "hole.mp4"), 10)
    numbers = [number_in(frame) for frame in clip.frames]
    assert numbers[:3] == [7, 22, 37] and numbers[-2:] == [127, 142]
    assert clip.warnings == ("some frames are damaged and were left out",)


@pytest.mark.parametrize("path", packaged_clips() + shared_clips(), ids=lambda path: path.name[:24])
def test_readers_agree_on_real_clips(three_readers, path):
    assert_alike(*(read_clip(reader, str(path), 4, stop_seconds=1.5) for reader in three_readers))


@pytest.mark.slow
@pytest.mark.parametrize("path", packaged_clips() + shared_clips(), ids=lambda path: path.name[:24])
def test_readers_agree_on_whole_real_clips(three_readers, path):
    assert_alike(*(read_clip(reader, str(path), 8, 2) for reader in three_readers))


def test_a_recording_without_a_length_is_read_through(reader, tmp_path):
    path = make_numbered(tmp_path / "live.webm", 50, "-c:v", "libvpx", "-deadline", "realtime", "-live", "1")
    open_or_skip(reader, path).close()
    clip = read_clip(reader, str(path), 4)
    assert [number_in(frame) for frame in clip.frames] == [6, 18, 31, 43]
    assert clip.info.num_frames is None and clip.info.duration_seconds == pytest.approx(2.0)


def test_unknown_reader():
    with pytest.raises(UsageError, match="'ffmpeg' is unknown"):
        open_reader("ffmpeg")


def test_missing_decord_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        open_reader("decord")
    assert caught.value.hint == "pip install 'xclip-cli[decord]'"
