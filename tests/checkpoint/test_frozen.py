"""open_clip's models as frozen, frame-averaged taggers, with their own preprocessing, tokenizer and activation."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from xclip_cli.checkpoint import frozen
from xclip_cli.checkpoint.load import load_model, open_checkpoint
from xclip_cli.checkpoint.registry import CLIP, MODELS, Preprocessing
from xclip_cli.errors import ModelError

TEXTS = ["a dog runs", "dunking a ball"]
TOWERS = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
ARCHITECTURES = {
    "toy": TOWERS,
    "toy-quickgelu": {**TOWERS, "quick_gelu": True},
    "toy-larger": {**TOWERS, "vision_cfg": {**TOWERS["vision_cfg"], "image_size": 64}},
    "toy-bias": {**TOWERS, "custom_text": True, "init_logit_bias": -10},
}


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch):
    """Small architectures and a tag of each, known to open_clip for the length of a test."""
    configs = dict(open_clip.factory._MODEL_CONFIGS)
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {**configs, **json.loads(json.dumps(ARCHITECTURES))})
    tag = {"hf_hub": "someone/toy/", "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"}
    tags = {
        "first": {**tag, "resize_mode": "squash", "quick_gelu": True},
        "bin": {**tag, "hf_hub": "someone/bin/w.bin"},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "toy", tags)


def random_model(architecture):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = open_clip.create_model(architecture)
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def file(tmp_path):
    """A local checkpoint of an architecture, with the model that it holds."""

    def write(architecture, suffix="safetensors"):
        model = random_model(architecture)
        path = tmp_path / f"weights.{suffix}"
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, path) if suffix == "safetensors" else torch.save({"epoch": 3, "state_dict": state}, path)
        return model, path

    return write


def frame_average(model, frames, length=16):
    """What the tagger must give, from open_clip's own calls."""
    with torch.inference_mode():
        video = torch.stack([model.encode_image(clip, normalize=True).mean(dim=0) for clip in frames])
        text = model.encode_text(open_clip.tokenize(TEXTS, length))
        cosine = torch.cosine_similarity(video[:, None], text[None], dim=-1)
        bias = 0 if model.logit_bias is None else model.logit_bias
        return model.logit_scale.exp() * cosine + bias


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("architecture", ["toy", "toy-quickgelu", "toy-bias"])
def test_a_local_checkpoint_tags_as_open_clip_does(architecture, suffix, file, views, score, offline):
    model, path = file(architecture, suffix)
    checkpoint = open_checkpoint(f"open_clip:{architecture}={path}")
    assert torch.allclose(score(checkpoint, views, TEXTS), frame_average(model, views), atol=1e-4)
    assert checkpoint.text_encoder().context_length == 16
    assert checkpoint.text_encoder().count_tokens(["a dog"]) == [4]


def test_the_activation_matters_and_follows_the_name(file, views, score):
    _, path = file("toy")
    plain, quick = (open_checkpoint(f"open_clip:{name}={path}") for name in ("toy", "toy-quickgelu"))
    assert (score(plain, views) - score(quick, views)).abs().max() > 1e-3
    assert plain.fingerprint != quick.fingerprint


@pytest.mark.parametrize("architecture", ["toy", "toy-quickgelu"])
def test_a_native_vit_becomes_our_network(architecture, file, views):
    model, path = file(architecture)
    network = load_model(f"open_clip:{architecture}={path}")
    assert not network.config.cross_frame and network.config.mit_layers == network.config.prompt_layers == 0
    with torch.inference_mode():
        logits = network(views, open_clip.tokenize(TEXTS, 16))
    assert torch.allclose(logits, frame_average(model, views), atol=1e-4)


def test_another_kind_of_model_does_not_become_ours(file):
    _, path = file("toy-bias")
    with pytest.raises(ModelError, match="ViT CLIP"):
        load_model(f"open_clip:toy-bias={path}")


