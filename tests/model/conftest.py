"""A reference network of transformers with random weights, and the same weights in ours."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from xclip_cli.checkpoint import keymap
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig
from xclip_cli.model.xclip import Xclip

END = 98  # the largest id of the toy vocabulary


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random, none left at the zero or one it starts with: parity then says something."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim < 2:
            tensor.copy_(0.1 * noise + ("norm" in name.lower() or "ln" in name) * name.endswith("weight"))
        else:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)
    module.logit_scale.fill_(3.0)
    return module.eval()


def make_reference(config: XclipConfig, seed: int = 0):
    """transformers' XCLIPModel of our configuration, random."""
    from transformers import XCLIPConfig as ReferenceConfig
    from transformers import XCLIPModel

    vision, text = config.vision, config.text
    reference = ReferenceConfig(
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": config.activation,
        },
        vision_config={
            "hidden_size": vision.width,
            "intermediate_size": 4 * vision.width,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_frames": config.num_frames,
            "mit_hidden_size": config.embed_dim,
            "mit_intermediate_size": 4 * config.embed_dim,
            "mit_num_hidden_layers": config.mit_layers,
            "mit_num_attention_heads": config.mit_heads,
            "hidden_act": config.activation,
        },
        projection_dim=config.embed_dim,
        prompt_layers=config.prompt_layers,
        prompt_num_attention_heads=config.prompt_heads,
        prompt_hidden_act=config.activation,
    )
    return randomise(XCLIPModel(reference), seed)


def same_weights(reference, config: XclipConfig) -> Xclip:
    with torch.device("meta"):
        model = Xclip(config)
    model.load_state_dict(keymap.translate(reference.state_dict(), "huggingface"), strict=True, assign=True)
    return model.eval()


def toy_config(**changes) -> XclipConfig:
    sizes = {
        "vision": VisionConfig(image_size=48, patch_size=16, width=24, layers=3, heads=4),
        "text": TextConfig(context_length=11, vocab_size=END + 1, width=20, layers=2, heads=2),
        "embed_dim": 16,
        "num_frames": 4,
        "mit_layers": 2,
        "mit_heads": 4,
        "prompt_heads": 2,
    }
    return XclipConfig(**{**sizes, **changes})


def toy_tokens(padding: int = 0) -> torch.Tensor:
    """Three rows of different lengths, (3, 11); padded with zeros or with the end token."""
    tokens = torch.full((3, 11), padding)
    for row, length in enumerate((4, 11, 7)):
        tokens[row, :length] = torch.randint(1, END, (length,), generator=torch.Generator().manual_seed(row))
        tokens[row, length - 1] = END
    return tokens


def toy_frames(batch: int, config: XclipConfig, num_frames: int | None = None) -> torch.Tensor:
    size = config.vision.image_size
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, num_frames or config.num_frames, 3, size, size, generator=generator)


@pytest.fixture
def kit():
    """The makers of this file, for the tests beside it."""
    from types import SimpleNamespace

    return SimpleNamespace(
        END=END,
        randomise=randomise,
        reference=make_reference,
        same_weights=same_weights,
        config=toy_config,
        tokens=toy_tokens,
        frames=toy_frames,
    )


@pytest.fixture
def load_recipe():
    """A module of weights/recipe, which is no package."""

    def load(name: str):
        path = Path(__file__).resolve().parents[2] / "weights" / "recipe" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"recipe_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
