"""Every published way of naming the weights leads to the same network."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from xclip_cli.checkpoint import keymap
from xclip_cli.errors import ModelError
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig
from xclip_cli.model.xclip import Xclip

WIDTH, TEXT_WIDTH, EMBED, LAYERS, FRAMES, VOCAB, CONTEXT = 64, 64, 64, 2, 4, 50, 9

CONFIG = XclipConfig(
    vision=VisionConfig(image_size=32, patch_size=16, width=WIDTH, layers=LAYERS, heads=1),
    text=TextConfig(context_length=CONTEXT, vocab_size=VOCAB, width=TEXT_WIDTH, layers=LAYERS, heads=1),
    embed_dim=EMBED,
    num_frames=FRAMES,
)


def empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


class Named(nn.Module):
    """A bare tree of parameters and modules under the given names."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def microsoft_block(width: int, message: bool = False) -> nn.Module:
    parts = {
        "attn": nn.MultiheadAttention(width, 1),
        "ln_1": nn.LayerNorm(width),
        "mlp": Named(c_fc=nn.Linear(width, 4 * width), c_proj=nn.Linear(4 * width, width)),
        "ln_2": nn.LayerNorm(width),
    }
    if message:
        parts |= {
            "message_fc": nn.Linear(width, width),
            "message_ln": nn.LayerNorm(width),
            "message_attn": nn.MultiheadAttention(width, 1),
        }
    return Named(**parts)


def microsoft_prompt_layer(width: int) -> nn.Module:
    projections = {f"{part}_proj": nn.Linear(width, width, bias=False) for part in "qkv"}
    mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.Identity(), nn.Identity(), nn.Linear(4 * width, width))
    return Named(
        cross_attn=Named(**projections, proj=nn.Linear(width, width)),
        norm1=nn.LayerNorm(width),
        norm3=nn.LayerNorm(width),
        mlp=mlp,
    )


@pytest.fixture(scope="module")
def microsoft() -> dict:
    """The keys and shapes of an official .pth file, random values."""
    blocks = nn.Sequential(*(microsoft_block(WIDTH, message=True) for _ in range(LAYERS)))
    visual = Named(
        conv1=nn.Conv2d(3, WIDTH, 16, 16, bias=False),
        class_embedding=empty(WIDTH),
        positional_embedding=empty(5, WIDTH),
        ln_pre=nn.LayerNorm(WIDTH),
        transformer=Named(resblocks=blocks),
        ln_post=nn.LayerNorm(WIDTH),
        proj=empty(WIDTH, EMBED),
    )
    network = Named(
        visual=visual,
        mit=Named(positional_embedding=empty(1, FRAMES, EMBED), resblocks=nn.Sequential(microsoft_block(EMBED))),
        prompts_generator=Named(
            norm=nn.LayerNorm(EMBED),
            decoder=nn.ModuleList(microsoft_prompt_layer(EMBED) for _ in range(2)),
            alpha=empty(EMBED),
        ),
        prompts_visual_ln=nn.LayerNorm(WIDTH),
        prompts_visual_proj=empty(WIDTH, EMBED),
        token_embedding=nn.Embedding(VOCAB, TEXT_WIDTH),
        positional_embedding=empty(CONTEXT, TEXT_WIDTH),
        transformer=Named(resblocks=nn.Sequential(*(microsoft_block(TEXT_WIDTH) for _ in range(LAYERS)))),
        ln_final=nn.LayerNorm(TEXT_WIDTH),
        text_projection=empty(TEXT_WIDTH, EMBED),
        logit_scale=nn.Parameter(torch.tensor(2.0)),
    )
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    return {
        key: 0.2 * torch.randn(value.shape, generator=generator) + (key.split(".")[-2:-1] or [""])[0].startswith("ln")
        for key, value in state.items()
    }


RENAMED = (  # the official names, and what transformers calls the same thing
    ("visual.transformer.resblocks", "vision_model.encoder.layers"),
    ("mit.resblocks", "mit.encoder.layers"),
    ("transformer.resblocks", "text_model.encoder.layers"),
    ("visual.conv1", "vision_model.embeddings.patch_embedding"),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre", "vision_model.pre_layernorm"),
    ("visual.ln_post", "vision_model.post_layernorm"),
    ("visual.proj", "visual_projection.weight"),
    ("text_projection", "text_projection.weight"),
    ("prompts_visual_ln", "prompts_visual_layernorm"),
    ("prompts_visual_proj", "prompts_visual_projection"),
    ("prompts_generator.norm.", "prompts_generator.layernorm."),
    ("mit.positional_embedding", "mit.position_embedding"),
    ("token_embedding", "text_model.embeddings.token_embedding"),
    ("ln_final", "text_model.final_layer_norm"),
    (".ln_1", ".layer_norm1"),
    (".ln_2", ".layer_norm2"),
    (".c_fc", ".fc1"),
    (".c_proj", ".fc2"),
    (".attn.", ".self_attn."),
)


