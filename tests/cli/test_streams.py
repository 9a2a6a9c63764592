"""The program where its streams, its signals or its surroundings are unusual: one plain line, never a traceback."""

import csv
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

XCLIP = (sys.executable, "-m", "xclip_cli")
LIGHT = (
    ("--help",),
    ("--version",),
    ("tag", "--help"),
    ("labels", "list"),
    ("labels", "show", "everyday"),
    ("models", "list"),
    ("models", "show", "mini"),
    ("cache",),
)


def run(*arguments, shell="", **env):
    """Through a shell, which can close streams and send them elsewhere."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", *XCLIP, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=os.environ | env)


@pytest.fixture
def tag(toy_model):
    return lambda *arguments, **more: run("tag", "--model", toy_model, "--labels", "a dog,running", *arguments, **more)


def two_lines(said: bytes, start: str) -> bool:
    return said.decode().startswith(start) and len(said.splitlines()) == 2


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_a_full_or_closed_standard_output_is_one_line(arguments):
    full = run(*arguments, shell="> /dev/full")
    assert full.returncode == 1, full
    assert two_lines(full.stderr, "error: cannot write to standard output: No space left on device\n"), full.stderr


def test_closed_streams_are_one_line_or_silence():
    closed = run("labels", "list", shell=">&-")
    assert closed.returncode == 1
    assert two_lines(closed.stderr, "error: cannot write to standard output: Bad file descriptor\n"), closed.stderr
    assert run("labels", "list", shell="2>&-").returncode == 0
    done = run("labels", "show", "nosuchset", shell="<&- >&- 2>&-")
    assert done.returncode == 2 and done.stdout == done.stderr == b""


@pytest.mark.slow
def test_a_file_is_written_whatever_became_of_the_streams(tag, clips, tmp_path):
    done = tag(clips, "-o", tmp_path / "tags.csv", shell="<&- >&- 2>&-")
    assert done.returncode == 0 and len((tmp_path / "tags.csv").read_text().splitlines()) == 7
    done = tag(clips, shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].startswith(b"error: cannot write to standard output: No space"), done.stderr
    done = tag(clips, "-o", tmp_path / "more.csv", shell="2> /dev/full")
    assert done.returncode == 0 and (tmp_path / "more.csv").read_bytes() == (tmp_path / "tags.csv").read_bytes()


def test_a_pipe_that_was_read_enough_of_is_no_error():
    done = run("labels", "show", "everyday", shell="| head -n 1")
    assert done.stdout.count(b"\n") == 1 and done.stderr == b""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_text_that_an_encoding_does_not_have_is_replaced(encoding):
    done = run("labels", "show", "everyday", "--lang", "zh", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and done.stderr == b"" and b"label\t??" in done.stdout


def test_rows_are_utf8_whatever_the_locale(tag, make_clip, tmp_path):
    make_clip(tmp_path / "自行车.mp4")
    done = tag(tmp_path / "自行车.mp4", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert next(csv.DictReader(done.stdout.decode().splitlines()))["video"].endswith("自行车.mp4")


@pytest.mark.slow
def test_a_terminal_gets_no_escape_sequence_and_a_file_the_name_as_it_is(toy_model, make_clip, tmp_path):
    video = make_clip(tmp_path / "a.mp4").rename(tmp_path / "\x1b]0;owned\x07\u202e\x9b31m.mp4")
    command = [*XCLIP, "tag", "--model", toy_model, "--labels", "a", "--format"]
    for name in ("csv", "excel", "jsonl"):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([*command, name, video], stdout=theirs, stderr=subprocess.DEVNULL)
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        os.close(ours)
        assert process.wait() == 0 and b"owned" in shown
        assert not set(shown.decode()) & set("\x1b\x07\u202e\x9b\ufeff"), shown
        piped = subprocess.run([*command, name, video], capture_output=True).stdout.decode()
        assert ("\x1b" in piped or "\\u001b" in piped) and "\x9b" in piped


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # its other end was closed
        return b""


@pytest.mark.slow
def test_a_sitecustomize_that_prints_is_nobodys_answer(tag, clips, tmp_path):
    for text in (
        "print('hello')",
        "print('{\"cuts\": 1}', end='', flush=True)",
        "import atexit; atexit.register(print, 'bye')",
    ):
        (tmp_path / "sitecustomize.py").write_text(text)
        output = tmp_path / "tags.csv"
        output.unlink(missing_ok=True)
        more = (
            "--window",
            "0.5",
            "--threshold",
            0,
            "--cut",
            tmp_path / "cuts",
            "--annotate",
            tmp_path / "annotated.mp4",
        )
        done = tag(clips / "a.mp4", *more, "-o", output, "--overwrite", PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "cuts").iterdir()) and (tmp_path / "annotated.mp4").stat().st_size
        assert {row["status"] for row in csv.DictReader(output.read_text().splitlines())} == {"ok"}


def test_a_video_on_standard_input_is_no_list(tag, clips):
    done = tag("-", shell=f"< '{clips}/a.mp4'")
    assert done.returncode == 2
    assert two_lines(done.stderr, "error: standard input is a video or other binary data"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["a file", "below a file", "/proc/nothing"])
def test_a_cache_that_cannot_be_used_is_none(tag, clips, tmp_path, cache):
    (tmp_path / "a file").touch()
    place = {"below a file": tmp_path / "a file" / "x"}.get(cache, tmp_path / cache)
    done = tag(clips / "a.mp4", XCLIP_CACHE=str(place))
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    assert run("cache", XCLIP_CACHE=str(place)).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_ctrl_c_with_an_exit_code_of_its_own(toy_model, make_long_clip, tmp_path, number):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in "abcdef":
        make_long_clip(folder / f"{name}.mp4", 12)
    output = tmp_path / "tags.csv"
    command = [*XCLIP, "tag", folder, "--model", toy_model, "--labels", "a,b", "--window", "0.5", "-o", output]
    mark = f"XCLIP_TEST={tmp_path}"
    env = os.environ | dict([mark.split("=")])
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    journal = tmp_path / "tags.csv.journal"
    while run.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    run.send_signal(number)
    said = run.communicate()[1]
    assert run.returncode == 128 + number, said
    assert "error: stopped after " in said and " of 6 videos" in said and "run the same command again" in said
    assert "Traceback" not in said and {"clips", "tags.csv.journal"} <= set(os.listdir(tmp_path))
    assert not list(tmp_path.glob(".xclip-*")) and not output.exists()
    until = time.monotonic() + 10
    while time.monotonic() < until and _of_environment(mark):
        time.sleep(0.05)
    assert not _of_environment(mark)  # the decoders have left too


def _of_environment(mark: str) -> list[str]:
    """The processes that have this in their environment, where the system says so."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found


def test_what_nobody_foresaw_is_one_line(tmp_path):
    program = (
        "import sys; from xclip_cli.cli import app, labels\n"
        "def fail(): raise {error}\n"
        "app.app.command('fail')(fail); sys.argv[1:] = ['fail']; app.main()"
    )
    for error, said in (
        ("KeyError('x')", "error: unexpected KeyError: 'x' (xclip-cli "),
        ("MemoryError", "error: there is not enough memory\n"),
        ("RecursionError('deep\\n down')", "error: unexpected RecursionError: deep down (xclip-cli "),
        ("PermissionError(13, 'Permission denied', '/x')", "error: '/x' cannot be used: Permission denied\n"),
        ("KeyboardInterrupt", "error: stopped\n"),
    ):
        code = program.format(error=error)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True)
        assert done.returncode == (130 if error == "KeyboardInterrupt" else 1) and two_lines(done.stderr, said), done
    env = os.environ | {"XCLIP_DEBUG": "1"}
    done = subprocess.run([sys.executable, "-c", program.format(error="KeyError('x')")], capture_output=True, env=env)
    assert b"Traceback" in done.stderr
