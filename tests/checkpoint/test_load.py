"""Every kind of name and path opens the network it names, strictly and without the network."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from xclip_cli.checkpoint.load import load_model, open_checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.checkpoint.registry import MODELS, Preprocessing
from xclip_cli.errors import ModelError, OutputError
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig
from xclip_cli.model.text import tokenize
from xclip_cli.model.xclip import Xclip

PREPROCESSING = Preprocessing(36, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
AUTHORS = {"antialias": False, "rounding": "round", "cropping": "mmcv"}


@pytest.fixture
def ours(published, tmp_path):
    path = tmp_path / "tuned.safetensors"
    save(published, path, preprocessing=PREPROCESSING, name="tuned", labels=["a, b", "跑"], made_by="a test")
    return path


@pytest.fixture(scope="module")
def reference():
    """transformers' model, small and random."""
    from transformers import XCLIPConfig as Config
    from transformers import XCLIPModel

    torch.manual_seed(3)
    text = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {
        "hidden_size": 48,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 16,
        "num_frames": 4,
        "mit_hidden_size": 32,
        "mit_intermediate_size": 128,
        "mit_num_attention_heads": 2,
    }
    config = Config(text_config=text, vision_config=vision, projection_dim=32, prompt_num_attention_heads=4)
    return XCLIPModel(config).eval()


@pytest.fixture
def folder(reference, tmp_path):
    path = tmp_path / "my-xclip"
    reference.save_pretrained(path)
    return path


def expected_logits(reference, views, texts=("a dog runs", "dunking a ball")):
    with torch.inference_mode():
        return reference(input_ids=tokenize(list(texts)), pixel_values=views).logits_per_video


def test_our_own_file_reloads_by_its_path_alone(ours, published, views, score, offline):
    checkpoint = open_checkpoint(str(ours))
    assert (checkpoint.name, checkpoint.num_frames, checkpoint.default_labels) == ("tuned", 4, ["a, b", "跑"])
    assert checkpoint.preprocessing == PREPROCESSING
    with torch.inference_mode():
        expected = published(views, tokenize(["a dog runs", "dunking a ball"]))
    assert torch.allclose(score(checkpoint, views), expected, atol=1e-5)


def test_a_run_folder_opens_as_its_file(ours, views, score):
    run = ours.parent / "run"
    run.mkdir()
    shutil.move(ours, run / "model.safetensors")
    checkpoint = open_checkpoint(str(run))
    assert checkpoint.name == "tuned" and checkpoint.default_labels == ["a, b", "跑"]


@pytest.mark.parametrize("layout", ["safetensors", "bin"])
def test_a_folder_of_transformers_gives_its_logits(folder, reference, views, score, layout, offline):
    if layout == "bin":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    checkpoint = open_checkpoint(str(folder))
    assert (checkpoint.name, checkpoint.num_frames) == ("my-xclip", 4)
    expected = expected_logits(reference, views)
    assert (score(checkpoint, views) - expected).abs().max() < 1e-4
    with torch.inference_mode():
        whole = load_model(str(folder))(views, tokenize(["a dog runs", "dunking a ball"]))
    assert (whole - expected).abs().max() < 1e-4


def test_a_weight_file_in_a_folder_opens_as_the_folder(folder, views, score, reference):
    checkpoint = open_checkpoint(str(folder / "model.safetensors"))
    assert (score(checkpoint, views) - expected_logits(reference, views)).abs().max() < 1e-4


def test_a_folders_preprocessor_is_followed_with_the_authors_pixels(folder):
    assert open_checkpoint(str(folder)).preprocessing == Preprocessing(256 * 32 // 224, 32, **AUTHORS)
    wish = {
        "size": {"shortest_edge": 40},
        "crop_size": {"height": 32, "width": 32},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.2, 0.2, 0.2],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(wish))
    expected = Preprocessing(40, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "bicubic", **AUTHORS)
    assert open_checkpoint(str(folder)).preprocessing == expected


