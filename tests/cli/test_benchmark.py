"""`xclip benchmark` as it is typed."""

from functools import partial

import pytest


@pytest.fixture
def benchmark(xclip):
    return partial(xclip, "benchmark")


@pytest.fixture
def data(tmp_path, make_clip):
    for shade, name in enumerate(("a dog", "a cat")):
        (tmp_path / "data" / name).mkdir(parents=True)
        make_clip(tmp_path / "data" / name / "a clip.mp4", shade=shade)
    return tmp_path / "data"


def test_speed_prints_both_tables_and_says_what_ran(benchmark, data, toy_model, tmp_path):
    options = "--against", "none", "--rounds", 2, "--video", data / "a dog" / "a clip.mp4"
    done = benchmark("speed", "--models", toy_model, *options, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("\n\n")
    assert first.startswith("network\tweights\tframes") and second.startswith("one clip, ms\tdecode\t")
    assert first.splitlines()[1].startswith(f"{toy_model}\ton disk\t4\t")
    assert "threads: " in done.stderr and "matrix_gigamacs_per_second: " in done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["speed.csv", "speed.json", "speed.png"]


def test_decode_has_a_row_for_every_file_and_reader(benchmark, data):
    (data / "a dog" / "bad.mp4").write_bytes(b"no video")
    (data / "a dog" / "notes.txt").write_bytes(b"no video")
    done = benchmark("decode", data, "--recursive")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "1 file skipped: 1 x .txt" in done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
    assert {row[0].rpartition("/")[2] for row in rows} == {"a clip.mp4", "bad.mp4"}
    assert all((row[-1] == "-") == ("a clip" in row[0]) for row in rows)


def test_accuracy_prints_the_model_and_its_backbone(benchmark, data, toy_model, tmp_path):
    done = benchmark("accuracy", data, "--model", toy_model, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    heads, own, backbone = (line.split("\t") for line in done.stdout.splitlines())
    assert heads[:3] == ["model", "temporal", "prompting"]
    assert own[1:6] == ["cct+mit", "video", "as it is", "2", "0"]
    assert backbone[1:4] == ["mean", "none", "the same backbone, frames averaged"]
    assert "clips: 2" in done.stderr and "labels: 2 of classes, sha256" in done.stderr
    (data / "a cat" / "bad.mp4").write_bytes(b"no video")
    done = benchmark("accuracy", data, "--model", toy_model, "-o", tmp_path / "out")
    assert done.returncode == 1 and "bad.mp4" in done.stderr
    assert done.stdout.splitlines()[1].split("\t")[4:6] == ["2", "1"]


def test_a_name_cannot_command_the_terminal(benchmark, data, toy_model, tmp_path):
    (data / "a dog" / "[red]\x1b]0;owned\x07.mp4").write_bytes(b"no video")
    for arguments in (("decode", data / "a dog"), ("accuracy", data, "--model", toy_model, "-o", tmp_path / "\x1b[2J")):
        done = benchmark(*arguments)
        assert done.returncode == 1 and r"[red]\x1b]0;owned\x07.mp4" in done.stdout + done.stderr
        assert not {"\x1b", "\x07"} & {*done.stdout, *done.stderr}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["accuracy", "nowhere"], "there is no folder or file 'nowhere'"),
        (["accuracy", ".", "--temporal", "lstm"], "--temporal is 'lstm'"),
        (["accuracy", ".", "--protocol", "ucf"], "--protocol is 'ucf'"),
        (["speed", "--against", "resnet"], "'resnet'"),
        (["speed", "--models", ","], "--models is"),
        (["decode", "*.nothing"], "no file matches"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(benchmark, arguments, said):
    done = benchmark(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0].startswith("error:")
