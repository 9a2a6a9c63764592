"""`xclip cache` as it is typed."""

import os

import pytest


@pytest.fixture
def rows_of(xclip, tmp_path):
    def run(*arguments):
        done = xclip(*arguments, env={"XCLIP_CACHE": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    return run


def test_the_cache_is_shown_and_cleared_and_nothing_else(rows_of, make_clip, toy_model, tmp_path):
    head, *rows = rows_of("cache")
    assert head == ["kept", "files", "MB", "folder"] and [row[1:3] for row in rows] == [["0", "0.0"]] * 3
    for name in ("a dog", "a cat"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            make_clip(tmp_path / "data" / name / f"{i}.mp4", shade=i, size=(320, 240))
    rows_of("finetune", tmp_path / "data", "--check", "--model", toy_model)
    rows_of("tag", tmp_path / "data/a cat/0.mp4", "--model", toy_model, "--labels", "a dog,a cat")
    mine = [tmp_path / "clips" / "my holidays.safetensors", tmp_path / "notes.txt"]
    draft = tmp_path / "clips" / f".{'a' * 40}.safetensors.123-abcdef.part"
    for file in (*mine, draft):
        file.write_text("what someone put there")
    kept = {os.path.basename(row[3]): row for row in rows_of("cache")[1:]}
    assert kept["clips"][1] == "7" and float(kept["clips"][2]) > 0 and kept["clips"][3] == str(tmp_path / "clips")
    assert kept["text"][1] == "1" and int(kept["sha256"][1]) > 5
    head, *rows = rows_of("cache", "--clear")
    assert head[0] == "deleted" and [row[1:] for row in rows] == [
        kept[name][1:] for name in ("clips", "text", "sha256")
    ]
    assert all(file.exists() for file in mine) and not draft.exists()
    assert [row[1] for row in rows_of("cache")[1:]] == ["0", "0", "0"]