def as_hugging_face(state: dict) -> dict:
    """The same weights under transformers' names, by search and replace: nothing of the tables under test."""
    renamed = {}
    for key, value in state.items():
        if key == "positional_embedding":
            renamed["text_model.embeddings.position_embedding.weight"] = value
            continue
        value = value.T if key in ("visual.proj", "text_projection") else value
        for theirs, other in RENAMED:
            if theirs in key and other not in key:
                key = key.replace(theirs, other)
        if "in_proj_" in key:
            for part, piece in zip("qkv", value.split(len(value) // 3), strict=True):
                renamed[key.replace("in_proj_", f"{part}_proj.")] = piece
        else:
            renamed[key] = value
    return renamed


def load(state: dict, format: keymap.Format, config: XclipConfig = CONFIG) -> Xclip:
    model = Xclip(config)
    model.load_state_dict(keymap.translate(state, format), strict=True)
    return model.eval()


@pytest.fixture
def inputs():
    tokens = torch.randint(1, VOCAB - 1, (3, CONTEXT), generator=torch.Generator().manual_seed(0))
    tokens[:, 5] = VOCAB - 1
    return torch.randn(2, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(0)), tokens


def reference_model():
    from transformers import XCLIPConfig, XCLIPModel

    sizes = {"num_hidden_layers": LAYERS, "num_attention_heads": 1, "hidden_size": WIDTH, "intermediate_size": 256}
    mit = {"mit_hidden_size": EMBED, "mit_intermediate_size": 256, "mit_num_attention_heads": 1, "num_frames": FRAMES}
    text = {**sizes, "vocab_size": VOCAB, "max_position_embeddings": CONTEXT}
    vision = {**sizes, **mit, "image_size": 32, "patch_size": 16}
    heads = {"projection_dim": EMBED, "prompt_num_attention_heads": 1}
    return XCLIPModel(XCLIPConfig(text_config=text, vision_config=vision, **heads)).eval()


def test_microsoft_and_hugging_face_names_give_the_references_logits(microsoft, inputs):
    frames, tokens = inputs
    hugging_face = as_hugging_face(microsoft)
    reference = reference_model()
    reference.load_state_dict(hugging_face, strict=True)
    with torch.inference_mode():
        expected = reference(input_ids=tokens, pixel_values=frames).logits_per_video
        ours = load(microsoft, "microsoft")(frames, tokens)
        assert torch.equal(ours, load(hugging_face, "huggingface")(frames, tokens))
        assert (ours - expected).abs().max() < 1e-4


@pytest.mark.parametrize("format", ["microsoft", "huggingface"])
def test_every_name_of_ours_is_filled(microsoft, format):
    state = microsoft if format == "microsoft" else reference_model().state_dict()
    assert set(keymap.translate(state, format)) == set(Xclip(CONFIG).state_dict())


def test_sizes_are_read_from_the_weights(microsoft):
    assert XclipConfig.from_state(keymap.translate(microsoft, "microsoft")) == CONFIG


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_open_clip_names_give_open_clips_features(quick_gelu, inputs):
    import open_clip

    vision = {"image_size": 32, "patch_size": 16, "width": WIDTH, "layers": LAYERS, "head_width": 64}
    text = {"context_length": CONTEXT, "vocab_size": VOCAB, "width": TEXT_WIDTH, "heads": 1, "layers": LAYERS}
    theirs = open_clip.CLIP(EMBED, vision, text, quick_gelu=quick_gelu).eval()
    activation = "quick_gelu" if quick_gelu else "gelu"
    config = replace(CONFIG, cross_frame=False, mit_layers=0, prompt_layers=0, activation=activation, num_frames=8)
    ours = load(theirs.state_dict(), "open_clip", config)
    assert XclipConfig.from_state(ours.state_dict(), activation) == config
    frames, tokens = inputs
    with torch.inference_mode():
        assert torch.allclose(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-5)
        assert torch.allclose(ours.visual(frames[:, :1])[0][:, 0], theirs.encode_image(frames[:, 0]), atol=1e-5)


def test_constants_beside_the_weights_are_left_out(microsoft):
    extra = {"input_resolution": 224, "vocab_size": 5, "context_length": 77}
    assert keymap.translate(extra, "open_clip") == {}
    positions = {"text_model.embeddings.position_ids": 0, "vision_model.embeddings.position_ids": 0}
    assert keymap.translate(positions, "huggingface") == {}


@pytest.mark.parametrize(
    "format, key",
    [
        ("open_clip", "mit.positional_embedding"),
        ("open_clip", "visual.transformer.resblocks.0.ls_1.gamma"),
        ("microsoft", "vision_model.embeddings.class_embedding"),
        ("huggingface", "visual.proj"),
    ],
)
def test_an_unknown_name_is_an_error_that_says_it(format, key):
    with pytest.raises(ModelError) as caught:
        keymap.translate({key: torch.zeros(3)}, format)
    assert key in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_weight_is_named():
    with pytest.raises(ModelError, match=r"visual\.stem\.conv\.weight"):
        XclipConfig.from_state({})


def test_a_missing_weight_is_refused_by_the_load(microsoft):
    without = {key: value for key, value in microsoft.items() if key != "mit.positional_embedding"}
    with pytest.raises(RuntimeError, match=r"mit\.position_embedding"):
        load(without, "microsoft")


def test_the_tables_load_no_torch():
    code = "import sys, xclip_cli.checkpoint.keymap, xclip_cli.model.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
