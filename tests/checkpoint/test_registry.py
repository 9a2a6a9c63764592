import pytest

from xclip_cli.checkpoint.registry import MODELS, Preprocessing, find
from xclip_cli.errors import ModelError
from xclip_cli.model.config import XclipConfig
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.preprocess import resizing
from xclip_cli.video.display import Resize

B16 = "xclip-base-patch16"
PUBLISHED = {
    "xclip-base-patch32": 8,
    "xclip-base-patch32-16-frames": 16,
    B16: 8,
    f"{B16}-16-frames": 16,
    f"{B16}-kinetics-600": 8,
    f"{B16}-kinetics-600-16-frames": 16,
    f"{B16}-zero-shot": 32,
    **{f"{B16}-{data}-{shots}-shot": 32 for data in ("hmdb", "ucf") for shots in (2, 4, 8, 16)},
    "xclip-large-patch14": 8,
    "xclip-large-patch14-16-frames": 16,
    "xclip-large-patch14-kinetics-600": 8,
}


def test_all_published_models_are_there_with_their_frames():
    official = {name: spec.num_frames for name, spec in MODELS.items() if spec.source.startswith("hf:microsoft/")}
    assert official == PUBLISHED
    assert TagSettings.model in MODELS


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_says_all_that_a_user_asks(name):
    spec = MODELS[name]
    config = XclipConfig.from_dict(spec.architecture)
    assert config.num_frames == spec.num_frames and config.vision.image_size == spec.preprocessing.crop
    assert f"patch{config.vision.patch_size}" in name and config.vision.heads == config.vision.width // 64
    assert spec.licence == "MIT" and spec.accuracy and spec.source == f"hf:microsoft/{name}"
    assert spec.preprocessing.resize * 224 == spec.preprocessing.crop * 256
    assert find(f"microsoft/{name}") is find(name) is spec


def test_sizes_are_those_of_the_architectures():
    import torch

    from xclip_cli.model.xclip import Xclip

    for spec in MODELS.values():
        if spec.architecture:
            with torch.device("meta"):
                model = Xclip(XclipConfig.from_dict(spec.architecture))
            size = 4 * sum(parameter.numel() for parameter in model.parameters())
            assert spec.size_bytes == pytest.approx(size, rel=0.01)


def test_an_unknown_name_suggests_close_ones():
    with pytest.raises(ModelError) as caught:
        find("xclip-base-patch-32")
    assert "xclip-base-patch32" in caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"resize": 200},
        {"crop": 0},
        {"crop": None},
        {"resize": 256.5},
        {"mode": "longest"},
        {"interpolation": "nearest"},
        {"mean": (0.5, 0.5)},
        {"std": (0.5, 0, 0.5)},
        {"antialias": "no"},
        {"rounding": "up"},
        {"cropping": "right"},
    ],
)
def test_wrong_preprocessing_is_refused_when_made(wrong):
    with pytest.raises(ModelError):
        Preprocessing(**{"resize": 256, "crop": 224, **wrong})


def test_three_squares_are_cut_from_frames_of_their_own_size():
    shortest = Preprocessing(256, 224, antialias=False, rounding="round")
    assert resizing(shortest) == Resize(256, "shortest", "bilinear", False, "round")
    assert resizing(shortest, 3) == Resize(224, "shortest", "bilinear", False, "round")
    squash = Preprocessing(0, 224, mode="squash", interpolation="bicubic")
    assert resizing(squash) == Resize(224, "squash", "bicubic", True, "floor")
    assert resizing(squash, 3) == Resize(224, "shortest", "bicubic", True, "floor")
