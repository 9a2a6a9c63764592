import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from xclip_cli import labels
from xclip_cli.cli import console
from xclip_cli.cli.labels import app
from xclip_cli.errors import LabelError


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_list_gives_every_set():
    head, *rows = run("list")
    assert head == ["name", "labels", "languages", "about"]
    assert [row[0] for row in rows] == labels.builtin_names()
    assert ["kinetics400", "400", "en"] in [row[:3] for row in rows]
    assert next(row[2] for row in rows if row[0] == "sports") == "en,zh"


def test_list_is_a_table_on_a_terminal(monkeypatch):
    monkeypatch.setattr(console, "stdout_is_terminal", lambda: True)
    with console.out().capture() as captured:
        run("list")
    assert "kinetics700" in captured.get() and "\t" not in captured.get()


def test_show_gives_prompts_and_background():
    head, *rows = run("show", "sports")
    assert head == ["kind", "label", "parent", "prompts"]
    shown = {row[1]: row for row in rows}
    assert shown["dunking"][2] == "basketball" and " | " in shown["dunking"][3]
    assert shown["basketball"][2] == "-" and shown["an empty sports field"][0] == "background"


def test_show_speaks_chinese():
    rows = run("show", "sports", "--lang", "zh")
    assert ["label", "灌篮", "篮球"] in [row[:3] for row in rows]


def test_show_reads_a_file_and_keeps_a_label_on_one_line(tmp_path, monkeypatch):
    file = tmp_path / "my.yaml"
    file.write_text('template: "[b]see[/b] {}"\nlabels: ["a\\nb\\tc"]')
    assert run("show", file)[1] == ["label", "a b c", "-", "[b]see[/b] a b c"]
    monkeypatch.setattr(console, "stdout_is_terminal", lambda: True)
    with console.out().capture() as captured:
        run("show", file)
    assert "[b]see[/b] a b c" in captured.get()


@pytest.mark.parametrize("word", ["two", "词", "&amp;", "😀"])
def test_check_counts_tokens(tmp_path, word):
    file = tmp_path / "my.txt"
    file.write_text(f"# words\nshort\n{' '.join([word] * 75)}\n", encoding="utf-8")
    if word != "&amp;":  # three tokens
        assert run("check", file)[1] == ["my", "2", "0", "2", "-"]
    file.write_text(f"# words\nshort\n{' '.join([word] * 76)}\n", encoding="utf-8")
    with pytest.raises(LabelError, match=re.escape(f"{file}:3: prompt ") + r".* tokens long; this model reads 77"):
        run("check", file)


def check(file):
    program = "import sys; from xclip_cli.cli.app import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", program, "labels", "check", str(file)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_check_of_short_prompts_loads_no_torch(tmp_path):
    file = tmp_path / "my.txt"
    file.write_text("dogs pulling sled\nApplyEyeMakeup\n" + "x" * 75)
    done = check(file)
    assert done.returncode == 0 and done.stdout.splitlines()[1:] == ["my\t3\t0\t3\t-", "False"]
    assert "warning" in done.stderr and f"{file}:2" in done.stderr


def test_check_of_a_broken_file_ends_with_2_and_one_line(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("labels:\n  - running\n  - no\n")
    done = check(file)
    assert done.returncode == 2 and done.stdout == "False\n"
    first, hint = done.stderr.splitlines()
    assert first.startswith(f"error: {file}:3: label no means true or false") and hint == 'Quote it: "no"'


def test_check_says_that_numbers_were_taken_for_ids(tmp_path):
    (tmp_path / "my.txt").write_text("1 on 1\n2 on 2\n")
    assert "count from 1 to 2: the numbers are ids" in check(tmp_path / "my.txt").stderr


def test_tagging_without_labels_says_which_are_taken(xclip, toy_model, clips, tmp_path):
    done = xclip("tag", clips, "--model", toy_model)
    count = len(labels.builtin("everyday").labels)
    [line] = [line for line in done.stderr.splitlines() if "no labels" in line]
    assert line.startswith(f"no labels given: taking the {count} of the built-in set everyday; --labels, ")
    assert "--labelset: activitynet200, " in line and ", sports, " in line and "everyday," not in line
    assert "no labels" not in xclip("tag", clips, "--model", toy_model, "--quiet").stderr
    assert "no labels" not in xclip("tag", clips, "--model", toy_model, "--labels", "a,b").stderr
    (tmp_path / "ids.txt").write_text("1 on 1\n2 on 2\n")
    assert (
        "the numbers are ids" in xclip("tag", clips, "--model", toy_model, "--labels-file", tmp_path / "ids.txt").stderr
    )
