"""The Tab key offers models, label sets and formats, and loads nothing heavy."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from xclip_cli.cli.app import main
sys.argv[0] = "xclip"
try:
    main()
finally:
    assert not {"torch", "cv2", "open_clip"} & set(sys.modules)
"""


def run(*arguments, **environment):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=60)


def offered(line):
    """What bash is offered at the end of a line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_XCLIP_COMPLETE": "complete_bash"}
    done = run(**words)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("xclip tag --model mi", ["mini"]),
        ("xclip finetune --model xclip-base-patch16-ucf-2", ["xclip-base-patch16-ucf-2-shot"]),
        ("xclip benchmark accuracy --model mi", ["mini"]),
        ("xclip models show mi", ["mini"]),
        ("xclip tag --labelset s", ["security", "sports", "ssv2"]),
        ("xclip labels show hm", ["hmdb51"]),
        ("xclip tag --format j", ["json", "jsonl"]),
        ("xclip tag --format ", ["table", "csv", "excel", "json", "jsonl", "parquet", "srt", "vtt"]),
        ("xclip tag --dtype b", ["bfloat16"]),
        ("xclip tag --reader p", ["pyav"]),
        ("xclip tag --device c", ["cpu", "cuda"]),
        ("xclip fine", ["finetune"]),
        ("xclip tag --labels-f", ["--labels-file"]),
    ],
)
def test_what_may_follow_is_offered(line, words):
    assert offered(line) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_a_shell(shell, tmp_path):
    pinned = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    done = run("--install-completion", shell, **pinned)
    assert done.returncode == 0, done.stderr
    scripts = [path for path in tmp_path.rglob("*") if path.is_file() and "_XCLIP_COMPLETE" in path.read_text()]
    assert scripts and str(scripts[0]) in done.stdout.replace("\n", "")
