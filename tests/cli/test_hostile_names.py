"""Names of files and labels that would command a terminal, a page, a spreadsheet or a path: through every output."""

import csv
import io
import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from xclip_cli.files import one_line

NAMES = [
    "\x1b]0;owned\x07\x1b[2J.mp4",
    "two\nlines\r.mp4",
    "=HYPERLINK(1).mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "a|b [red]`c`.mp4",
    "\u202e4pm.mp4",
    "--help.mp4",
    b"caf\xe9.mp4",
]
LABELS = ["--labels", '<b>a</b> & c,=1+1,../../up,/etc/passwd,{\\an8} --> [red],"a|b, c",\u202edog']
DIRECTIONS = "\u202a\u202b\u202d\u202e\u2066\u2067"


@pytest.fixture
def videos(tmp_path, make_clip):
    folder = tmp_path / "in" / "videos"
    folder.mkdir(parents=True)
    clip = make_clip(tmp_path / "in" / "clip.mp4")
    for name in NAMES:
        shutil.copy(clip, os.path.join(os.fsencode(folder), os.fsencode(name)))
    (folder / "broken\x1b[31m\n.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def tag(xclip, toy_model):
    return lambda *arguments: xclip("tag", "-m", toy_model, "--workers", 1, *LABELS, *arguments)


def harmless(text):
    """Whether no line of it commands a terminal."""
    return all(one_line(line) == line for line in text.splitlines())


def files_below(folder):
    return {os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names}


def test_csv_report_and_sidecars(tag, videos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    before = files_below(tmp_path)
    options = ("--report", out / "report.html", "--write-sidecars", "-v", "--top-k", "1", "--threshold", "0")
    done = tag(videos, "-o", out / "tags.csv", *options)
    assert done.returncode == 1 and "Traceback" not in done.stderr and harmless(done.stderr)
    rows = list(csv.DictReader(io.StringIO((out / "tags.csv").read_bytes().decode(), newline="")))
    assert len(rows) == len(NAMES) + 1 and [row["status"] for row in rows].count("error") == 1
    assert not any(row[cell].startswith(("=", "+", "@")) for row in rows for cell in ("video", "label", "error"))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "<b>a</b>" not in page and "\x1b" not in page
    assert not any(c in page for c in DIRECTIONS)
    sidecars = {Path(os.fsdecode(path)) for path in files_below(videos) if os.fspath(path).endswith(".xmp")}
    assert len(sidecars) == len(NAMES)
    for sidecar in sidecars:
        text = sidecar.read_text(encoding="utf-8")
        assert len(ElementTree.fromstring(text).findall(".//{*}li")) == 6 and not any(c in text for c in DIRECTIONS)
    beside = {str(out / name) for name in ("report.html", "tags.csv", "tags.csv.journal")}
    assert files_below(tmp_path) - before == {str(path) for path in sidecars} | beside


@pytest.mark.parametrize("format_name", ["srt", "vtt"])
def test_subtitles_stay_in_their_folder(tag, videos, tmp_path, format_name):
    before = files_below(tmp_path)
    done = tag(videos, "--format", format_name, "-o", tmp_path / "subtitles")
    assert done.returncode == 1 and harmless(done.stderr)
    made = files_below(tmp_path) - before
    assert len(made) == len(NAMES) + 1 and all(path.startswith(str(tmp_path / "subtitles")) for path in made)
    for path in made - {str(tmp_path / "subtitles" / "tags.journal")}:
        text = Path(path).read_text(encoding="utf-8")
        assert "<b>" not in text and not any(c in text for c in DIRECTIONS) and text.count("-->") == 1


def test_a_table_and_cuts(tag, videos, tmp_path):
    few = [videos / name for name in NAMES[:5:4]]  # each cut is a process
    before = files_below(tmp_path)
    done = tag(*few, "--window", "0.5", "--threshold", "0.05", "--cut", tmp_path / "cuts", "--format", "table")
    assert done.returncode == 0 and harmless(done.stdout) and harmless(done.stderr)
    assert "[red]" in done.stdout and "<b>a</b>" in done.stdout
    made = {Path(path) for path in files_below(tmp_path) - before}
    assert made and {path.parent for path in made} == {tmp_path / "cuts"}
    assert all(path.name.isprintable() and not set("/\\<>|=\n") & set(path.name) for path in made)
