"""Models of open_clip, frame by frame; its native ViTs are our network with the switches off."""

import open_clip
import pytest
import torch
import torch.nn.functional as F

from xclip_cli.checkpoint import keymap
from xclip_cli.errors import ModelError
from xclip_cli.model.openclip import FrozenClip, native_config
from xclip_cli.model.xclip import Xclip

VISION = {"image_size": 64, "patch_size": 32, "width": 128, "layers": 2, "head_width": 32}
TEXT = {"context_length": 77, "vocab_size": 60, "width": 48, "heads": 3, "layers": 2}
TIMM = {"timm_model_pretrained": False, "timm_pool": "map"}
SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}


def native(quick_gelu: bool = False, vision: dict | None = None, text: dict | None = None):
    torch.manual_seed(0)
    return open_clip.CLIP(40, VISION | (vision or {}), TEXT | (text or {}), quick_gelu=quick_gelu).eval()


def pe_core():
    """PE-Core: a timm tower with attention pooling, and CLIP's text tower with 32 tokens."""
    torch.manual_seed(0)
    vision = TIMM | {"timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_proj": None, "image_size": 384}
    return open_clip.CustomTextCLIP(64, vision, TEXT | {"context_length": 32}).eval()


def siglip():
    """SigLIP: attention pooling, a text tower without causal mask that pools the last token, a logit bias."""
    torch.manual_seed(0)
    vision = TIMM | {"timm_model_name": "test_vit3", "timm_proj": "none", "image_size": 160}
    text = TEXT | SIGLIP_TEXT | {"context_length": 16}
    return open_clip.CustomTextCLIP(96, vision, text, init_logit_bias=-10).eval()


def inputs(model):
    generator, size = torch.Generator().manual_seed(0), model.visual.image_size[0]
    tokens = torch.randint(1, 58, (3, model.context_length), generator=generator)
    tokens[:, 9] = 59
    return torch.randn(2, 3, 3, size, size, generator=generator), tokens


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_a_native_vit_is_our_network_with_the_switches_off(quick_gelu):
    model = native(quick_gelu)
    config = native_config(model)
    assert (config.cross_frame, config.mit_layers, config.prompt_layers) == (False, 0, 0)
    assert config.activation == ("quick_gelu" if quick_gelu else "gelu")
    ours = Xclip(config).eval()
    ours.load_state_dict(keymap.translate(model.state_dict(), "open_clip"), strict=True)
    frozen, (frames, tokens) = FrozenClip(model), inputs(model)
    with torch.inference_mode():
        logits = frozen(frames, tokens)
        assert logits.std() > 0.01
        assert (ours(frames, tokens) - logits).abs().max() < 1e-4
        other = Xclip(type(config).from_dict(config.to_dict() | {"activation": "gelu" if quick_gelu else "quick_gelu"}))
        other.load_state_dict(ours.state_dict())
        assert (other.eval()(frames, tokens) - logits).abs().max() > 1e-4, "the activation must matter"


@pytest.mark.parametrize("make", [native, pe_core, siglip])
def test_a_video_is_the_mean_of_its_normalised_frames(make):
    model = make()
    frozen, (frames, tokens) = FrozenClip(model), inputs(model)
    with torch.inference_mode():
        images = torch.stack([F.normalize(model.encode_image(video), dim=-1) for video in frames])
        features = frozen.encode_video(frames)
        torch.testing.assert_close(features.video, images.mean(dim=1), rtol=0, atol=1e-5)
        torch.testing.assert_close(frozen.encode_video(frames[:1]).video, features.video[:1], rtol=0, atol=1e-5)
        assert torch.equal(frozen.encode_text(tokens), model.encode_text(tokens))


@pytest.mark.parametrize("make", [native, pe_core, siglip])
def test_one_frame_gives_the_models_own_logits(make):
    model = make()
    frames, tokens = inputs(model)
    with torch.inference_mode():
        expected = model.get_logits(frames[:, 0], tokens)[0]
        assert (FrozenClip(model)(frames[:, :1], tokens) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("make", [native, pe_core, siglip])
def test_the_text_tower_can_be_dropped(make):
    model = make()
    frames, tokens = inputs(model)
    whole, half = FrozenClip(model), FrozenClip(make(), text=False)
    left = dict(half.named_parameters())
    assert all(".visual." in name or ".logit_" in name for name in left)
    with torch.inference_mode():
        text = whole.encode_text(tokens)
        expected = whole(frames, tokens)
        assert torch.equal(half.logits(half.similarity(half.encode_video(frames), text)), expected)
    with pytest.raises(ModelError, match="text tower"):
        half.encode_text(tokens)


@pytest.mark.parametrize(
    "make",
    [
        pe_core,
        siglip,
        lambda: native(vision={"attentional_pool": True}),
        lambda: native(vision={"pool_type": "avg"}),
        lambda: native(vision={"final_ln_after_pool": True}),
        lambda: native(vision={"mlp_ratio": 2.0}),
        lambda: native(vision={"norm_kwargs": {"eps": 1e-6}}),
        lambda: native(text={"no_causal_mask": True}),
        lambda: native(text={"pool_type": "last"}),
        lambda: native(text={"embed_cls": True, "pool_type": "last"}),
    ],
    ids=lambda make: make.__name__,
)
def test_another_architecture_is_no_xclip(make):
    with pytest.raises(ModelError, match="open_clip model is") as caught:
        native_config(make())
    assert "frame by frame" in caught.value.hint
