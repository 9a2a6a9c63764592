from pathlib import Path

import pytest
from typer.testing import CliRunner

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.registry import MODELS
from xclip_cli.cli.app import app
from xclip_cli.errors import ModelError

run = CliRunner().invoke


@pytest.fixture(autouse=True)
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def test_list_is_tab_separated_in_a_pipe():
    result = run(app, ["models", "list"])
    head, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert head[0] == "name" and [row[0] for row in rows] == list(MODELS)
    assert {len(row) for row in rows} == {len(head)}
    row = next(dict(zip(head, row, strict=True)) for row in rows if row[0] == "xclip-base-patch32")
    assert row["on disk"] == "no" and row["MB"] == "786" and row["frames"] == "8" and row["licence"] == "MIT"
    assert "80.4" in row["top-1 accuracy"]


def test_list_is_a_table_on_a_terminal(monkeypatch):
    from xclip_cli.cli import console

    monkeypatch.setattr(console, "stdout_is_terminal", lambda: True)
    with console.out().capture() as captured:
        run(app, ["models", "list"], catch_exceptions=False)
    assert "xclip-large-patch14" in captured.get() and "\t" not in captured.get()


def test_show_tells_all_that_is_known():
    result = run(app, ["models", "show", "xclip-large-patch14-16-frames"])
    facts = dict(line.split("\t") for line in result.stdout.splitlines())
    assert facts["frames"] == "16" and "short side 384, centre 336" in facts["preprocessing"]
    assert "xclip models pull xclip-large-patch14-16-frames" in facts["file"]
    assert (
        facts["licence"] == "MIT" and "87.7" in facts["accuracy"] and "'patch_size': 14" in facts["architecture.vision"]
    )


@pytest.mark.parametrize("command", ["show", "pull", "verify"])
def test_an_unknown_name_is_one_error(command):
    result = run(app, ["models", command, "xclip-base"])
    assert isinstance(result.exception, ModelError) and "xclip-base-patch32" in result.exception.hint


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("xclip-base-patch32", "microsoft/xclip-base-patch32"),
        ("microsoft/xclip-base-patch32", "microsoft/xclip-base-patch32"),
        ("someone/xclip", "someone/xclip"),
        ("open_clip:PE-Core-B-16", "timm/PE-Core-B-16"),
    ],
)
def test_pull_asks_the_right_repository_and_prints_the_file(name, repository, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "_download", lambda place, file: asked.append(place) or Path("/x", file))
    result = run(app, ["models", "pull", name], catch_exceptions=False)
    assert set(asked) == {repository} and result.stdout.strip().endswith("model.safetensors")


def test_verify_reports_each_file_and_fails_on_damage(tmp_path, monkeypatch):
    verdicts = [(tmp_path / "config.json", "ok"), (tmp_path / "model.safetensors", "damaged")]
    monkeypatch.setattr(hub, "verify", lambda spec: verdicts if spec.name == "xclip-base-patch32" else [])
    result = run(app, ["models", "verify"])
    assert "xclip-base-patch32\tmodel.safetensors\tdamaged" in result.stdout
    assert isinstance(result.exception, ModelError) and result.exception.exit_code == 1
    verdicts.pop()
    assert run(app, ["models", "verify", "xclip-base-patch32"]).exit_code == 0
    absent = run(app, ["models", "verify", "xclip-base-patch16"])
    assert "xclip models pull xclip-base-patch16" in absent.exception.hint
