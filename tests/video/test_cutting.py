"""Parts of videos as files: bit for bit from key frames, to the frame elsewhere, under harmless names."""

import itertools
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from numbered_clips import WIDTH, number_in, run_ffmpeg

from xclip_cli.errors import OutputError, VideoError
from xclip_cli.outputs import cut as cutting
from xclip_cli.outputs.cut import cut, cut_name, free_name
from xclip_cli.video.reader import open_reader

SOUND_FIRST = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "sound_first" / "a.mp4"

X264 = ("-c:v", "libx264", "-g", "25", "-sc_threshold", "0", "-pix_fmt", "yuv420p")
H264 = (*X264, "-bf", "2")
X265 = ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params")
GOPS = "keyint=25:min-keyint=25:scenecut=0:log-level=none"
PAUSES = ("-vf", "setpts=N/25/TB+floor(N/10)*0.5/TB", "-fps_mode", "vfr")
KINDS = {
    "b-frames.mp4": (*X264, "-bf", "3"),
    "no-b-frames.mkv": (*X264, "-bf", "0"),
    "open.mp4": (*X264, "-bf", "3", "-x264-params", "open-gop=1"),
    "refresh.mp4": (*X264, "-x264-params", "intra-refresh=1"),
    "ntsc.mp4": (*X264, "-bf", "2", "-r", "30000/1001", "-force_key_frames", "2"),
    "vfr.mp4": (*H264, *PAUSES),
    "vfr.mkv": (*H264, *PAUSES),
    "10-bit.mkv": (*X264, "-bf", "2", "-pix_fmt", "yuv420p10le"),
    "hevc.mp4": (*X265, f"{GOPS}:open-gop=0"),
    "hevc-open.mp4": (*X265, f"{GOPS}:open-gop=1"),
    "vp9.mkv": ("-c:v", "libvpx-vp9", "-g", "25", "-deadline", "realtime", "-lag-in-frames", "16"),
    "av1.mp4": ("-c:v", "libsvtav1", "-g", "25", "-preset", "12"),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-g", "25", "-bf", "2", "-q:v", "3"),
    "stream.ts": H264,
}
ENCODED = {"open.mp4", "hevc-open.mp4", "refresh.mp4", "stream.ts"}  # throughout; of the others, what ends well


class Decoded(NamedTuple):
    """(N,) seconds from the container's start, (N,) the numbers that are shown, and N arrays as they are coded."""

    times: np.ndarray
    numbers: list[int]
    pixels: list[np.ndarray]


def decoded(path, start=0.0, end=math.inf):
    """The frames of which the time lies in [start, end)."""
    with av.open(str(path)) as file:
        origin = (file.start_time or 0) / av.time_base
        frames = [(frame.time - origin, frame) for frame in file.decode(video=0)]
        frames = [(time, frame) for time, frame in frames if start - 0.0005 <= time < end - 0.0005]
        numbered = file.streams.video[0].width == WIDTH
        numbers = [number_in(frame.to_ndarray(format="rgb24")) for _, frame in frames] if numbered else []
        return Decoded(np.array([time for time, _ in frames]), numbers, [f.to_ndarray() for _, f in frames])


def silent(seconds, total):
    """Progress that nobody follows."""


@pytest.fixture
def source(numbered):
    return numbered("cut.mp4", 150, *H264)


@pytest.mark.parametrize("name", KINDS)
def test_a_part_has_the_frames_of_its_span_and_no_other(numbered, tmp_path, name):
    source, ways = numbered(f"kind-{name}", 150, *KINDS[name]), set()
    whole = decoded(source)
    for start, end in ((2.0, 4.0), (2.0, 3.0), (2.0, 3.5), (2.0, 2.88), (2.0, 3.58), (1.96, 3.0), (0.0, 1.0)):
        how = cutting._write(str(source), start, end, str(tmp_path / "part.mp4"), silent)
        part = decoded(tmp_path / "part.mp4")
        inside = (whole.times >= start - 0.0005) & (whole.times < end - 0.0005)
        assert part.numbers == list(np.array(whole.numbers)[inside]), (start, end, how)
        times = whole.times[inside] - whole.times[inside][0]
        assert np.abs(part.times - times).max() < 0.001
        if how == "copied":
            pixels = itertools.compress(whole.pixels, inside)
            assert all(map(np.array_equal, part.pixels, pixels)), (start, end)
        ways.add(how)
    assert ("copied" in ways) == (name not in ENCODED)


