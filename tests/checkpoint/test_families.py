"""CLIP, SigLIP and PE-Core of open_clip, with random weights: pixels, scores and similarities are open_clip's own."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from xclip_cli import Tagger
from xclip_cli.checkpoint import frozen
from xclip_cli.tagger.preprocess import crops
from xclip_cli.video.types import Clip, VideoInfo

TEXTS = ["a dog runs", "dunking a ball", "cooking dinner"]
SMALL_TEXT = {"vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
SIZES = [(90, 160), (161, 97), (314, 640), (230, 224), (224, 227), (40, 41)]


def photo(height, width, frames=1):
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(height * width).integers(0, 60, (frames, height, width, 3))
    turns = np.arange(frames)[:, None, None, None] * 30
    base = np.stack([x * 190 / width, y * 190 / height, (x + y) * 190 / (width + height)], axis=-1)
    return ((base + noise + turns) % 256).astype(np.uint8)


def own_transform(architecture, tag):
    """open_clip's for validation: PIL image -> normalised tensor."""
    size = open_clip.get_model_config(architecture)["vision_cfg"].get("image_size", 224)
    known = open_clip.get_pretrained_cfg(architecture, tag)
    names = "mean", "std", "interpolation", "resize_mode"
    return image_transform_v2(PreprocessCfg(size=size, **{k: known[k] for k in names if k in known}), is_train=False)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("architecture", "tag"),
    [
        ("ViT-B-16", "openai"),
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("PE-Core-B-16", "meta"),
        ("PE-Core-T-16-384", "meta"),
        ("ViT-B-16-SigLIP", "webli"),
        ("ViT-B-32-SigLIP2-256", "webli"),
    ],
)
def test_pixels_are_open_clips(architecture, tag, size):
    spec = frozen._preprocessing(frozen._parse(f"open_clip:{architecture}/{tag}"))
    [frame] = photo(*size)
    theirs = own_transform(architecture, tag)(Image.fromarray(frame))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    ours = crops(frame[None], spec)[0, 0]
    assert ((theirs * std + mean) * 255 - ours).abs().max() <= 1.01


def small_pe():
    config = open_clip.get_model_config("PE-Core-T-16-384")
    return config | {"text_cfg": config["text_cfg"] | SMALL_TEXT}


def small_siglip():
    """SigLIP with a small tower and CLIP's tokenizer, since its own is a download."""
    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    text = {k: v for k, v in config["text_cfg"].items() if not k.startswith(("hf_", "tokenizer_"))}
    vision = config["vision_cfg"] | {"timm_model_name": "test_vit3", "image_size": 160}
    return config | {"embed_dim": 96, "vision_cfg": vision, "text_cfg": text | SMALL_TEXT}


def large_siglip():
    config = small_siglip()
    return config | {"embed_dim": 768, "vision_cfg": open_clip.get_model_config("ViT-B-16-SigLIP")["vision_cfg"]}


FAMILIES = {
    "sigmoid-small": (small_siglip, "ViT-B-16-SigLIP", "webli"),
    "sigmoid-base": (large_siglip, "ViT-B-16-SigLIP", "webli"),
    "pe-small": (small_pe, "PE-Core-T-16-384", "meta"),
}


@pytest.fixture
def known(monkeypatch):
    """The architectures above with their families' tags, known to open_clip for the length of a test."""
    configs = dict(open_clip.factory._MODEL_CONFIGS)
    for name, (make, model, tag) in FAMILIES.items():
        configs[name] = json.loads(json.dumps(make()))
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {tag: open_clip.get_pretrained_cfg(model, tag)})
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", configs)


def own_answers(model, architecture, tag, frames):
    """Cosines and probabilities, as open_clip's documentation computes them; the mean of the frames' unit vectors."""
    transform, tokenizer = own_transform(architecture, tag), open_clip.get_tokenizer(architecture)
    with torch.inference_mode():
        images = model.encode_image(torch.stack([transform(Image.fromarray(frame)) for frame in frames]))
        video = (images / images.norm(dim=-1, keepdim=True)).mean(dim=0)
        text = model.encode_text(tokenizer(TEXTS))
        cosines = (video / video.norm()) @ (text / text.norm(dim=-1, keepdim=True)).T
        logits = model.logit_scale.exp() * cosines + (0 if model.logit_bias is None else model.logit_bias)
    return dict(zip(TEXTS, zip(cosines.tolist(), logits.softmax(-1).tolist(), strict=True), strict=True))


@pytest.mark.parametrize(
    "architecture", ["sigmoid-small", pytest.param("sigmoid-base", marks=pytest.mark.slow), "pe-small"]
)
def test_scores_are_open_clips(architecture, known, tmp_path, monkeypatch):
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = open_clip.create_model(architecture).eval()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    frames = photo(90, 161, frames=3)
    clip = Clip(frames, np.arange(3.0), VideoInfo(161, 90, 3.0, 3, 1.0))
    tagger = Tagger(f"open_clip:{architecture}={path}", TEXTS, device="cpu")
    tags = tagger.tag_clips([clip])[0].tags
    expected = own_answers(model, architecture, FAMILIES[architecture][2], frames)
    cosines, scores = ({label: answer[i] for label, answer in expected.items()} for i in (0, 1))
    assert {tag.label: tag.similarity for tag in tags} == pytest.approx(cosines, abs=1e-5)
    assert {tag.label: tag.score for tag in tags} == pytest.approx(scores, abs=1e-5)
    assert len({round(tag.similarity, 4) for tag in tags}) == 3, "the labels must differ"
