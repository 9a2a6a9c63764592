"""`xclip tag --shard` and `xclip merge`, as they are typed."""

import csv
import os

import pytest

LABELS = ["--labels", "running,dunking,a dog"]


@pytest.fixture
def tag(xclip, toy_model):
    return lambda *arguments, **more: xclip("tag", "--model", toy_model, "--workers", 1, *LABELS, *arguments, **more)


@pytest.mark.parametrize("options", [[], ["--window", "0.5"]])
def test_merged_shards_are_one_run(xclip, tag, clips, make_clip, tmp_path, options):
    (clips / "broken.mp4").write_bytes(b"no video")
    os.utime(clips / "broken.mp4", (1, 1))  # else its row says that it may be still being written
    (clips / "sub").mkdir()
    make_clip(clips / "sub" / "a.mp4", num_frames=6)
    assert tag(clips, "-r", *options, "-o", tmp_path / "whole.csv").returncode == 1
    said = [tag(clips, "-r", *options, "--shard", f"{n}/3", "-o", tmp_path / f"part-{n}.csv").stderr for n in (1, 2, 3)]
    assert all(f"shard {n}/3: " in text and " of 5 videos" in text for n, text in enumerate(said, start=1))
    parts = sorted(tmp_path.glob("part-?.csv"))
    done = xclip("merge", *parts, "-o", tmp_path / "all.csv")
    assert done.returncode == 0 and done.stdout == ""
    assert done.stderr == f"5 videos of 3 shards -> {tmp_path / 'all.csv'}\n"
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert xclip("merge", *parts, "-o", tmp_path / "all.csv").returncode == 2
    assert xclip("merge", *parts, "-o", tmp_path / "all.csv", "--overwrite", "--quiet").stderr == ""
    done = xclip("merge", *parts[1:], "-o", tmp_path / "none.csv")
    assert done.returncode == 2 and done.stderr.startswith("error: shard 1/3 is missing\n")
    assert not (tmp_path / "none.csv").exists()


def test_a_pipe_of_a_shard_has_its_rows(tag, clips):
    rows = [row for n in (1, 2) for row in csv.DictReader(tag(clips, "--shard", f"{n}/2").stdout.splitlines())]
    assert sorted({row["video"] for row in rows}) == sorted(map(str, clips.iterdir())) and len(rows) == 9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "0/3"], "--shard is '0/3'"),
        (["--shard", "1/2", "--format", "srt", "-o", "s"], "--shard gives rows"),
    ],
)
def test_what_is_no_shard_is_said_before_anything_is_tagged(tag, clips, options, said):
    done = tag(clips, *options, cwd=clips)
    assert done.returncode == 2 and said in done.stderr and done.stdout == ""


@pytest.mark.parametrize("options", [[], ["--window", "0.5"]])
def test_a_url_is_a_row_that_says_what_to_do(tag, clips, options):
    urls = ["https://example.org/a.mp4?key=[1]", "s3://bucket/b.mp4"]
    done = tag(*urls, clips / "a.mp4", *options)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    failed = {row["video"]: row["error"] for row in rows if row["status"] == "error"}
    assert done.returncode == 1 and failed == {url: f"{url!r} is a URL: download it first" for url in urls}
    assert [row["video"] for row in rows if row["status"] == "ok"] != []
