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
    done = tag(clips, "--write-sidecars", "--dry-run", "--threshold", "0", "--top-k", "1")
    assert done.returncode == 0 and sorted(os.listdir(clips)) == before
    lines = done.stderr.decode().splitlines()
    assert sum(line.startswith("would write ") for line in lines) == 3
    assert lines[-1] == "sidecars: 3 would be written, 0 have nothing new, 0 left as they are"
    assert b"3 written" in tag(clips, "--write-sidecars", "--threshold", "0", "--top-k", "1").stderr
    assert sorted(os.listdir(clips)) == sorted([*before, *(f"{name}.xmp" for name in before)])
    content = (clips / "a.mp4.xmp").read_bytes()
    assert content.count(b"<dc:subject") == 1 and content.count(b"<rdf:li>") == 6  # in three fields, and noted
    again = tag(clips, "--write-sidecars", "--threshold", "0", "--top-k", "1")
    assert b"0 written, 3 have nothing new" in again.stderr
    assert (clips / "a.mp4.xmp").read_bytes() == content
    assert tag(clips / "a.mp4", "--write-sidecars", "--threshold", "0").returncode == 0
    assert (clips / "a.mp4.xmp").read_bytes().count(b"<rdf:li>") == 18
    assert tag(clips / "a.mp4", "--write-sidecars", "--threshold", "1").returncode == 0
    assert not (clips / "a.mp4.xmp").exists()  # a later run replaces what an earlier one added


def test_sidecars_take_labels_that_somebody_chose(xclip, clips, toy_model):
    before = sorted(os.listdir(clips))
    for options in ((), ("--dry-run",), ("--background", "builtin")):
        done = xclip("tag", clips, "--model", toy_model, "--write-sidecars", *options)
        assert done.returncode == 2 and done.stdout == "" and sorted(os.listdir(clips)) == before
        assert "--labels" in done.stderr and "--labels-file" in done.stderr and "--labelset" in done.stderr


def test_tags_that_are_hardly_sure_are_left_out_of_sidecars(tag, clips):
    """The toy model's scores are all but even."""
    done = tag(clips, "--write-sidecars")
    assert done.returncode == 0 and not list(clips.glob("*.xmp"))
    assert b"3 tags with a score below 0.50 left out: --threshold asks for others" in done.stderr


def test_remove_tags_takes_out_what_was_added(xclip, tag, clips):
    before = sorted(os.listdir(clips))
    theirs = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>mine</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF>"""
    (clips / "a.mp4.xmp").write_bytes(theirs)
    assert b"3 written" in tag(clips, "--write-sidecars", "--threshold", "0").stderr
    assert (clips / "a.mp4.xmp").read_bytes() != theirs
    (clips / "broken.mp4").write_bytes(b"no video")  # none is decoded
    shown = xclip("tag", clips, "--remove-tags", "--dry-run")
    assert shown.returncode == 0 and shown.stdout == "" and shown.stderr.count("would delete ") == 2
    assert shown.stderr.count("would write ") == 1 and (clips / "a.mp4.xmp").read_bytes() != theirs
    done = xclip("tag", clips, "--remove-tags")
    assert done.returncode == 0 and "sidecars: 3 written, 1 have nothing new, 0 left as they are" in done.stderr
    assert (clips / "a.mp4.xmp").read_bytes() == theirs
    assert sorted(os.listdir(clips)) == sorted([*before, "a.mp4.xmp", "broken.mp4"])
    assert "0 written, 4 have nothing new" in xclip("tag", clips, "--remove-tags").stderr


def test_a_sidecar_of_another_spelling_is_named(tag, clips):
    (clips / "a.xmp").write_text("of a camera")
    done = tag(clips / "a.mp4", "--write-sidecars", "--threshold", "0")
    assert b"a.xmp may be its sidecar too; tags go to a.mp4.xmp" in done.stderr
    assert (clips / "a.xmp").read_text() == "of a camera"


def test_a_sidecar_that_is_no_xmp_costs_itself_alone(tag, clips):
    (clips / "a.mp4.xmp").write_text("<!DOCTYPE x><x/>")
    (clips / "broken.mp4").write_bytes(b"no video")
    done = tag(clips, "--write-sidecars", "--threshold", "0")
    assert not (clips / "broken.mp4.xmp").exists()
    assert done.returncode == 1 and b"a.mp4.xmp' is left as it is: it has a document type" in done.stderr
    assert b"2 written, 0 have nothing new, 1 left as they are" in done.stderr and b"Traceback" not in done.stderr
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
        (("--remove-tags", "--write-sidecars"), b"--remove-tags tags nothing"),
        (("--remove-tags", "-o", "o.csv"), b"--remove-tags tags nothing"),
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
