"""What `xclip tag` writes beside rows: subtitles, sidecars, the report, the annotated video."""

import os

import pytest


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


def test_sidecars_are_written_only_when_asked_and_a_dry_run_shows_them(tag, clips):
    before = sorted(os.listdir(clips))
    done = tag(clips, "--write-sidecars", "--dry-run")
    assert done.returncode == 0 and sorted(os.listdir(clips)) == before
    lines = done.stderr.decode().splitlines()
    assert sum(line.startswith("would write ") for line in lines) == 3
    assert lines[-1] == "sidecars: 3 would be written, 0 have nothing new, 0 left as they are"
    assert b"3 written" in tag(clips, "--write-sidecars").stderr
    assert sorted(os.listdir(clips)) == sorted([*before, *(f"{name}.xmp" for name in before)])
    content = (clips / "a.mp4.xmp").read_bytes()
    assert content.count(b"<dc:subject") == 1 and content.count(b"<rdf:li>") == 3  # the best label, in three fields
    assert b"0 written, 3 have nothing new" in tag(clips, "--write-sidecars").stderr
    assert (clips / "a.mp4.xmp").read_bytes() == content
    assert tag(clips / "a.mp4", "--write-sidecars", "--threshold", "0").returncode == 0
    assert (clips / "a.mp4.xmp").read_bytes().count(b"<rdf:li>") == 9


def test_a_sidecar_that_is_no_xmp_costs_itself_alone(tag, clips):
    (clips / "a.mp4.xmp").write_text("<!DOCTYPE x><x/>")
    (clips / "broken.mp4").write_bytes(b"no video")
    done = tag(clips, "--write-sidecars")
    assert not (clips / "broken.mp4.xmp").exists()
    assert done.returncode == 1 and b"a.mp4.xmp' is left as it is: it has a document type" in done.stderr
    assert b"2 written, 1 have nothing new, 1 left as they are" in done.stderr and b"Traceback" not in done.stderr
    assert (clips / "a.mp4.xmp").read_text() == "<!DOCTYPE x><x/>" and (clips / "=d.mp4.xmp").exists()


def test_the_report_stands_beside_rows_and_is_made_anew(tag, clips, tmp_path):
    (clips / "broken.mp4").write_bytes(b"no video")
    report = tmp_path / "report.html"
    done = tag(clips, "-o", tmp_path / "o.csv", "--report", report)
    assert done.returncode == 1 and b"report -> " in done.stderr
    first = report.read_text(encoding="utf-8")
    assert first.count("<article") == 4 and first.count("data:image/jpeg;base64,") == 3
    assert 'href="./clips/b%20c.mp4"' in first and "Not tagged." in first
    assert tag(clips, "--report", report).stdout.startswith(b"video,")
    assert report.read_text(encoding="utf-8") == first
    report.write_text("mine")
    assert b"exists" in tag(clips, "--report", report).stderr and report.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--dry-run",), b"--write-sidecars"),
        (("--write-sidecars", "--dry-run", "--report", "r.html"), b"writes nothing"),
        (("--write-sidecars", "--dry-run", "-o", "o.csv"), b"writes nothing"),
        (("--report", "r.pdf"), b"*.html"),
        (("--report", "no/r.html"), b"its folder is not there"),
        (("--annotate", "x.mp4"), b"one video"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_tagged(tag, clips, tmp_path, arguments, reason):
    done = tag(clips, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and reason in done.stderr and done.stdout == b"" and os.listdir(tmp_path) == ["clips"]


def test_the_annotated_video_is_another_file(tag, clips, tmp_path):
    video = (clips / "a.mp4").read_bytes()
    for path in (clips / "a.mp4", tmp_path / "x.avi"):
        assert tag(clips / "a.mp4", "--annotate", path, "--overwrite").returncode == 2
    assert (clips / "a.mp4").read_bytes() == video
    done = tag(clips / "a.mp4", "--annotate", tmp_path / "x.mp4")
    assert done.returncode == 0 and b"annotated -> " in done.stderr and done.stdout.startswith(b"video,")
    assert tag(clips / "a.mp4", "--annotate", tmp_path / "x.mp4").returncode == 2
    assert b"ftyp" in (tmp_path / "x.mp4").read_bytes()[:16]
