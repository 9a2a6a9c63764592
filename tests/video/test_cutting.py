"""Parts of videos as files: bit for bit from key frames, to the frame elsewhere, under harmless names."""

import os
import time

import numpy as np
import pytest
from numbered_clips import number_in, run_ffmpeg

from xclip_cli.errors import OutputError, VideoError
from xclip_cli.video.cutting import cut, cut_name, free_name
from xclip_cli.video.reader import open_reader

H264 = ("-c:v", "libx264", "-g", "25", "-sc_threshold", "0", "-bf", "2", "-pix_fmt", "yuv420p")


def numbers(path):
    video = open_reader("pyav").open(str(path))
    times = (np.arange(round(video.info.duration_seconds * 25)) + 0.5) / 25
    images = video.frames_at(times).images
    video.close()
    return [number_in(image) for image in images]


@pytest.fixture
def source(numbered):
    return numbered("cut.mp4", 150, *H264)


def test_from_a_key_frame_on_packets_are_copied(source, tmp_path):
    av = pytest.importorskip("av")
    target = tmp_path / "cut.mp4"
    assert cut(str(source), 2.0, 4.0, target, 60) == "copied"
    found = numbers(target)
    assert found[0] == 50 and found == list(range(50, 50 + len(found))) and 50 <= len(found) <= 53
    with av.open(str(source)) as whole, av.open(str(target)) as part:
        packets = {bytes(packet) for packet in whole.demux(video=0) if packet.size}
        assert all(bytes(packet) in packets for packet in part.demux(video=0) if packet.size)


def test_a_start_just_behind_a_key_frame_is_copied_from_there(source, tmp_path):
    assert cut(str(source), 2.4, 4.0, tmp_path / "cut.mp4", 60) == "copied"
    assert numbers(tmp_path / "cut.mp4")[0] == 50


def test_elsewhere_every_frame_is_encoded(numbered, tmp_path):
    source = numbered("one-key.mp4", 150, "-c:v", "libx264", "-g", "999", "-sc_threshold", "0", "-pix_fmt", "yuv420p")
    assert cut(str(source), 2.2, 4.0, tmp_path / "cut.mp4", 60) == "encoded"
    assert numbers(tmp_path / "cut.mp4") == list(range(55, 100))


def test_what_mp4_cannot_hold_and_what_is_turned_is_encoded(numbered, tmp_path):
    ffv1 = numbered("cut.mkv", 60, "-c:v", "ffv1")
    assert cut(str(ffv1), 0.0, 1.0, tmp_path / "a.mp4", 60) == "encoded"
    assert numbers(tmp_path / "a.mp4") == list(range(25))
    upright = numbered("cut.mp4", 150, *H264)
    run_ffmpeg("-display_rotation", "90", "-i", upright, "-c", "copy", tmp_path / "turned.mp4")
    assert cut(str(tmp_path / "turned.mp4"), 0.0, 1.0, tmp_path / "b.mp4", 60) == "encoded"
    video = open_reader("pyav").open(str(tmp_path / "b.mp4"))
    assert (video.info.width, video.info.height) == (64, 192)
    video.close()


@pytest.mark.parametrize(("start", "how"), [(2.0, "copied"), (2.72, "encoded")])
def test_sound_comes_along(source, tmp_path, start, how):
    av = pytest.importorskip("av")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:duration=6")
    run_ffmpeg("-i", source, *tone, "-c:v", "copy", "-c:a", "aac", "-shortest", tmp_path / "loud.mp4")
    assert cut(str(tmp_path / "loud.mp4"), start, start + 2, tmp_path / "cut.mp4", 60) == how
    with av.open(str(tmp_path / "cut.mp4")) as file:
        [sound] = file.streams.audio
        assert float(sound.duration * sound.time_base) == pytest.approx(2, abs=0.1)


def test_hostile_and_missing_videos_are_errors_that_leave_nothing(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    for name in ("x.mp4", "none.mp4"):
        with pytest.raises(VideoError, match=name):
            cut(str(tmp_path / name), 0.0, 1.0, tmp_path / "cut.mp4", 60)
    assert os.listdir(tmp_path) == ["x.mp4"]


def test_a_cut_that_hangs_is_killed(source, tmp_path, monkeypatch):
    monkeypatch.setattr("xclip_cli.video.cutting.program", lambda code, *a: ["sleep", "60"])
    began = time.monotonic()
    with pytest.raises(VideoError, match="was not cut within"):
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