def test_names_of_the_hub_open_from_its_cache_alone(folder, hub_cache, offline):
    for repository, name in (("microsoft/xclip-base-patch32", "xclip-base-patch32"), ("someone/else", "someone/else")):
        shutil.copytree(folder, hub_cache(repository), dirs_exist_ok=True)
        checkpoint = open_checkpoint(name)
        assert checkpoint.name == name
        assert checkpoint.video_model().config.vision.width == 48
    assert open_checkpoint("microsoft/xclip-base-patch32").name == "xclip-base-patch32"
    assert open_checkpoint("xclip-base-patch32").preprocessing == Preprocessing(256, 224, **AUTHORS)


@pytest.mark.parametrize(
    ("name", "says", "hint"),
    [
        ("xclip-base-patch32", "not on this machine", "xclip models pull xclip-base-patch32"),
        ("microsoft/xclip-base-patch16", "not on this machine", "xclip models pull xclip-base-patch16"),
        ("someone/xclip", "not on this machine", "xclip models pull someone/xclip"),
        ("open_clip:ViT-B-16/openai", "not on this machine", "xclip models pull open_clip:ViT-B-16/openai"),
        ("xclip-base-patch23", "unknown model", "xclip-base-patch32"),
        ("microsoft/xclip-bas-patch32", "unknown model", "xclip-base-patch32"),
        ("nothing like it", "unknown model", "xclip models list"),
        ("gone/model.safetensors", "no file", "models list"),
        ("open_clip:ViT-B-61/openai", "no architecture", "ViT-B-16"),
        ("open_clip:ViT-B-16/opnai", "no weights 'opnai'", "openai"),
        ("open_clip:ViT-B-16=gone.pt", "no file 'gone.pt'", None),
    ],
)
def test_what_is_absent_says_how_to_get_it(name, says, hint, hub_cache, offline):
    with pytest.raises(ModelError, match=says) as caught:
        open_checkpoint(name)
    assert hint is None or hint in caught.value.hint


def test_every_registered_hub_model_names_its_command(hub_cache, offline):
    for name, spec in MODELS.items():
        if not spec.source.startswith("bundled:"):
            with pytest.raises(ModelError) as caught:
                open_checkpoint(name)
            assert caught.value.hint.endswith(f"xclip models pull {name}")


def test_loading_is_strict_and_names_the_tensor(ours):
    state = load_file(ours)
    metadata = _metadata(ours)

    def reopen(changed):
        save_file(changed, ours, metadata=metadata)
        return open_checkpoint(str(ours)).video_model()

    lost = {key: value for key, value in state.items() if key != "mit.position_embedding"}
    with pytest.raises(ModelError, match=r"mit\.position_embedding is missing"):
        reopen(lost)
    with pytest.raises(ModelError, match=r"visual\.extra has no place"):
        reopen({**state, "visual.extra": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"mit\.position_embedding.*\(1, 9, 64\).*\(1, 4, 64\)"):
        reopen({**state, "mit.position_embedding": torch.zeros(1, 9, 64)})


def _metadata(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_a_config_that_does_not_fit_the_weights_is_an_error(folder):
    settings = json.loads((folder / "config.json").read_text())
    settings["vision_config"]["num_frames"] = 8
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"mit\.position_embedding.*\(1, 4, 32\).*\(1, 8, 32\)"):
        open_checkpoint(str(folder)).video_model()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "clip"}, "model type 'clip'"),
        ({"prompt_hidden_act": "relu"}, "activations"),
        ({"projection_dim": "wide"}, "embed_dim is 'wide'"),
    ],
)
def test_other_networks_of_transformers_are_refused(folder, change, says):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **change}))
    with pytest.raises(ModelError, match=says):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"vision_config": 3, "model_type": "xclip"}'])