def test_a_copy_keeps_the_packets(source, tmp_path):
    assert cut(str(source), 2.0, 4.0, tmp_path / "cut.mp4", 60) == "copied"
    with av.open(str(source)) as whole, av.open(str(tmp_path / "cut.mp4")) as part:
        packets = [bytes(packet) for packet in whole.demux(video=0) if packet.size]
        assert [bytes(packet) for packet in part.demux(video=0) if packet.size] == packets[50:100]


def test_a_start_in_the_middle_of_a_frame_begins_with_the_next(source, tmp_path):
    assert cut(str(source), 1.97, 4.0, tmp_path / "a.mp4", 60) == "copied"
    assert cut(str(source), 2.41, 3.0, tmp_path / "b.mp4", 60) == "encoded"
    assert decoded(tmp_path / "a.mp4").numbers == list(range(50, 100))
    assert decoded(tmp_path / "b.mp4").numbers == list(range(61, 75))


def test_a_picture_that_stands_since_before_the_start_is_shown(numbered, tmp_path):
    source = numbered("kind-vfr.mp4", 150, *KINDS["vfr.mp4"])  # pictures at 0.36 and 0.88 s
    assert cut(str(source), 0.37, 0.91, tmp_path / "a.mp4", 60) == "encoded"
    assert cut(str(source), 0.5, 0.8, tmp_path / "b.mp4", 60) == "encoded"
    part, alone = decoded(tmp_path / "a.mp4"), decoded(tmp_path / "b.mp4")
    assert part.numbers == [9, 10] and part.times == pytest.approx([0, 0.51], abs=0.001)
    assert alone.numbers == [9]
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert file.duration / av.time_base == pytest.approx(0.3, abs=0.002)


def test_a_span_without_pictures_is_an_error(source, tmp_path):
    with pytest.raises(VideoError, match=r"shows nothing from 7\.000 to 8\.000 s"):
        cut(str(source), 7.0, 8.0, tmp_path / "cut.mp4", 60)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("start", [2.0, 2.04])
def test_progress_is_counted_in_seconds_of_the_part(source, tmp_path, start):
    heard = []
    cut(str(source), start, 4.0, tmp_path / "cut.mp4", 60, lambda seconds, total: heard.append((seconds, total)))
    assert [seconds for seconds, _ in heard] == sorted(seconds for seconds, _ in heard)
    assert heard[-1] == pytest.approx((3.96 - start, 4.0 - start), abs=0.001)


def test_what_mp4_cannot_hold_and_what_is_turned_is_encoded(numbered, tmp_path):
    ffv1 = numbered("cut.mkv", 60, "-c:v", "ffv1")
    assert cut(str(ffv1), 0.0, 1.0, tmp_path / "a.mp4", 60) == "encoded"
    assert decoded(tmp_path / "a.mp4").numbers == list(range(25))
    upright = numbered("cut.mp4", 150, *H264)
    run_ffmpeg("-display_rotation", "90", "-i", upright, "-c", "copy", tmp_path / "turned.mp4")
    assert cut(str(tmp_path / "turned.mp4"), 0.0, 1.0, tmp_path / "b.mp4", 60) == "encoded"
    video = open_reader("pyav").open(str(tmp_path / "b.mp4"))
    assert (video.info.width, video.info.height) == (64, 192)
    video.close()


@pytest.mark.parametrize(("start", "how"), [(2.0, "copied"), (2.72, "encoded")])
def test_sound_comes_along(source, tmp_path, start, how):
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=6")
    run_ffmpeg("-i", source, *tone, "-c:v", "copy", "-c:a", "aac", "-shortest", tmp_path / "loud.mp4")
    assert cut(str(tmp_path / "loud.mp4"), start, start + 2, tmp_path / "cut.mp4", 60) == how
    with av.open(str(tmp_path / "cut.mp4")) as file:
        [sound] = file.streams.audio
        assert float(sound.duration * sound.time_base) == pytest.approx(2, abs=0.1)


