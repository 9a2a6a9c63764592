"""What `xclip tag` writes beside rows: subtitles, sidecars, the report, the annotated video."""

import os
import subprocess
import sys

import pytest

LABELS = ["--labels", "running,dunking,a dog"]


@pytest.fixture
def tag(toy_model):
    def run(*arguments, labels=LABELS, **more):
        command = [sys.executable, "-m", "xclip_cli", "tag", "--model", toy_model, *labels, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(list(map(str, command)), capture_output=True, env=environment, timeout=120, **more)

    return run


def test_subtitles_of_several_videos_go_to_a_folder_as_the_videos_lie(tag, clips, make_clip, tmp_path):
    (clips / "deep").mkdir()
    make_clip(clips / "deep" / "a.mp4")
    make_clip(clips / "a.avi")
    output = tmp_path / "subtitles"
    for before in (0, 5):
        done = tag(clips, "-r", "--format", "srt", "-o", output)
        assert done.returncode == 0 and f"5 tagged ({before} before)".encode() in done.stderr
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert names == {"=d.srt", "a.mp4.srt", "a.avi.srt", "b c.srt", "deep/a.srt", "tags.journal"}
    assert (output / "deep" / "a.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:01,000\n")


def test_subtitles_of_a_person_are_not_replaced_and_those_of_a_failed_video_not_written(tag, clips):
    (clips / "broken.mp4").write_bytes(b"no video")
    (clips / "a.vtt").write_text("WEBVTT\n\nmine")
    done = tag(clips, "--format", "vtt", "-o", clips)
    assert done.returncode == 2 and b"a.vtt' exists and is not as a run here made it" in done.stderr
    (clips / "a.vtt").unlink()
    assert tag(clips, "--format", "vtt", "-o", clips).returncode == 1
    assert {path.stem for path in clips.glob("*.vtt")} == {"=d", "a", "b c"}
    (clips / "a.vtt").write_text("WEBVTT\n\nmended")
    assert tag(clips, "--format", "vtt", "-o", clips).returncode == 2
    assert (clips / "a.vtt").read_text() == "WEBVTT\n\nmended"
    assert tag(clips, "--format", "vtt", "-o", clips, "--overwrite").returncode == 1
    assert "mended" not in (clips / "a.vtt").read_text()


def test_one_subtitle_file_is_of_one_video(tag, clips, tmp_path):
    done = tag(clips, "-o", tmp_path / "o.srt")
    assert done.returncode == 2 and b"-o o --format srt" in done.stderr
    assert not (tmp_path / "o.srt").exists()
    assert tag(clips / "a.mp4", "-o", tmp_path / "o.srt").returncode == 0
    assert tag(clips / "a.mp4", "--format", "srt").stdout == (tmp_path / "o.srt").read_bytes()
    done = tag(clips, "--format", "vtt")
    assert done.returncode == 2 and done.stdout == b"" and b"-o subtitles --format vtt" in done.stderr


def test_parquet_has_the_rows_of_the_csv(tag, clips, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for before in (0, 3):
        assert f"({before} before)".encode() in tag(clips, "-o", tmp_path / "o.parquet").stderr
    rows = parquet.read_table(tmp_path / "o.parquet").to_pylist()
    lines = tag(clips).stdout.decode().splitlines()[1:]
    assert [f"{row['score']:.4f}" for row in rows] == [line.split(",")[5] for line in lines]
