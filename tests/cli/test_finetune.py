"""`xclip finetune` as it is typed."""

import os
import shutil
import signal

import pytest


@pytest.fixture
def data(tmp_path, make_clip):
    for shade, name in enumerate(("a dog", "a cat")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            make_clip(tmp_path / "data" / name / f"{i} clip.mp4", num_frames=8 + i, shade=shade)
    return tmp_path / "data"


def test_check_reads_every_clip_and_learns_nothing(xclip, data, toy_model):
    shutil.copy(data / "a dog" / "0 clip.mp4", data / "a dog" / "twin.mp4")
    (data / "a cat" / "bad.mp4").write_bytes(b"no video")
    done = xclip("finetune", data, "--check", "--model", toy_model, "--val", "0.3")
    assert done.returncode == 0, done.stderr
    head, cat, dog = (line.split("\t") for line in done.stdout.splitlines())
    assert head[0] == "class" and cat[0] == "a cat" and dog[0] == "a dog"
    assert [int(row[1]) + int(row[2]) for row in (cat, dog)] == [4, 4]
    assert head[-1] == "for example" and all(os.path.dirname(row[-1]) == str(data / row[0]) for row in (cat, dog))
    assert "bad.mp4" in done.stderr and "twin.mp4" in done.stderr and "Traceback" not in done.stderr


def test_a_run_prints_a_line_an_epoch_and_the_gain_and_its_model_tags_by_its_own_labels(
    xclip, data, toy_model, tmp_path
):
    done = xclip("finetune", data, "-o", tmp_path / "run", "--model", toy_model, "--epochs", 2, "--val", "0.3")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/2", "2/2"]
    assert all(word in lines[-2] for word in ("loss", "val", "rate", "ETA"))
    assert done.stdout.startswith("accuracy, %\tbefore\tafter\ntuned labels, top-1\t")
    tagged = xclip("tag", next((data / "a cat").iterdir()), "--model", tmp_path / "run")
    assert {line.split(",")[4] for line in tagged.stdout.splitlines()[1:]} == {"a dog", "a cat"}


def test_the_ablation_is_one_command(xclip, data, toy_model, tmp_path):
    done = xclip(
        "finetune", data, "-o", tmp_path / "ab", "--model", toy_model, "--epochs", 1, "--val", "0.3", "--ablate"
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6 and "frames averaged" in done.stdout
    assert "| + multi-frame integration |" in (tmp_path / "ab/ablation.md").read_text()


def test_a_model_is_opened_once_a_run(data, toy_model, tmp_path, monkeypatch):
    import safetensors

    from xclip_cli.cli import finetune_view
    from xclip_cli.finetune.settings import FinetuneSettings

    opened, honest = [], safetensors.safe_open

    def counting(path, *arguments, **options):
        opened.append(str(path))
        return honest(path, *arguments, **options)

    monkeypatch.setattr(safetensors, "safe_open", counting)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # Ctrl-C is pytest's
    settings = FinetuneSettings(model=toy_model, epochs=1, val="0.3", regime="few-shot", keep="0.5", workers=1)
    finetune_view.show_check(str(data), settings)
    assert opened.count(toy_model) == 1  # what it is
    finetune_view.show_run(str(data), tmp_path / "run", settings, False, "xclip finetune")
    assert opened.count(toy_model) == 3  # what it is, and its weights


def test_clips_to_validate_on_that_share_a_source_are_named(data, toy_model, tmp_path, monkeypatch, capsys):
    from xclip_cli.cli import finetune_view
    from xclip_cli.finetune.settings import FinetuneSettings

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # Ctrl-C is pytest's
    settings = FinetuneSettings(model=toy_model, val=str(data), workers=1)
    finetune_view.show_check(str(data), settings)
    leaks = [line for line in capsys.readouterr().err.splitlines() if "leak: " in line]
    assert len(leaks) == 6 and all(line.endswith("is validated on: the same file") for line in leaks)
    finetune_view.show_run(str(data), tmp_path / "run", settings, False, "xclip finetune")
    [leak] = [line for line in capsys.readouterr().err.splitlines() if "leak: " in line]
    assert leak.endswith("the same file (and 5 more; --check lists them all)")


def test_by_default_clips_are_validated_in_turn_and_what_came_of_it_is_said(xclip, data, toy_model, tmp_path):
    done = xclip("finetune", data, "-o", tmp_path / "run", "--model", toy_model)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stderr.splitlines()
    assert "6 clips of 2 classes to learn from, validated in turn in" in first
    assert last.startswith("The original weights are kept") and "leak" not in done.stderr
    tagged = xclip("tag", next((data / "a cat").iterdir()), "--model", tmp_path / "run")
    assert {line.split(",")[4] for line in tagged.stdout.splitlines()[1:]} == {"a dog", "a cat"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no output folder"),
        (["--shots", "few", "-o", "x"], "--shots is 'few'"),
        (["--regime", "best", "-o", "x"], "--regime is 'best'"),
        (["--keep", "2", "-o", "x"], "--keep is '2'"),
        (["--regime", "linear", "--epochs", "2", "-o", "x"], "--epochs is for regimes that train the network"),
        (["--val", "1.5", "-o", "x"], "--val is '1.5'"),
        (["--val", "nowhere", "-o", "x"], "there is no folder or file 'nowhere'"),
        (["--group-regex", "(", "-o", "x"], "--group-regex is '('"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(xclip, data, toy_model, arguments, said):
    done = xclip("finetune", data, "--model", toy_model, *arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0].startswith("error:")


def test_an_output_that_is_there_is_not_touched(xclip, data, toy_model, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("mine")
    done = xclip("finetune", data, "-o", tmp_path / "run", "--model", toy_model, "--epochs", 1)
    assert done.returncode == 2 and "not empty" in done.stderr
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_check_reads_official_lists_and_folders_of_splits(xclip, shared, toy_model):
    lists, ds = shared / "cases/lists", shared / "cases/folders/ds"
    done = xclip(
        "finetune", lists / "trainlist01.txt", "--class-list", lists / "classInd.txt", "--check", "--model", toy_model
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
    assert [(row[0], os.path.basename(row[-1])[0]) for row in rows] == [("horse", "h"), ("tennis", "t")]
    done = xclip("finetune", ds, "--check", "--model", toy_model)
    assert [line.split("\t")[:3] for line in done.stdout.splitlines()[1:]] == [
        ["horse", "3", "1"],
        ["tennis", "3", "1"],
    ]


def test_check_of_rows_marked_test_says_that_they_are_left(xclip, data, toy_model):
    rows = [f"{path.relative_to(data)},{path.parent.name}" for path in sorted(data.glob("*/*.mp4"))]
    splits = ["train", "val", "test"] * 2
    (data / "all.csv").write_text(
        "Video,Label,Split\n" + "".join(f"{r},{s}\n" for r, s in zip(rows, splits, strict=True))
    )
    done = xclip("finetune", data / "all.csv", "--check", "--model", toy_model)
    assert done.returncode == 0 and "2 clips are marked test" in done.stderr
    assert [line.split("\t")[1:3] for line in done.stdout.splitlines()[1:]] == [["1", "1"], ["1", "1"]]
