import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from xclip_cli import labels

LABELS = ["--labels", "running,dunking,a dog"]


def process(*arguments):
    """The program in a process of its own, for what belongs to one."""
    command = [sys.executable, "-m", "xclip_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120)


def table(data):
    return list(csv.DictReader(io.StringIO(data.decode() if isinstance(data, bytes) else data, newline="")))


def test_a_pipe_gets_clean_csv_in_the_order_of_the_videos(toy_model, clips):
    done = process("tag", "--model", toy_model, *LABELS, clips)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    rows = table(done.stdout)
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 3
    assert [os.path.basename(row["video"]) for row in rows[::3]] == ["=d.mp4", "a.mp4", "b c.mp4"]
    for first in range(0, 9, 3):
        scores = [float(row["score"]) for row in rows[first : first + 3]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=2e-4)
    assert {row["model"] for row in rows} == {"toy"}


def test_formats_follow_the_suffix(tag, clips, tmp_path):
    assert tag(clips, "-o", tmp_path / "o.json", "-k", "2").returncode == 0
    videos = json.loads((tmp_path / "o.json").read_text())
    assert [len(video["segments"][0]["tags"]) for video in videos] == [2, 2, 2]
    assert tag(clips, "-o", tmp_path / "o.jsonl").returncode == 0
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 3
    assert tag(clips, "-o", tmp_path / "o.xls").returncode == 2
    assert tag(clips, "-o", tmp_path / "o.csv", "--format", "table").returncode == 2


def test_a_bad_video_is_a_row_and_the_rest_goes_on(tag, clips, tmp_path):
    (clips / "broken.mp4").write_bytes(b"no video at all")
    done = tag(clips, tmp_path / "missing.mp4", "-o", tmp_path / "o.csv")
    assert done.returncode == 1
    rows = table((tmp_path / "o.csv").read_bytes())
    failed = {os.path.basename(row["video"]): row["error"] for row in rows if row["status"] == "error"}
    assert set(failed) == {"broken.mp4", "missing.mp4"} and all(failed.values())
    assert sum(row["status"] == "ok" for row in rows) == 9
    assert b"failed" in done.stderr and b"Traceback" not in done.stderr


def test_strict_stops_at_a_failure(tag, clips, make_clip, tmp_path):
    (clips / "A-broken.mp4").write_bytes(b"no")
    for index in range(4):
        make_clip(clips / f"z{index}.mp4", num_frames=6)
    done = tag(clips, "--strict", "--workers", 1, "-o", tmp_path / "o.csv")
    assert done.returncode == 1 and b"A-broken.mp4" in done.stderr and not (tmp_path / "o.csv").exists()
    journal = (tmp_path / "o.csv.journal").read_text()
    assert journal.count("\n") < 4 and "/z" not in journal  # later videos are left, up to what was decoded ahead
    rows = table(tag(clips, "--strict", "--workers", 1).stdout)
    assert {os.path.basename(row["video"]) for row in rows} <= {"=d.mp4"}
    assert b"7 tagged" in tag(clips, "-o", tmp_path / "o.csv").stderr


def test_a_list_on_standard_input(tag, clips):
    names = b"\n".join(os.fsencode(clips / name) for name in ("a.mp4", "b c.mp4"))
    assert len(table(tag("-", stdin=names).stdout)) == 6
    assert len(table(tag("-", stdin=names.replace(b"\n", b"\0")).stdout)) == 6


def test_a_finished_run_is_not_repeated_and_a_change_is_noticed(tag, clips, tmp_path):
    output = tmp_path / "o.csv"
    first = tag(clips, "-o", output)
    assert b"3 tagged (0 before)" in first.stderr
    before = output.read_bytes()
    again = tag(clips, "-o", output)
    assert b"3 tagged (3 before)" in again.stderr and output.read_bytes() == before
    os.utime(clips / "a.mp4", (1, 1))
    assert b"(2 before)" in tag(clips, "-o", output).stderr
    assert b"(0 before)" in tag(clips, "-o", output, labels=["--labels", "running,other"]).stderr
    assert b"(0 before)" in tag(clips, "-o", output, "--overwrite").stderr
    assert output.read_bytes() == before


def test_an_output_that_is_not_ours_or_one_of_the_videos_is_refused(tag, clips, tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    done = tag(clips, "-o", tmp_path / "mine.csv")
    assert done.returncode == 2 and b"--overwrite" in done.stderr
    assert (tmp_path / "mine.csv").read_text() == "mine"
    video = (clips / "a.mp4").read_bytes()
    for path in (clips / "*.mp4", clips, "-"):
        done = tag(path, "-o", clips / "a.mp4", "--format", "csv", "--overwrite", stdin=os.fsencode(clips / "a.mp4"))
        assert done.returncode == 2 and b"would replace the input" in done.stderr and b"Traceback" not in done.stderr
    assert (clips / "a.mp4").read_bytes() == video
    assert sorted(os.listdir(clips)) == ["=d.mp4", "a.mp4", "b c.mp4"]
    assert tag(clips, "-o", tmp_path / "no" / "o.csv").returncode == 1


def test_a_changed_output_and_rows_of_another_folder_stay(tag, clips, make_clip, tmp_path):
    output, other = tmp_path / "o.csv", tmp_path / "other"
    other.mkdir()
    make_clip(other / "z.mp4")
    assert tag(clips, "-o", output).returncode == 0
    made = output.read_bytes()
    done = tag(other, "-o", output)
    assert done.returncode == 2 and b"is of 3 other videos too" in done.stderr and output.read_bytes() == made
    done = tag(clips, other, "-o", output)
    assert done.returncode == 0 and b"4 tagged (3 before)" in done.stderr
    output.write_bytes(made.replace(b"running", b"walking"))
    done = tag(clips, other, "-o", output)
    assert (
        done.returncode == 2 and b"was changed since the last run" in done.stderr and b"walking" in output.read_bytes()
    )
    output.rename(tmp_path / "mine.csv")
    assert b"4 tagged (4 before)" in tag(clips, other, "-o", output).stderr
    assert tag(other, "-o", output, "--overwrite").returncode == 0 and len(table(output.read_bytes())) == 3


def test_an_output_among_the_videos_is_no_input(tag, clips):
    for paths in (["."], ["."], ["*"]):
        done = tag(*paths, "-o", "tags.csv", cwd=clips)
        assert done.returncode == 0 and b"3 tagged" in done.stderr and b"skipped" not in done.stderr
        assert len(table((clips / "tags.csv").read_bytes())) == 9
    assert sorted(os.listdir(clips)) == ["=d.mp4", "a.mp4", "b c.mp4", "tags.csv", "tags.csv.journal"]


def test_what_is_left_out_is_said_once(tag, clips):
    for name in ("a.xyz", "\x1b[31mb.xyz", ".DS_Store"):
        (clips / name).write_bytes(b"x")
    (clips / "link.mp4").symlink_to("a.mp4")
    done = tag(clips)
    assert done.returncode == 0 and done.stderr.decode().splitlines() == ["3 files skipped: 2 x .xyz, 1 link"]
    assert len(table(done.stdout)) == 9
    told = tag(clips, "-v").stderr.decode()
    assert "skipped (.xyz): " in told and "skipped (link): " in told and "\x1b" not in told and r"\x1b[31mb.xyz" in told
    assert told.count("files skipped") == 1
    assert tag(clips, "--quiet").stderr == b""


def test_a_name_cannot_command_the_terminal(tag, clips):
    (clips / "\x1b]0;owned\x07.mp4").write_bytes(b"no video")
    done = tag(clips)
    assert done.returncode == 1 and b"failed: " in done.stderr
    assert b"\x1b" not in done.stderr and b"\x07" not in done.stderr


def test_a_missing_name_with_brackets_in_a_list_is_a_row(tag, clips):
    done = tag("-", stdin=b"[x].mp4\na.mp4\n*.mp4\n", cwd=clips)
    assert done.returncode == 1
    rows = table(done.stdout)
    assert [row["video"] for row in rows] == ["[x].mp4", *["a.mp4"] * 3, "*.mp4"]
    assert [row["status"] for row in rows] == ["error", *["ok"] * 3, "error"]


@pytest.mark.skipif(os.name != "posix", reason="needs a path that is too long")
def test_a_folder_that_cannot_be_listed_is_a_row(tag, clips):
    inner = os.open(clips, os.O_RDONLY)
    for _ in range(30):  # no path leads to the innermost folders, which no rights of root's change
        os.mkdir("n" * 200, dir_fd=inner)
        outer, inner = inner, os.open("n" * 200, os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    output = clips / "o.csv"
    for before in (0, 3):
        done = tag(clips, "--recursive", "-o", output)
        assert done.returncode == 1 and b"Traceback" not in done.stderr
        assert f"3 tagged ({before} before), 1 failed".encode() in done.stderr
        *tagged, failed = table(output.read_bytes())
        assert len(tagged) == 9 and failed["status"] == "error" and "cannot be listed" in failed["error"]
        assert failed["model"] == "toy" and failed["labelset"] == tagged[0]["labelset"]
    assert tag(clips, "--recursive", "--strict").returncode == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--top-k", "0"), ("--threshold", "2"), ("--num-crops", "2"), ("--device", "gpu"), ("--reader", "vlc"),
     ("--dtype", "int3"), ("--workers", "0"), ("--decode-timeout", "0"), ("--labels", "a,,b"), ("--labelset", "nope")],
)  # fmt: skip
def test_a_wrong_option_is_one_line_that_names_it(tag, clips, option, value):
    done = tag(clips, option, value)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr and done.stdout == b""
    assert done.stderr.startswith(b"error:")


def test_threshold_and_background_give_unknown(tag, clips, tmp_path):
    rows = table(tag(clips, "--threshold", "1").stdout)
    assert [(row["label"], row["rank"], row["score"]) for row in rows] == [("unknown", "1", "")] * 3
    file = tmp_path / "l.yaml"
    best = {row["video"]: row["label"] for row in table(tag(clips, "-k", 1, labels=["--labels", "a,b"]).stdout)}
    for label, background in (("a", "b"), ("b", "a")):
        file.write_text(f"labels: [{label}]\nbackground: [{background}]\n")
        rows = table(tag(clips, "-k", 1, labels=["--labels-file", file]).stdout)
        winners = {video: label if won == label else "unknown" for video, won in best.items()}
        assert {row["video"]: row["label"] for row in rows} == winners


def test_labels_that_were_probably_not_meant_are_said_unless_quiet(tag, clips):
    done = tag(clips, labels=["--labels", "running;a dog"])
    assert done.returncode == 0
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("warning: 'running;a dog' was understood as one label") and "always scores 1.0" in second
    assert tag(clips, "--quiet", labels=["--labels", "running;a dog"]).stderr == b""
    assert tag(clips, labels=["--labels", "running", "--labelset", "everyday"]).stderr == b""


def test_chinese_labels_are_those_of_the_built_in_set(tag, clips, tmp_path):
    file = tmp_path / "custom.yaml"
    prompts = labels.builtin("sports").labels[1].prompts
    file.write_text(f"labels: [{{name: 灌篮, prompts: {list(prompts)}}}, a dog]\n", encoding="utf-8")
    done = tag(clips, labels=["--labels", "灌篮,a dog"])
    assert done.stderr == b"" and done.stdout == tag(clips, labels=["--labels-file", file]).stdout
    assert "灌篮" in {row["label"] for row in table(done.stdout)}
    assert "not in Latin letters: '跑酷之王'" in tag(clips, labels=["--labels", "跑酷之王,a dog"]).stderr.decode()


def test_views_are_averaged_and_deterministic(tag, clips):
    views = ("--num-clips", "3", "--num-crops", "3")
    assert tag(clips, *views, "--workers", "2").stdout == tag(clips, *views).stdout != tag(clips).stdout


def test_on_cpu_scores_do_not_depend_on_the_batch(tag, clips):
    alone = b"".join(tag(path).stdout.split(b"\n", 1)[1] for path in sorted(clips.iterdir()))
    for size in ("1", "3"):
        assert tag(clips, "--batch-size", size).stdout.split(b"\n", 1)[1] == alone


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_so_often_the_output_is_that_of_one_run(xclip, toy_model, make_clip, tmp_path, kills):
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(60):
        make_clip(folder / f"{index:02}.mp4", num_frames=6, shade=index)
    arguments = ["tag", folder, "--model", toy_model, *LABELS, "-o"]
    assert xclip(*arguments, tmp_path / "whole.csv").returncode == 0
    output, journal = tmp_path / "o.csv", tmp_path / "o.csv.journal"
    chance = random.Random(0)
    tagged_by_kills = 0
    for _ in range(kills):
        command = [sys.executable, "-m", "xclip_cli", *map(str, arguments), str(output)]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        goal = (journal.stat().st_size if journal.exists() else 0) + chance.randrange(1, 1000)
        while run.poll() is None and (not journal.exists() or journal.stat().st_size < goal):
            time.sleep(0.002)
        run.kill()
        run.wait()
        lines = journal.read_bytes().count(b"\n")
        assert lines >= tagged_by_kills
        tagged_by_kills = lines
    assert xclip(*arguments, output).returncode == 0
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    keys = [json.loads(line)["key"] for line in journal.read_bytes().splitlines()]
    assert len(keys) == len(set(keys)) == 60
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_ctrl_c_stops_soon_and_can_be_resumed(xclip, toy_model, make_clip, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(80):
        make_clip(folder / f"{index:02}.mp4", num_frames=6, shade=index)
    arguments = ["tag", str(folder), "--model", toy_model, *LABELS, "-o", str(tmp_path / "o.csv")]
    run = subprocess.Popen(
        [sys.executable, "-m", "xclip_cli", *arguments],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    journal = tmp_path / "o.csv.journal"
    while not journal.exists() or not journal.stat().st_size:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=20) == 130
    assert journal.read_bytes().count(b"\n") < 80  # it stopped, it did not finish
    said = run.stderr.read()
    run.stderr.close()
    assert b"Traceback" not in said and b"run the same command again" in said
    done = xclip(*arguments)
    assert done.returncode == 0 and "(0 before)" not in done.stderr


def test_a_closed_pipe_is_no_error(toy_model, clips):
    command = f"{sys.executable} -m xclip_cli tag {clips} --model {toy_model} -l a,b | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)
    assert done.stdout.startswith(b"video,") and done.stderr == b""


def read_terminal(master):
    """All that is written to a terminal until nobody has it open any more."""
    written = b""
    with suppress(OSError):
        while some := os.read(master, 65536):
            written += some
    os.close(master)
    return written.decode()


def test_on_a_terminal_the_bar_leaves_data_alone(toy_model, clips):
    pty = pytest.importorskip("pty")
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "xclip_cli", "tag", clips, "--model", toy_model, *LABELS]
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=environment) as run:
        os.close(terminal)
        assert "running" not in read_terminal(master)
        assert len(table(run.stdout.read())) == 9

    master, terminal = pty.openpty()
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as run:
        os.close(terminal)
        shown = read_terminal(master)
    assert run.returncode == 0 and "\u2588" in shown
    rows = [line for line in shown.splitlines() if "running" in line]  # what is drawn between them is taken back
    assert len(rows) == 3 and not any("tagging" in row.rpartition("\x1b[2K")[2] for row in rows)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_on_standard_output_is_a_clear_error(toy_model, clips):
    command = f"{sys.executable} -m xclip_cli tag {clips} --model {toy_model} -l a,b > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)
    assert done.returncode == 1
    assert b"No space left" in done.stderr and b"Traceback" not in done.stderr
