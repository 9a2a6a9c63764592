"""A folder whose config.json has other heads than the authors trained is run as it says, and every command says so."""

import json

import pytest

HEADS = "the MIT 8 and the prompts 8 heads"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A small X-CLIP as transformers saves it: 64 wide, with the conversion's 8 heads where the authors have 1."""
    from transformers import XCLIPConfig, XCLIPModel

    text = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    vision = {
        "hidden_size": 48,
        "intermediate_size": 192,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 16,
        "num_frames": 4,
        "mit_hidden_size": 64,
        "mit_intermediate_size": 256,
        "mit_num_attention_heads": 8,
    }
    folder = tmp_path_factory.mktemp("converted") / "my-large"
    XCLIPModel(XCLIPConfig(text_config=text, vision_config=vision, projection_dim=64)).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path, make_clip):
    for shade, name in enumerate(("a dog", "a cat")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            make_clip(tmp_path / "data" / name / f"{i}.mp4", num_frames=8 + i, shade=shade)
    return tmp_path / "data"


def test_tag_warns_once_unless_quiet(xclip, converted, clips):
    done = xclip("tag", clips, "--model", converted, "--labels", "a,b")
    assert done.returncode == 0 and done.stderr.count(HEADS) == 1 and "authors trained 1" in done.stderr
    quiet = xclip("tag", clips, "--model", converted, "--labels", "a,b", "--quiet")
    assert quiet.returncode == 0 and quiet.stderr == "" and quiet.stdout == done.stdout


def test_finetune_warns_once_and_its_model_keeps_the_authors_pixels(xclip, converted, data, tmp_path):
    from xclip_cli.checkpoint.load import open_checkpoint

    out = tmp_path / "run"
    done = xclip("finetune", data, "-o", out, "--model", converted, "--val", "0.5", "--regime", "linear")
    assert done.returncode == 0 and done.stderr.count(HEADS) == 1, done.stderr
    tuned, base = open_checkpoint(str(out)), open_checkpoint(str(converted))
    assert tuned.preprocessing == base.preprocessing and not tuned.preprocessing.antialias and tuned.warnings == ()


def test_accuracy_warns_once_and_its_report_does(xclip, converted, data, tmp_path):
    done = xclip("benchmark", "accuracy", data, "--model", converted, "-o", tmp_path / "out")
    assert done.returncode == 0 and done.stderr.count(HEADS) == 1, done.stderr
    assert HEADS in (tmp_path / "out" / "report.md").read_text()
    assert HEADS in str(json.loads((tmp_path / "out" / "accuracy.json").read_text())["about"])


def test_models_show_warns_and_tells_what_the_folder_says(xclip, converted):
    done = xclip("models", "show", converted)
    assert done.returncode == 0 and done.stderr.count(HEADS) == 1
    facts = dict(line.split("\t") for line in done.stdout.splitlines())
    assert facts["name"] == "my-large" and facts["frames"] == "4"
    assert facts["preprocessing"].startswith("short side 36, centre 32, bilinear without antialiasing")
