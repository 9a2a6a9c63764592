"""`xclip index` and `xclip tag --from-index`: read once, asked often."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

LABELS = ["--labels", "running,dunking,a dog"]


@pytest.fixture
def run(xclip, plain_model, tmp_path):
    """The program with a model without prompts and an index of its own."""

    def run(command, *arguments, model=plain_model, text=True):
        own = () if "--status" in arguments else ("--model", model)
        return xclip(command, *arguments, *own, "--index", tmp_path / "index", text=text)

    return run


@pytest.fixture(scope="module")
def long_clip(make_long_clip, tmp_path_factory):
    """Half a minute that changes."""
    return make_long_clip(tmp_path_factory.mktemp("long") / "long.mp4", 12)


@pytest.fixture
def folder(clips, long_clip):
    shutil.copy(long_clip, clips / "long.mp4")
    return clips


@pytest.fixture(scope="module")
def indexed(xclip, plain_model, long_clip, make_clip, tmp_path_factory):
    """A folder of two clips, and the options of an index that has it, for tests that change neither."""
    home = tmp_path_factory.mktemp("indexed")
    (home / "clips").mkdir()
    make_clip(home / "clips" / "a.mp4")
    shutil.copy(long_clip, home / "clips" / "long.mp4")
    own = ("--model", plain_model, "--index", home / "index")
    assert xclip("index", home / "clips", *own).returncode == 0
    return home / "clips", own


def told(done):
    return done.stderr.splitlines()[-1].split(" -> ")[0]


@pytest.mark.parametrize(
    "how",
    [(), ("--window", "auto", "--threshold", "0.3"), ("--top-k", "2", "--format", "json"),
     ("--window", "auto", "--format", "jsonl", "--exclusive"), ("--background", "nothing at all")],
)  # fmt: skip
def test_tags_of_the_index_are_those_of_the_videos(xclip, indexed, how):
    folder, (_, model, *index) = indexed
    decoded = xclip("tag", folder, *LABELS, *how, "--model", model, text=False)
    found = xclip("tag", folder, *LABELS, *how, "--model", model, *index, "--from-index", text=False)
    assert decoded.returncode == found.returncode == 0, found.stderr
    assert found.stdout == decoded.stdout and len(decoded.stdout) > 400 and found.stderr == b""


def test_prompts_look_at_what_is_kept_of_whole_videos_and_are_left_out_of_windows_aloud(
    run, xclip, toy_model, folder, tmp_path
):
    assert run("index", folder / "long.mp4", model=toy_model).returncode == 0
    folder = folder / "long.mp4"
    decoded = xclip("tag", folder, *LABELS, "--model", toy_model)
    indexed = run("tag", folder, *LABELS, "--from-index", model=toy_model)
    assert indexed.stdout == decoded.stdout and indexed.stderr == ""
    windows = "tag", folder, *LABELS, "--window", "auto", "-o", tmp_path / "o.csv"
    timeline = run(*windows, "--from-index", model=toy_model)
    assert timeline.returncode == 0 and timeline.stderr.startswith("warning: toy prompts its labels with each window's")
    assert "(0 before)" in xclip(*windows, "--model", toy_model).stderr  # what differs is not taken for the same


def test_nothing_is_decoded(run, xclip, plain_model, folder):
    run("index", folder)
    before = run("tag", folder, *LABELS, "--from-index")
    for video in folder.iterdir():
        stat = video.stat()
        video.write_bytes(bytes(stat.st_size))
        os.utime(video, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = run("tag", folder, *LABELS, "--from-index")
    assert after.returncode == 0 and after.stdout == before.stdout
    assert xclip("tag", folder, *LABELS, "--model", plain_model).returncode == 1


def test_what_the_index_lacks_is_a_row_that_says_what_to_do(run, folder, make_clip):
    run("index", folder)
    make_clip(folder / "new.mp4", shade=5)
    make_clip(folder / "a.mp4", num_frames=20)
    done = run("tag", folder, folder / "none.mp4", *LABELS, "--from-index", "--top-k", "1")
    assert done.returncode == 1
    errors = {line.split(",")[0].rpartition("/")[2]: line for line in done.stdout.splitlines() if ",error," in line}
    assert set(errors) == {"new.mp4", "a.mp4", "none.mp4"}
    assert "'new.mp4' is not in the index: run xclip index" in errors["new.mp4"]
    assert "'a.mp4' has changed since it was indexed: run xclip index" in errors["a.mp4"]
    assert "'none.mp4' is not there" in errors["none.mp4"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--from-index", "--window", "8"), "--window 2 --stride 1"), (("--from-index", "--num-clips", "2"), "one view"),
     (("--from-index", "--dtype", "bfloat16"), "--dtype float32"), ((), "--index is used with --from-index")],
)  # fmt: skip
def test_what_the_index_cannot_answer_is_one_line(xclip, indexed, arguments, said):
    folder, own = indexed
    done = xclip("tag", folder, *LABELS, *own, *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error:") and said in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_is_not_in_the_index_is_told_which_are(xclip, indexed, toy_model):
    folder, own = indexed
    for command in (("tag", folder, *LABELS, "--from-index"), ("search", "a dog")):
        done = xclip(*command, *own, "--model", toy_model)
        assert done.returncode == 2 and "has nothing of toy: it has plain" in done.stderr


def test_no_index_is_one_line(run, folder):
    for command in (("tag", folder, *LABELS, "--from-index"), ("search", "a dog"), ("index", "--status")):
        done = run(*command)
        assert done.returncode == 1 and "there is no index in" in done.stderr and "xclip index FOLDER" in done.stderr


def test_only_what_is_new_is_read(run, folder, make_clip):
    assert told(run("index", folder)).startswith("4 videos indexed (0 before), 0 failed, 32 windows")
    assert told(run("index", folder)).startswith("0 videos indexed (4 before), 0 failed, 0 windows")
    os.utime(folder / "a.mp4", (1, 1))
    (folder / "b c.mp4").rename(folder / "moved.mp4")
    assert told(run("index", folder)).startswith("0 videos indexed (4 before), 0 failed")
    done = run("tag", folder, *LABELS, "--from-index")
    assert done.returncode == 0 and "moved.mp4" in done.stdout
    make_clip(folder / "a.mp4", num_frames=30, shade=3)
    make_clip(folder / "new.mp4", shade=4)
    assert told(run("index", folder)).startswith("2 videos indexed (3 before), 0 failed")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_index(plain_model, xclip, make_clip, tmp_path):
    (tmp_path / "clips").mkdir()
    for number in range(30):
        make_clip(tmp_path / "clips" / f"{number:02}.mp4", num_frames=6, shade=number)
    own = (tmp_path / "clips", "--model", plain_model, "--window", "0.2", "--index")
    assert xclip("index", *own, tmp_path / "whole").returncode == 0
    kills = 0
    for share in (0.25, 0.5, 0.75):
        command = [sys.executable, "-m", "xclip_cli", "index", *own, tmp_path / "killed"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and rows(tmp_path / "killed") < share * rows(tmp_path / "whole"):
            time.sleep(0.001)
        kills += process.poll() is None
        process.kill()
        process.wait()
    done = xclip("index", *own, tmp_path / "killed")
    assert done.returncode == 0 and " 0 failed" in done.stderr
    assert kills == 3 and 0 < int(told(done).split("(")[1].split()[0]) < 30
    for how in ((), ("--window", "0.2", "--threshold", "0")):
        asked = "tag", own[0], *own[1:3], *LABELS, *how, "--from-index", "--index"
        whole, resumed = (xclip(*asked, tmp_path / name, text=False).stdout for name in ("whole", "killed"))
        assert whole == resumed and whole.count(b",ok,") >= 90


def rows(folder):
    """Bytes of windows in an index."""
    return sum(file.stat().st_size for file in folder.glob("*.rows")) if folder.exists() else 0


def test_a_video_that_fails_is_named_and_not_kept(run, folder):
    (folder / "broken.mp4").write_bytes(b"no video at all")
    done = run("index", folder)
    assert done.returncode == 1 and done.stdout == ""
    assert (
        "failed:" in done.stderr
        and "broken.mp4" in done.stderr
        and told(done).startswith("4 videos indexed (0 before), 1")
    )
    (folder / "broken.mp4").unlink()
    assert run("index", folder).returncode == 0


def test_status_and_prune(run, folder):
    run("index", folder)
    (folder / "long.mp4").unlink()
    head, row = (line.split("\t") for line in run("index", "--status").stdout.splitlines())
    assert dict(zip(head, row, strict=True)) | {"MB of windows": "", "hours": ""} == {
        "model": "plain", "videos": "4", "gone": "1", "windows": "32", "hours": "", "MB of windows": "",
        "made with": "--window 2 --stride 1 --dtype float32 --reader auto",
    }  # fmt: skip
    done = run("index", "--prune")
    assert done.returncode == 2 and "the files of 1 of 4 indexed videos are gone: nothing was taken out" in done.stderr
    done = run("index", "--prune", "--yes", "--status")
    assert "taken out: 1 whose files are gone" in done.stderr
    assert done.stdout.splitlines()[1].split("\t")[1:4] == ["3", "0", "3"]


@pytest.fixture
def drive(run, folder, tmp_path):
    """A folder of one video that is indexed, beside three of another folder."""
    (tmp_path / "drive").mkdir()
    shutil.move(folder / "a.mp4", tmp_path / "drive" / "a.mp4")
    assert run("index", folder, tmp_path / "drive").returncode == 0
    return tmp_path / "drive"


def test_a_drive_that_is_not_mounted_is_named_before_its_videos_are_taken_out(run, drive):
    drive.rename(drive.with_name("away"))
    done = run("index", "--prune")
    assert done.returncode == 2 and "of 1 of 4 indexed videos are gone" in done.stderr
    assert f"'{drive}' is not there: is a drive not mounted?" in done.stderr and "--yes" in done.stderr
    drive.mkdir()
    assert f"'{drive}' is empty: is a drive not mounted?" in run("index", "--prune").stderr
    assert run("index", "--status").stdout.splitlines()[1].split("\t")[1:3] == ["4", "1"]
    drive.rmdir()
    drive.with_name("away").rename(drive)
    done = run("index", "--prune")
    assert done.returncode == 0 and "taken out: 0" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="has no terminals of this kind")
@pytest.mark.parametrize(("answer", "left"), [(b"y\n", "3"), (b"n\n", "4"), (b"\n", "4")])
def test_on_a_terminal_pruning_asks(run, drive, tmp_path, answer, left):
    import pty

    (drive / "a.mp4").unlink()
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    command = [sys.executable, "-m", "xclip_cli", "index", "--prune", "--index", str(tmp_path / "index")]
    done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0 and done.stdout == ""
    assert "of 1 of 4 indexed videos are gone" in done.stderr and "Take them out of the index?" in done.stderr
    assert run("index", "--status").stdout.splitlines()[1].split("\t")[1] == left


def test_an_index_has_one_kind_of_windows_of_a_model(run, folder):
    assert run("index", folder / "a.mp4", "--window", "4").returncode == 0
    done = run("index", folder)
    assert done.returncode == 2 and "has plain with --window 4 --stride 2" in done.stderr


def test_nothing_to_index_is_wrong_usage(run):
    done = run("index")
    assert done.returncode == 2 and "no videos are named" in done.stderr


@pytest.mark.parametrize(
    "statement",
    ["UPDATE collections SET generation = 'x/../../victim'", "UPDATE videos SET count = 1e300",
     "UPDATE videos SET whole = x'00', spans = x'00'", "CREATE TRIGGER t AFTER INSERT ON videos BEGIN SELECT 1; END"],
)  # fmt: skip
def test_an_index_that_was_tampered_with_is_one_line_for_every_command(run, folder, tmp_path, statement):
    import sqlite3

    run("index", folder / "a.mp4")
    base = sqlite3.connect(tmp_path / "index" / "index.sqlite", isolation_level=None)
    base.execute(statement)
    base.close()
    prune = ("index", "--prune", "--yes", "--status")
    for command in (("tag", folder / "a.mp4", *LABELS, "--from-index"), ("search", "--like", folder / "a.mp4"), prune):
        done = run(*command)
        if "whole" in statement and command is prune:
            continue  # which does not look at features
        assert done.returncode == 1, done.stderr
        [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "is damaged" in error and "index again" in done.stderr and "Traceback" not in done.stderr


def test_a_journal_that_was_tampered_with_gives_the_rows_of_an_untouched_run(xclip, plain_model, folder, tmp_path):
    asked = ("tag", folder, *LABELS, "--model", plain_model, "-o", tmp_path / "o.csv")
    assert xclip(*asked).returncode == 0
    wanted, journal = (tmp_path / "o.csv").read_bytes(), tmp_path / "o.csv.journal"
    first, *others = journal.read_text().splitlines()
    entry = json.loads(first)
    entry["result"]["segments"][0]["tags"][0]["score"] = -0.5
    for line in (json.dumps(entry), first.replace('"label"', '"label": "x", "label"', 1), "[" * 50_000, first[:-20]):
        journal.write_text("\n".join([line, *others]) + "\n")
        done = xclip(*asked)
        assert done.returncode == 0 and "(3 before)" in done.stderr, done.stderr
        assert (tmp_path / "o.csv").read_bytes() == wanted
    assert sorted(os.listdir(tmp_path)) == ["clips", "o.csv", "o.csv.journal"]
