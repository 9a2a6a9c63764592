"""Stems: a picture in, tokens out, the class token first."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.model.block import parameter
from xclip_cli.model.config import VisionConfig

# EfficientNet-Lite: expansion, kernel, stride, channels, repeats of each stage (tensorflow/tpu, efficientnet/lite).
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
MULTIPLIERS = {  # of width and depth
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
STEM_CHANNELS, HEAD_CHANNELS, CLASSES = 32, 1280, 1000


def make_stem(vision: VisionConfig) -> nn.Module:
    """The stem that the configuration names: (B, 3, S, S) -> (B, 1 + P, width)."""
    if vision.stem == "patch":
        return PatchStem(vision.patch_size, vision.width)
    return EfficientNetStem(*MULTIPLIERS[vision.stem], vision.width, vision.class_hidden)


class PatchStem(nn.Module):
    """CLIP's stem: a linear map of every patch, and a learned class token."""

    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], dim=1)


class EfficientNetStem(nn.Module):
    """A convolutional trunk whose last map gives the patch tokens and whose pooled feature gives the class token.

    The trunk's own classifier stays part of it: the class token is a linear map of the pooled feature plus the mean of
    one vector per class, weighted by the classifier's probabilities (ConSE, Norouzi et al., ICLR 2014). With
    ``class_hidden``, an MLP of that many hidden units on the pooled feature is added.
    """

    def __init__(self, width_multiplier: float, depth_multiplier: float, width: int, class_hidden: int | None = None):
        super().__init__()
        self.trunk = EfficientNetLite(width_multiplier, depth_multiplier)
        self.patch_proj = nn.Linear(HEAD_CHANNELS, width)
        self.class_proj = nn.Linear(HEAD_CHANNELS, width)
        self.classifier = nn.Linear(HEAD_CHANNELS, CLASSES)
        self.concepts = nn.Linear(CLASSES, width, bias=False)
        self.class_mlp = None
        if class_hidden:
            norm, up, down = (
                nn.LayerNorm(HEAD_CHANNELS),
                nn.Linear(HEAD_CHANNELS, class_hidden),
                nn.Linear(class_hidden, width),
            )
            self.class_mlp = nn.Sequential(norm, up, nn.GELU(), down)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(self.trunk(x))

    def tokens(self, feature_map: Tensor) -> Tensor:
        """(B, 1280, H, W) -> (B, 1 + H * W, width); apart from the trunk, whose maps may be cached."""
        features = feature_map.flatten(2).transpose(1, 2)
        return torch.cat([self.class_token(features.mean(dim=1, keepdim=True)), self.patch_proj(features)], dim=1)

    def class_token(self, pooled: Tensor) -> Tensor:
        """Mean of the last map (..., 1280) -> (..., width)."""
        token = self.class_proj(pooled) + self.concepts(self.classifier(pooled).softmax(dim=-1))
        return token if self.class_mlp is None else token + self.class_mlp(pooled)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite (no squeeze-and-excite, ReLU6), batch norms folded: (B, 3, S, S) -> (B, 1280, S / 32, S / 32).

    The published weights expect TensorFlow's padding and pixels as (x - 127) / 128.
    """

    def __init__(self, width_multiplier: float, depth_multiplier: float):
        super().__init__()
        self.stem = ConvSame(3, STEM_CHANNELS, kernel=3, stride=2)
        blocks, channels = [], STEM_CHANNELS
        for i, (expansion, kernel, stride, stage_channels, repeats) in enumerate(STAGES):
            if 0 < i < len(STAGES) - 1:
                repeats = math.ceil(repeats * depth_multiplier)
            for j in range(repeats):
                out_channels = _scale_channels(stage_channels, width_multiplier)
                blocks.append(InvertedResidual(channels, out_channels, expansion, kernel, stride if j == 0 else 1))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvSame(channels, HEAD_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)  # on a CPU the convolutions are 1.4 times as fast so
        x = self.blocks(F.relu6(self.stem(x), inplace=True))
        return F.relu6(self.head(x), inplace=True)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to the input where the shapes agree."""

    def __init__(self, channels: int, out_channels: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = channels * expansion
        self.residual = stride == 1 and channels == out_channels
        self.expand = ConvSame(channels, wide) if expansion > 1 else None
        self.depthwise = ConvSame(wide, wide, kernel, stride, groups=wide)
        self.project = ConvSame(wide, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class ConvSame(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME does: the odd pixel of padding goes right and below."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels, out_channels, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        if stride > 1:
            down, across = (max(0, (-(-size // stride) - 1) * stride + kernel - size) for size in x.shape[-2:])
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)


def _scale_channels(channels: int, multiplier: float) -> int:
    """Multiplied, rounded to a multiple of 8, never more than a tenth below."""
    scaled = channels * multiplier
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8
