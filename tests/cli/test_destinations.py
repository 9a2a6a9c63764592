"""Where the commands write: links, devices, long names, one file that cannot be written, CSV for Excel."""

import csv
import json
import os

import pytest

LABELS = ("--labels", "running,dunking,a dog")


@pytest.fixture
def tag(xclip, toy_model):
    return lambda *arguments, **more: xclip("tag", "--model", toy_model, "--workers", 1, *LABELS, *arguments, **more)


def test_a_link_stays_and_its_target_is_replaced_with_its_mode(tag, clips, tmp_path):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "real.csv"
    (tmp_path / "tags.csv").symlink_to(target)
    assert tag(clips, "-o", tmp_path / "tags.csv").returncode == 0  # the link leads to nothing yet
    target.chmod(0o600)
    assert tag(clips, "--top-k", 1, "-o", tmp_path / "tags.csv").returncode == 0
    assert (tmp_path / "tags.csv").is_symlink() and len(target.read_text().splitlines()) == 4
    assert target.stat().st_mode & 0o777 == 0o600 and os.listdir(tmp_path / "far") == ["real.csv"]


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_what_is_no_file_is_refused_before_work_begins(xclip, tag, clips, tmp_path, kind):
    def special(name):
        path = tmp_path / name
        os.mkfifo(path) if kind == "a FIFO" else path.symlink_to("/dev/full")
        return path

    video, commands = clips / "a.mp4", {}
    for name, option in (("t.csv", "-o"), ("r.html", "--report"), ("a.mp4", "--annotate")):
        commands[name] = tag, (video, option, special(name), "--overwrite")
    commands["m.csv"] = xclip, ("merge", tmp_path / "none.csv", "-o", special("m.csv"), "--overwrite")
    commands["c.yaml"] = xclip, ("calibrate", clips, "-o", special("c.yaml"), "--overwrite")
    commands["s.csv"] = xclip, ("search", "a dog", "-o", special("s.csv"), "--overwrite")
    commands["s.html"] = xclip, ("search", "a dog", "--report", special("s.html"), "--overwrite")
    for name, (program, arguments) in commands.items():
        done = program(*arguments)
        assert done.returncode == 2 and f"{name}' is {kind}, not a file\n" in done.stderr, (name, done)
        assert done.stdout == ""
    for name in ("tuned", "measured", "cuts"):
        path = special(name)
        options = {
            "tuned": ("finetune", clips, "-o", path),
            "measured": ("benchmark", "accuracy", clips, "-o", path),
            "cuts": ("tag", video, *LABELS, "--window", "auto", "--cut", path),
        }
        done = xclip(*options[name])
        assert done.returncode == 2 and str(path) in done.stderr and done.stdout == "", done
    assert not any(name.endswith((".journal", ".part")) for name in os.listdir(tmp_path))


def test_the_longest_name_has_a_journal_of_its_own(tag, clips, tmp_path):
    output = tmp_path / ("x" * 251 + ".csv")
    assert tag(clips, "-o", output).returncode == 0
    before = output.read_bytes()
    again = tag(clips, "-o", output)
    assert again.returncode == 0 and "3 tagged (3 before)" in again.stderr and output.read_bytes() == before
    assert tag(clips, "-o", tmp_path / ("x" * 252 + ".csv")).returncode == 2


def test_a_file_that_cannot_be_written_costs_its_video_alone(tag, clips, tmp_path):
    (clips / "a.mp4").rename(clips / ("a" * 252 + ".ts"))
    (tmp_path / "out" / "b c.srt").mkdir(parents=True)
    done = tag(clips, "--format", "srt", "-o", tmp_path / "out")
    assert done.returncode == 1 and "1 tagged (0 before), 2 failed" in done.stderr
    assert done.stderr.count("failed: ") == 2 and "File name too long" in done.stderr
    assert "it is a folder, not a file" in done.stderr
    assert (tmp_path / "out" / "=d.srt").read_text().startswith("1\n")
    (tmp_path / "out" / "b c.srt").rmdir()
    done = tag(clips, "--format", "srt", "-o", tmp_path / "out")  # nothing is tagged twice
    assert done.returncode == 1 and "2 tagged (3 before), 1 failed" in done.stderr


def test_a_sidecar_that_cannot_be_written_costs_its_video_alone(tag, clips):
    (clips / "a.mp4").rename(clips / ("a" * 250 + ".mp4"))
    done = tag(clips, "--write-sidecars", "--threshold", "0")
    assert done.returncode == 1 and "File name too long" in done.stderr
    assert sorted(path.name for path in clips.glob("*.xmp")) == ["=d.mp4.xmp", "b c.mp4.xmp"]


def test_a_segment_that_cannot_be_written_costs_itself_alone(tag, clips, tmp_path):
    cut = ("--window", "0.5", "--threshold", 0, "--cut", tmp_path / "cuts")
    assert tag(clips, *cut).returncode == 0
    first, *others = sorted((tmp_path / "cuts").iterdir())
    first.unlink()
    first.mkdir()
    done = tag(clips, *cut)
    assert done.returncode == 1 and f"failed: {first.name}: " in done.stderr and "1 failed" in done.stderr
    assert sorted((tmp_path / "cuts").iterdir()) == [first, *others] and all(path.is_file() for path in others)


def test_own_sidecars_are_not_counted_as_skipped(tag, clips):
    for name in ("a.mp4.xmp", "B C.MP4.XMP", "notes.xmp", "notes.txt"):
        (clips / name).touch()
    assert "2 files skipped: 1 x .txt, 1 x .xmp\n" in tag(clips).stderr


def test_excel_files_are_resumed_and_merged_as_csv_is(xclip, tag, clips, tmp_path):
    excel = ("--format", "excel", "-o")
    assert tag(clips, *excel, tmp_path / "whole.csv").returncode == 0
    document = (tmp_path / "whole.csv").read_bytes()
    assert tag(clips, "-o", tmp_path / "plain.csv").returncode == 0
    assert document == b"\xef\xbb\xbf" + (tmp_path / "plain.csv").read_bytes()
    again = tag(clips, *excel, tmp_path / "whole.csv")
    assert "(3 before)" in again.stderr and (tmp_path / "whole.csv").read_bytes() == document
    parts = [tmp_path / f"{n}.csv" for n in "12"]
    for n, part in enumerate(parts, 1):
        assert tag(clips, "--shard", f"{n}/2", *excel, part).returncode == 0
    assert xclip("merge", *parts, "-o", tmp_path / "all.csv").returncode == 0
    assert (tmp_path / "all.csv").read_bytes() == document
    rows = list(csv.DictReader(tag(clips, "--format", "excel", text=False).stdout.decode("utf-8-sig").splitlines()))
    assert len(rows) == 9 and rows[0]["rank"] == "1"


def test_a_note_that_claims_a_billion_shards_takes_no_memory(xclip, tag, clips, tmp_path):
    part, journal = tmp_path / "1.csv", tmp_path / "1.csv.journal"
    assert tag(clips, "--shard", "1/2", "-o", part).returncode == 0
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if "shard" in line:
            line["shard"]["of"] = 10**9
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = xclip("merge", part, "-o", tmp_path / "all.csv")
    assert done.returncode == 2
    assert "error: shard 2/1000000000 is missing, and 999999998 more\n" in done.stderr or "damaged" in done.stderr