@pytest.mark.skipif(not SOUND_FIRST.exists(), reason="needs ../shared")
@pytest.mark.parametrize(("start", "first_picture"), [(0.0, 3.0), (2.0, 1.0), (3.0, 0.0), (3.52, 0.0)])
def test_sound_that_begins_before_the_picture_stays_beside_it(tmp_path, start, first_picture):
    cut(str(SOUND_FIRST), start, 6.0, tmp_path / "cut.mp4", 60)
    with av.open(str(tmp_path / "cut.mp4")) as file:
        times = [frame.time for frame in file.decode(video=0)]
    whole = decoded(SOUND_FIRST, start, 6.0).times
    assert times == pytest.approx(whole - start, abs=0.001) and times[0] == pytest.approx(first_picture, abs=0.001)
    heard, wanted = sound_of(tmp_path / "cut.mp4"), sound_of(SOUND_FIRST)
    assert len(heard) == pytest.approx(8000 * (6.0 - start), abs=800)
    begin, second = round(8000 * start), slice(4000, 12_000)  # the first packet of a copy lacks the one before
    lags = [lag for lag in range(-400, 401, 8) if begin + lag >= 0]
    likeness = [np.corrcoef(heard[second], wanted[begin + lag :][second])[0, 1] for lag in lags]
    assert abs(lags[int(np.argmax(likeness))]) <= 16 and max(likeness) > 0.9  # 2 ms


def sound_of(path):
    """The sound at 8 kHz, from time stamp 0 on."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("s16", "mono", 8000)
        frames = list(file.decode(audio=0))
        waves = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate([np.zeros(round(8000 * frames[0].time)), *waves])


def test_hostile_and_missing_videos_are_errors_that_leave_nothing(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    for name in ("x.mp4", "none.mp4"):
        with pytest.raises(VideoError, match=name):
            cut(str(tmp_path / name), 0.0, 1.0, tmp_path / "cut.mp4", 60)
    assert os.listdir(tmp_path) == ["x.mp4"]


def test_a_cut_that_hangs_is_killed(source, tmp_path, monkeypatch):
    monkeypatch.setattr("xclip_cli.outputs.cut.program", lambda code, *a: ["sleep", "60"])
    began = time.monotonic()
    with pytest.raises(VideoError, match=r"made no progress for 0\.2 s while it was cut"):
        cut(str(source), 0.0, 0.1, tmp_path / "cut.mp4", 0.2)
    assert time.monotonic() - began < 10 and os.listdir(tmp_path) == []


def test_a_folder_that_is_gone_is_an_output_error(source, tmp_path):
    with pytest.raises(OutputError, match="gone"):
        cut(str(source), 0.0, 1.0, tmp_path / "gone" / "cut.mp4", 60)


@pytest.mark.parametrize(
    ("video", "label", "start", "name"),
    [
        ("a/match.mp4", "slam dunk", 65.0, "match__slam-dunk__00-01-05.000.mp4"),
        ("match.2.mp4", "../../etc/passwd", 3599.9996, "match.2______..__etc_passwd__01-00-00.000.mp4"),
        ("..mp4", "a\0b\nc\\d:e*", 0.0, "mp4__a_b_c_d_e___00-00-00.000.mp4"),
        ("x.mp4", "\u202egnp.exe 灌篮 हिन्दी", 1.5, "x___gnp.exe-灌篮-हिन्दी__00-00-01.500.mp4"),
        ("\udcff.mp4", "", 36000.25, "___" + "___10-00-00.250.mp4"),
    ],
)
def test_names_are_plain(video, label, start, name):
    made = cut_name(video, label, start)
    assert made.split("__")[-1] == name.split("__")[-1]
    assert os.path.basename(made) == made and "\0" not in made and not made.startswith((".", "-"))
    assert "\u202e" not in made and "/" not in made and "\\" not in made and made.isprintable()
    made.encode()


def test_long_names_fit_and_collisions_are_numbered():
    name = cut_name("v" * 300 + ".mp4", "灌" * 200, 0.0)
    assert len(name.encode()) < 230
    taken = {"x__a__00-00-00.000.mp4"}
    assert free_name("X__a__00-00-00.000.mp4", taken) == "X__a__00-00-00.000-2.mp4"
    assert free_name("x__A__00-00-00.000.mp4", taken) == "x__A__00-00-00.000-3.mp4"