def test_a_damaged_config_is_one_line(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    "metadata",
    [
        {"xclip": "{"},
        {"xclip": "[]"},
        {"xclip": '{"format": 1}'},
        {"xclip": '{"format": 2}'},
        {"xclip": '{"format": 1, "config": {"embed": 3}, "preprocessing": {}, "name": "x", "labels": null}'},
        {"xclip": '{"format": 1, "config": {}, "preprocessing": {"sice": 3}, "name": "x", "labels": null}'},
        {"other": "program"},
        None,
    ],
)
def test_metadata_that_is_damaged_newer_or_not_ours_is_one_line(tmp_path, metadata):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(ModelError):
        open_checkpoint(str(path))


def test_a_cut_or_empty_file_is_one_line(ours):
    whole = ours.read_bytes()
    for length in (0, 5, 200, len(whole) // 2):
        ours.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="cannot be read as safetensors"):
            open_checkpoint(str(ours)).video_model()


def test_an_empty_folder_says_what_it_lacks(tmp_path):
    with pytest.raises(ModelError, match="no weights"):
        open_checkpoint(str(tmp_path))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"no config\.json"):
        open_checkpoint(str(tmp_path))


def test_half_precision_files_load_as_float32(published, tmp_path, published_config):
    half = Xclip(published_config)
    half.load_state_dict(published.state_dict())
    path = tmp_path / "half.safetensors"
    save(half.half(), path, preprocessing=PREPROCESSING, name="half")
    checkpoint = open_checkpoint(str(path))
    model = checkpoint.video_model()
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert not model.training and all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())
    assert checkpoint.text_encoder()(["a"]).dtype == torch.float32


def test_the_video_half_never_reads_the_text_tower(ours, monkeypatch):
    from xclip_cli.checkpoint import ours as own_format
    from xclip_cli.checkpoint import tensors as files

    read = []

    def spy(path, wanted=lambda key: True):
        state = files.read_safetensors(path, wanted)
        read.extend(state)
        return state

    monkeypatch.setattr(own_format, "read_safetensors", spy)
    checkpoint = open_checkpoint(str(ours))
    model = checkpoint.video_model()
    assert model.text is None and read and not any(key.startswith("text.") for key in read)
    read.clear()
    checkpoint.text_encoder()
    assert read and all(key.startswith("text.") for key in read)


def test_text_encoder_in_chunks_is_text_encoder_at_once(ours):
    texts = [f"a video of {n} dogs" for n in range(150)]  # more than are encoded at once
    encoder = open_checkpoint(str(ours)).text_encoder()
    whole = encoder(texts)
    parts = torch.cat([encoder(texts[i : i + 30]) for i in range(0, 150, 30)])
    assert whole.shape == (150, 64) and torch.allclose(parts, whole, atol=1e-5)
    assert encoder.context_length == 77
    assert encoder.count_tokens(["a dog", ""]) == [4, 2]
    (whole.sum() * torch.ones(1, requires_grad=True)).backward()  # usable in training


def test_fingerprint_follows_content_and_architecture(ours, folder, tmp_path, cache):
    first = open_checkpoint(str(ours)).fingerprint
    assert first == open_checkpoint(str(ours)).fingerprint
    copy = tmp_path / "copy.safetensors"
    shutil.copy(ours, copy)
    assert open_checkpoint(str(copy)).fingerprint == first
    content = bytearray(ours.read_bytes())
    content[-1] ^= 1
    time.sleep(0.01)
    ours.write_bytes(content)
    assert open_checkpoint(str(ours)).fingerprint != first
    before = open_checkpoint(str(folder)).fingerprint
    settings = json.loads((folder / "config.json").read_text())
    settings["vision_config"]["mit_num_attention_heads"] = 4
    (folder / "config.json").write_text(json.dumps(settings))
    assert open_checkpoint(str(folder)).fingerprint != before


def test_fingerprint_follows_preprocessing(folder):
    before = open_checkpoint(str(folder))
    (folder / "preprocessor_config.json").write_text('{"size": 40, "crop_size": 32}')
    after = open_checkpoint(str(folder))
    assert after.preprocessing.resize == 40 and after.fingerprint != before.fingerprint