@pytest.mark.parametrize("name", ["open_clip:toy", "open_clip:toy/first"])
def test_a_tag_brings_its_weights_preprocessing_and_activation(name, hub_cache, views, score, offline):
    model = random_model("toy-quickgelu")
    folder = hub_cache("someone/toy")
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    checkpoint = open_checkpoint(name)
    assert checkpoint.preprocessing == Preprocessing(
        0, 32, (0.5,) * 3, (0.5,) * 3, "bilinear", "squash", cropping="torchvision"
    )
    assert torch.allclose(score(checkpoint, views, TEXTS), frame_average(model, views), atol=1e-4)


def test_a_tag_with_a_file_name_opens_that_file(hub_cache, views, score, offline):
    model = random_model("toy")
    torch.save(model.state_dict(), hub_cache("someone/bin") / "w.bin")
    assert torch.allclose(
        score(open_checkpoint("open_clip:toy/bin"), views, TEXTS), frame_average(model, views), atol=1e-4
    )


@pytest.mark.parametrize(
    ("name", "preprocessing"),
    [
        ("ViT-B-16/openai", MODELS["open_clip:ViT-B-16/openai"].preprocessing),
        ("PE-Core-B-16", MODELS["open_clip:PE-Core-B-16/meta"].preprocessing),
        (
            "ViT-B-16-SigLIP-256",
            Preprocessing(0, 256, (0.5,) * 3, (0.5,) * 3, "bicubic", "squash", cropping="torchvision"),
        ),
        ("ViT-L-14-336-quickgelu/openai", Preprocessing(336, 336, *CLIP, "bicubic", cropping="torchvision")),
    ],
)
def test_real_models_have_their_own_preprocessing(name, preprocessing):
    assert frozen._preprocessing(frozen._parse(f"open_clip:{name}")) == preprocessing


def test_openai_tags_run_quick_gelu_under_either_name():
    tags = ("ViT-B-16/openai", "ViT-B-16-quickgelu/openai", "ViT-B-16/laion2b_s34b_b88k", "ViT-B-16=pyproject.toml")
    assert [frozen._quick_gelu(frozen._parse(f"open_clip:{tag}")) for tag in tags] == [True, True, False, False]


def test_registered_models_of_open_clip_point_at_their_repository():
    for name, spec in MODELS.items():
        if name.startswith("open_clip:"):
            assert spec.source == f"open_clip:{frozen._parse(name).repository[0]}"


def test_weights_that_do_not_fit_are_one_line(file, tmp_path):
    _, path = file("toy")
    for architecture in ("ViT-B-32", "toy-larger"):
        with pytest.raises(ModelError, match="does not fit") as caught:
            open_checkpoint(f"open_clip:{architecture}={path}").video_model()
        assert "\n" not in caught.value.message
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ModelError):
        open_checkpoint(f"open_clip:toy={tmp_path / 'cut.safetensors'}").video_model()


def test_a_malicious_local_checkpoint_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "marker"), "w"))

    torch.save({"state_dict": {"a": Payload()}}, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match="refused"):
        open_checkpoint(f"open_clip:toy={tmp_path / 'bad.pt'}").video_model()
    assert not (tmp_path / "marker").exists()


def test_a_tokenizer_that_is_not_here_names_its_command(hub_cache, offline, monkeypatch, tmp_path):
    """SigLIP's tokenizer is a download of its own; looking for it must not use the network."""
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: torch.nn.Identity())
    save_file({"weight": torch.zeros(1)}, tmp_path / "some.safetensors")
    checkpoint = open_checkpoint(f"open_clip:ViT-B-16-SigLIP={tmp_path / 'some.safetensors'}")
    with pytest.raises(ModelError, match="tokenizer") as caught:
        checkpoint.text_encoder()
    assert "xclip models pull open_clip:ViT-B-16-SigLIP/webli" in caught.value.hint


def test_pull_asks_for_weights_and_tokenizer(monkeypatch, tmp_path):
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return tmp_path / name

    monkeypatch.setattr("xclip_cli.checkpoint.hub._download", download)
    frozen.pull("open_clip:PE-Core-B-16")
    assert asked == [("timm/PE-Core-B-16", "open_clip_model.safetensors")]
    asked.clear()
    frozen.pull("open_clip:ViT-B-16-SigLIP/webli")
    assert asked[-1] == ("timm/ViT-B-16-SigLIP", "open_clip_model.safetensors")
    assert ("timm/ViT-B-16-SigLIP", "tokenizer.json") in asked
