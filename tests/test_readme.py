"""Every command of the README and of the pages in docs/ runs."""

import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language, page=README):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands():
    """The commands of all pages, each once, in the order of the pages."""
    lines = [line for page in PAGES for block in blocks("sh", page) for line in block.splitlines() if line]
    return dict.fromkeys(line.split("install '.[demo]' && ", 1)[-1] for line in lines if "&& pytest" not in line)


COMMANDS = list(commands())
PROGRAMS = [program for page in PAGES for program in blocks("python", page)]
QUICK = "xclip labels", "xclip models", "xclip cache", "xclip finetune my-clips --check", "xclip index --status"
FIRST = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("xclip tag")]


@pytest.fixture
def desk(tmp_path, bikes):
    """What the commands name: clip.mp4, my-videos, my-clips and labels.yaml; `xclip` on the PATH."""
    (tmp_path / "my-videos").mkdir()
    shutil.copy(bikes, tmp_path / "clip.mp4")
    shutil.copy(bikes, tmp_path / "my-videos" / "a clip.mp4")
    for label, clip in (("biking", bikes), ("parking", Path(bikes).with_name("bigbuckbunny.mp4"))):
        (tmp_path / "my-clips" / label).mkdir(parents=True)
        for i in range(5):
            shutil.copy(clip, tmp_path / "my-clips" / label / f"{i}.mp4")
    (tmp_path / "labels.yaml").write_text(blocks("yaml", ROOT / "docs" / "labels.md")[0], encoding="utf-8")
    program = tmp_path / "bin" / "xclip"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m xclip_cli "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(desk, command, **environment):
    path = f"{desk / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        ["bash", "-c", command], cwd=desk, capture_output=True, text=True, env=environment, timeout=180
    )


def patient(command):
    """The command as a test's parameter, slow if it takes long: what it does has tests elsewhere."""
    quick = command.startswith(QUICK) or command == COMMANDS[0] or command in FIRST[:2]
    return pytest.param(command, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("command", [patient(command) for command in COMMANDS if "needs network" not in command])
def test_the_command_runs(xclip, desk, command):
    """By a shell where it asks for more of one than to split words."""
    program, *arguments = shlex.split(command, comments=True)
    if {"search", "--from-index", "--status", "--prune"} & set(arguments):
        assert xclip("index", "my-videos", cwd=desk).returncode == 0
    done = run(desk, command) if set(command) & set("$|&") else xclip(*arguments, cwd=desk)
    assert program in ("xclip", "find")
    assert done.returncode == 0, done.stderr
    assert done.stdout or {"-o", "--prune", "--remove-tags"} & set(arguments) or arguments[0] == "index"


@pytest.mark.parametrize("command", [command for command in COMMANDS if "needs network" in command])
def test_a_command_that_needs_the_network_says_so(desk, command):
    done = run(desk, command, HF_HUB_OFFLINE="1", HF_HOME=str(desk / "hub"))
    assert done.returncode == 1
    assert done.stderr.startswith("error:") and "Traceback" not in done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_python_example_runs(desk, program):
    done = run(desk, f"{sys.executable} - <<'END'\n{program}\nEND")
    assert done.returncode == 0 and "clip.mp4 ok" in done.stdout, done.stderr
    assert "Tag(label=" in done.stdout or "Moment(" in done.stdout


def test_the_shown_output_is_what_the_first_command_prints(desk):
    shown = [line for line in blocks("text")[0].splitlines() if "░" in line]
    printed = list(csv.DictReader(io.StringIO(run(desk, COMMANDS[0]).stdout)))
    assert [row["label"] for row in printed] == [re.split("  +", line.strip())[0] for line in shown]
    assert [float(row["score"]) for row in printed] == pytest.approx([float(s.split()[-1]) for s in shown], abs=0.005)


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 180


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_to_a_file(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
