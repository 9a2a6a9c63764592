"""Bars and spinners on a terminal of 80 columns; a pipe and quick work see none."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DRUMS = Path(__file__).resolve().parents[3] / "shared/clips/playing-drums__video-llava.mp4"
pty = pytest.importorskip("pty")

SLOW = """
import sys, time
from xclip_cli.cli import console, progress
from xclip_cli.errors import XclipError
"""


def on_terminal(body, **env):
    """What a program writes to a terminal of 80 columns on stderr, and to its stdout."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")} | {"TERM": "xterm"} | env
    with subprocess.Popen(
        [sys.executable, "-c", SLOW + body], stdin=slave, stdout=subprocess.PIPE, stderr=slave, env=env
    ) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                some = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not some:
                break
            written += some
        stdout = process.stdout.read()
    os.close(master)
    return written.decode(), stdout.decode()


def lines(written):
    """As read on a terminal: without escape sequences."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


LONG = """
bar = progress.Bar("indexing", {count}, False, "videos/s")
with bar.visible():
    for minute in range(12):
        bar.within({done}, 60.0 * minute, 36000.0, 123)
        time.sleep(0.1)
print("data")
"""


def test_a_long_video_has_a_bar_in_seconds():
    written, stdout = on_terminal(LONG.format(count=1, done=0))
    assert stdout == "data\n"
    seen = lines(written)
    assert any(re.match(r"indexing .*0:0\d:00\.0 of 10:00:00\.0 123 failed", line) for line in seen)
    assert max(map(len, seen)) <= 80


def test_a_long_video_among_many_moves_the_bar_of_all():
    written, _ = on_terminal(LONG.format(count=10000, done=9998))
    seen = lines(written)
    assert any("9998 of 10000" in line and "123 failed" in line for line in seen)
    assert max(map(len, seen)) <= 80


@pytest.mark.parametrize("what", ['progress.spinner("loading the model")', 'progress.bar("tagging", 3)'])
def test_it_is_seen_after_half_a_second_and_gone_afterwards(what):
    written, _ = on_terminal(f"with {what}:\n    time.sleep(1.2)\n")
    assert "loading the model" in written or "tagging" in written
    assert written.endswith("\x1b[1A\x1b[2K")  # the line is taken back


@pytest.mark.parametrize("what", ['progress.spinner("loading the model")', 'progress.bar("tagging", 3)'])
def test_quick_work_shows_nothing(what):
    assert on_terminal(f"with {what}:\n    time.sleep(0.05)\n") == ("", "")


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_terminals_that_want_less(env):
    written, _ = on_terminal('with progress.spinner("loading"):\n    time.sleep(0.9)\n', **env)
    assert written == "" if "TERM" in env else not re.search(r"\x1b\[[\d;]*3\dm", written)


def test_a_pipe_sees_nothing():
    body = SLOW + LONG.format(count=1, done=0)
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("data\n", "")


def test_an_error_takes_the_bar_away():
    written, _ = on_terminal(
        "try:\n"
        '    with progress.bar("tagging", 3):\n'
        "        time.sleep(0.8)\n"
        '        raise XclipError("full", "free space")\n'
        "except XclipError as error:\n"
        "    console.print_error(error)\n"
    )
    assert lines(written)[-2:] == ["error: full", "free space"]


@pytest.mark.slow
@pytest.mark.skipif(not DRUMS.exists(), reason="needs the clips of ../shared")
def test_the_program_shows_it_for_a_single_video():
    body = f"""
sys.argv = ["xclip", "tag", {str(DRUMS)!r}, "--labels", "a dog,a cat", "--window", "1", "--stride", "0.5", "-o", "-"]
from xclip_cli.cli.app import main
main()
"""
    written, stdout = on_terminal(body)
    assert stdout.startswith("video,start_seconds")
    assert re.search(r"tagging .*0:00:\d\d\.\d of 0:00:36\.3", " ".join(lines(written)))
