"""What is timed is what it is called, and its cost is counted as papers count it."""

from dataclasses import replace

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from xclip_cli.benchmark import rivals
from xclip_cli.benchmark.networks import tagging
from xclip_cli.checkpoint.registry import MODELS, Preprocessing
from xclip_cli.errors import MissingExtraError, ModelError, UsageError
from xclip_cli.model.openclip import FrozenClip
from xclip_cli.model.xclip import Xclip


@pytest.fixture(autouse=True)
def no_models(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def test_the_bundled_model_has_its_weights_and_the_cost_of_its_card():
    network = tagging("mini")
    assert network.weights == "on disk" and network.parameters == 39_369_137
    assert network.gigamacs() == pytest.approx(8.23, abs=0.01)
    assert network.shape == (8, 3, 256, 256) and network.accuracy is None


@pytest.mark.slow
def test_an_official_model_that_is_absent_has_random_weights_and_the_published_cost():
    network = tagging("xclip-base-patch32")
    assert network.weights == "random" and network.accuracy == 80.4
    assert network.gigamacs() == pytest.approx(35.8, rel=0.01)
    assert network.gigamacs_with_text() == pytest.approx(39.0, rel=0.01)
    assert all(not parameter.is_meta for parameter in network.module.parameters())


def test_the_cost_is_that_of_the_network_that_is_computed(toy_model):
    network = tagging(toy_model)
    assert isinstance(network.module, Xclip)
    features = network.encode(network.module, torch.zeros(2, *network.shape))
    assert features.video.shape == (2, 64)
    plain = network.module.switched(cross_frame=False, mit_layers=0, prompt_layers=0)
    assert 0 < network.gigamacs() < network.gigamacs_with_text()
    assert sum(p.numel() for p in plain.parameters()) < network.parameters


def test_a_frozen_model_is_timed_as_it_tags_whether_it_is_here_or_not(monkeypatch, tmp_path):
    """One that is no plain ViT, and so cannot become an X-CLIP, as PE-Core."""
    towers = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
        "custom_text": True,
        "init_logit_bias": -10,
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "toy-pe", towers)
    tag = {"hf_hub": "someone/toy-pe/", "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "toy-pe", {"meta": tag})
    name, known = "open_clip:toy-pe/meta", MODELS["open_clip:PE-Core-B-16/meta"]
    spec = replace(known, name=name, source="open_clip:someone/toy-pe", preprocessing=Preprocessing(32, 32))
    monkeypatch.setitem(MODELS, name, spec)
    absent = tagging(name)
    home = tmp_path / "hub" / "models--someone--toy-pe"
    (home / "snapshots" / "c0ffee").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("c0ffee")
    weights = {key: value.contiguous() for key, value in absent.module.model.state_dict().items()}
    save_file(weights, home / "snapshots" / "c0ffee" / "open_clip_model.safetensors")
    here = tagging(name)
    assert (absent.weights, here.weights) == ("random", "on disk") and isinstance(here.module, FrozenClip)
    assert here.parameters == absent.parameters and here.gigamacs() == absent.gigamacs() > 0
    assert here.gigamacs_with_text() == absent.gigamacs_with_text() > here.gigamacs()
    clips = torch.zeros(2, *here.shape)
    torch.testing.assert_close(here.encode(here.module, clips).video, absent.encode(absent.module, clips).video)
    assert here.text_encoder(["a dog"]).shape == (1, 32)


def test_an_unknown_model_is_our_error():
    with pytest.raises(ModelError, match="unknown model"):
        tagging("xclip-huge")


def test_rivals_are_chosen_by_name():
    assert rivals.choose("none") == [] and rivals.choose(" r3d_18, s3d ") == ["r3d_18", "s3d"]
    assert set(rivals.choose("usual")) <= set(rivals.choose("all")) <= set(rivals.NAMES)
    with pytest.raises(UsageError, match="'resnet'"):
        rivals.choose("r3d_18,resnet")


def test_a_rival_that_is_asked_for_and_not_installed_is_an_error(monkeypatch):
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: None)
    assert not any(name.startswith("transformers:") for name in rivals.choose("all"))
    with pytest.raises(MissingExtraError, match="transformers"):
        rivals.choose("transformers:vivit")


@pytest.mark.parametrize(("name", "gigamacs", "accuracy"), [("r3d_18", 40.7, 63.2), ("mvit_v2_s", 64.2, 80.757)])
def test_torchvisions_networks_cost_what_torchvision_says(name, gigamacs, accuracy):
    with torch.device("meta"):  # the cost does not depend on the weights
        network = rivals.rival(name)
    assert network.gigamacs() == pytest.approx(gigamacs, rel=0.01) and network.accuracy == accuracy


def test_the_reference_implementation_has_the_size_of_ours():
    pytest.importorskip("transformers")
    with torch.device("meta"):
        theirs, ours = rivals.rival("transformers:xclip-base-patch32"), tagging("xclip-base-patch32")
    assert theirs.parameters == ours.parameters and theirs.accuracy == ours.accuracy
    assert theirs.gigamacs() == pytest.approx(ours.gigamacs(), rel=0.01)