def test_a_file_from_before_keeps_its_pixels(published, tmp_path):
    """Metadata without the names of antialiasing, rounding and cropping means what it did when it was written."""
    path = tmp_path / "old.safetensors"
    save(published, path, preprocessing=PREPROCESSING, name="old")
    about = json.loads(_metadata(path)["xclip"])
    for name in AUTHORS:
        del about["preprocessing"][name]
    save_file(load_file(path), path, metadata={"xclip": json.dumps(about)})
    assert open_checkpoint(str(path)).preprocessing == PREPROCESSING
    assert open_checkpoint("mini").preprocessing == MODELS["mini"].preprocessing
    assert MODELS["mini"].preprocessing == Preprocessing(256, 256, (127 / 255,) * 3, (128 / 255,) * 3)


def test_heads_that_are_not_the_authors_are_warned_of(hub_cache, folder, ours):
    """Toys of width 128 stand for L/14: config.json says 8 heads, as transformers' conversion, for 128 / 64."""
    settings = json.loads((folder / "config.json").read_text())
    assert open_checkpoint(str(folder)).warnings == ()  # 32 is no multiple of 64: nobody can say what is right
    settings |= {"projection_dim": 128, "prompt_num_attention_heads": 8}
    settings["vision_config"]["mit_num_attention_heads"] = 8
    (folder / "config.json").write_text(json.dumps(settings))
    [warning] = open_checkpoint(str(folder)).warnings
    assert "the MIT 8 and the prompts 8 heads" in warning and "authors trained 2" in warning
    assert "registered name" in warning and "prompt_num_attention_heads" in warning
    shutil.copytree(folder, hub_cache("microsoft/xclip-large-patch14"), dirs_exist_ok=True)
    assert open_checkpoint("xclip-large-patch14").warnings == ()
    settings |= {"prompt_num_attention_heads": 2}
    settings["vision_config"]["mit_num_attention_heads"] = 2
    (folder / "config.json").write_text(json.dumps(settings))
    assert open_checkpoint(str(folder)).warnings == () == open_checkpoint(str(ours)).warnings


def test_saving_what_was_loaded_gives_the_same_model(folder, tmp_path):
    model = load_model(str(folder))
    save(model, tmp_path / "again.safetensors", preprocessing=PREPROCESSING, name="again")
    again = load_model(str(tmp_path / "again.safetensors"))
    assert again.config == model.config
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    save(again, tmp_path / "twice.safetensors", preprocessing=PREPROCESSING, name="again")
    assert (tmp_path / "twice.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_a_failed_save_leaves_what_was_there(published, ours, tmp_path):
    with pytest.raises(OutputError):
        save(published, tmp_path / "missing" / "x.safetensors", preprocessing=PREPROCESSING, name="x")
    before = sorted(tmp_path.iterdir())
    taken = tmp_path / "taken.safetensors"
    taken.mkdir()
    with pytest.raises(OutputError):
        save(published, taken, preprocessing=PREPROCESSING, name="x")
    assert sorted(tmp_path.iterdir()) == sorted([*before, taken])


def test_opening_imports_no_open_clip_and_is_quick(tmp_path):
    """40 MB as float16: opened, checked and built in a fraction of what importing torch takes."""
    config = XclipConfig(
        vision=VisionConfig(width=384, layers=4, heads=6, stem="efficientnet_lite0"),
        text=TextConfig(width=384, layers=2, heads=6, token_width=128),
        embed_dim=384,
    )
    path = tmp_path / "mini.safetensors"
    save(Xclip(config).half(), path, preprocessing=Preprocessing(224, 224), name="mini")
    program = (
        "import sys, time; start = time.process_time(); from xclip_cli.checkpoint.load import open_checkpoint\n"
        "middle = time.process_time(); open_checkpoint(sys.argv[1]).video_model()\n"
        "print('open_clip' in sys.modules, (time.process_time() - middle) / (middle - start))"
    )
    command, alone = [sys.executable, "-c", program, path], os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    loaded, ratio = run.stdout.split()
    assert loaded == "False" and float(ratio) < 0.5
