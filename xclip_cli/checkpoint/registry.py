"""The registered models and their properties."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from xclip_cli.errors import ModelError

OPEN_CLIP_PREFIX = "open_clip:"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_MOST_MARGIN = 4


@dataclass(frozen=True)
class Preprocessing:
    """How a frame becomes the network's input.

    ``shortest``: the short side is resized to ``resize`` pixels, then the centre square of ``crop`` pixels is taken.
    ``squash``: the whole frame is resized to a ``crop`` x ``crop`` square, whatever its shape; ``resize`` is 0.
    ``mean`` and ``std`` are per RGB channel, for values in 0..1. ``antialias`` and ``rounding`` are those of Resize.
    ``cropping`` says where squares lie when they leave a margin of M pixels: the centre one at M // 2 and the last of
    three at M (``edge``); at M // 2 and 2 * (M // 2), as mmcv has it (``mmcv``); at M / 2, a half going to the even
    number, and M, as torchvision has it (``torchvision``). The defaults of these three are what a file means that was
    written before they had names.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    interpolation: str = "bilinear"
    mode: str = "shortest"
    antialias: bool = True
    rounding: str = "floor"
    cropping: str = "edge"

    def __post_init__(self):
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if self.mode not in ("shortest", "squash") or self.interpolation not in ("bilinear", "bicubic"):
            raise ModelError(
                f"preprocessing {self.mode!r} with {self.interpolation!r} is not known: "
                "modes are shortest and squash, interpolations bilinear and bicubic"
            )
        if self.rounding not in ("floor", "round") or self.cropping not in ("edge", "mmcv", "torchvision"):
            raise ModelError(
                f"preprocessing {self.rounding!r} with {self.cropping!r} is not known: "
                "roundings are floor and round, croppings edge, mmcv and torchvision"
            )
        if not isinstance(self.antialias, bool):
            raise ModelError(f"preprocessing antialias is {self.antialias!r}; it must be true or false")
        if not (type(self.crop) is type(self.resize) is int):  # True is no number of pixels
            raise ModelError(f"preprocessing sizes are {self.resize!r} and {self.crop!r}; they must be whole numbers")
        if self.crop < 1 or (self.mode == "shortest" and not self.crop <= self.resize <= _MOST_MARGIN * self.crop):
            raise ModelError(
                f"preprocessing crops {self.crop!r:.12} pixels from a short side of {self.resize!r:.12}: "
                f"it must be 1 to {_MOST_MARGIN} times as long"
            )
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if not finite or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ModelError(f"preprocessing needs 3 means and 3 positive stds, got {self.mean} and {self.std}")


def as_published(pixels: int) -> Preprocessing:
    """Return the preprocessing of X-CLIP's authors: OpenCV's bilinear resize, without antialiasing."""
    return Preprocessing(256 * pixels // 224, pixels, antialias=False, rounding="round", cropping="mmcv")


@dataclass(frozen=True)
class ModelSpec:
    """The properties of a model that is not opened yet.

    ``source``: ``bundled:FILE``, ``hf:ORG/REPO`` or ``open_clip:ORG/REPO``. ``architecture`` has the shape of
    ``XclipConfig.to_dict()``; None where the file itself holds it. ``num_frames``: frames to sample from a video.
    """

    name: str
    source: str
    architecture: Mapping | None
    num_frames: int
    preprocessing: Preprocessing
    licence: str
    accuracy: str
    size_bytes: int | None
    sha256: str | None
    about: str


_CLIP_TOWERS = {  # vision width, layers, heads; text width and heads; embedding
    "B": (768, 12, 12, 512, 8, 512),
    "L": (1024, 24, 16, 768, 12, 768),
}


def _architecture(size: str, patch: int, frames: int, pixels: int) -> dict:
    width, layers, heads, text_width, text_heads, embed = _CLIP_TOWERS[size]
    return {
        "vision": {"image_size": pixels, "patch_size": patch, "width": width, "layers": layers, "heads": heads},
        "text": {"width": text_width, "layers": 12, "heads": text_heads},
        "embed_dim": embed,
        "num_frames": frames,
    }


def _official(name: str, size: str, patch: int, frames: int, accuracy: str, megabytes: int, pixels: int = 224):
    return ModelSpec(
        name=name,
        source=f"hf:microsoft/{name}",
        architecture=_architecture(size, patch, frames, pixels),
        num_frames=frames,
        preprocessing=as_published(pixels),
        licence="MIT",
        accuracy=accuracy,
        size_bytes=megabytes * 1_000_000,
        sha256=None,
        about=f"Microsoft's X-CLIP {size}/{patch}, {frames} frames of {pixels} pixels",
    )


def _frozen(
    model: str, tag: str, repository: str, preprocessing: Preprocessing, licence: str, accuracy: str, megabytes: int
):
    return ModelSpec(
        name=f"{OPEN_CLIP_PREFIX}{model}/{tag}",
        source=f"open_clip:{repository}",
        architecture=None,
        num_frames=8,
        preprocessing=preprocessing,
        licence=licence,
        accuracy=accuracy,
        size_bytes=megabytes * 1_000_000,
        sha256=None,
        about=f"open_clip's {model}, frozen, its normalised image features averaged over 8 frames",
    )


_MINI = ModelSpec(
    name="mini",
    source="bundled:mini.safetensors",
    architecture=None,
    num_frames=8,
    preprocessing=Preprocessing(resize=256, crop=256, mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    licence="Apache-2.0, research data",
    accuracy="26 clips: 69.2, by K400 names 35.0",
    size_bytes=79_156_290,
    sha256="b6661b83a8c7fc3915dd532de5fbee8305e3fd02b550590169b2240ffe4af15f",
    about="small X-CLIP that comes with the package, on EfficientNet-Lite2, 8 frames of 256 pixels; see MODEL_CARD.md",
)

_ALL = (
    _MINI,
    _official("xclip-base-patch32", "B", 32, 8, "K400 80.4", 786),
    _official("xclip-base-patch32-16-frames", "B", 32, 16, "K400 81.1", 786),
    _official("xclip-base-patch16", "B", 16, 8, "K400 83.8", 780),
    _official("xclip-base-patch16-16-frames", "B", 16, 16, "K400 84.7", 780),
    _official("xclip-base-patch16-kinetics-600", "B", 16, 8, "K600 85.3", 780),
    _official("xclip-base-patch16-kinetics-600-16-frames", "B", 16, 16, "K600 85.8", 780),
    _official("xclip-base-patch16-zero-shot", "B", 16, 32, "zero-shot: HMDB51 44.6, UCF101 72.0, K600 65.2", 780),
    _official("xclip-base-patch16-hmdb-2-shot", "B", 16, 32, "HMDB51 2-shot 53.0", 780),
    _official("xclip-base-patch16-hmdb-4-shot", "B", 16, 32, "HMDB51 4-shot 57.3", 780),
    _official("xclip-base-patch16-hmdb-8-shot", "B", 16, 32, "HMDB51 8-shot 62.8", 780),
    _official("xclip-base-patch16-hmdb-16-shot", "B", 16, 32, "HMDB51 16-shot 64.0", 780),
    _official("xclip-base-patch16-ucf-2-shot", "B", 16, 32, "UCF101 2-shot 76.4", 780),
    _official("xclip-base-patch16-ucf-4-shot", "B", 16, 32, "UCF101 4-shot 83.4", 780),
    _official("xclip-base-patch16-ucf-8-shot", "B", 16, 32, "UCF101 8-shot 88.3", 780),
    _official("xclip-base-patch16-ucf-16-shot", "B", 16, 32, "UCF101 16-shot 91.4", 780),
    _official("xclip-large-patch14", "L", 14, 8, "K400 87.1", 2300),
    _official("xclip-large-patch14-16-frames", "L", 14, 16, "K400 87.7", 2300, pixels=336),
    _official("xclip-large-patch14-kinetics-600", "L", 14, 8, "K600 88.3", 2300),
    _frozen(
        "PE-Core-B-16",
        "meta",
        "timm/PE-Core-B-16",
        Preprocessing(0, 224, *HALF, mode="squash", cropping="torchvision"),
        "Apache-2.0",
        "zero-shot: K400 65.6",
        1790,
    ),
    _frozen(
        "ViT-B-16",
        "openai",
        "timm/vit_base_patch16_clip_224.openai",
        Preprocessing(224, 224, *CLIP, interpolation="bicubic", cropping="torchvision"),
        "MIT",
        "zero-shot: HMDB51 47.9, UCF101 73.8, K600 68.1",
        599,
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _ALL}


def find(name: str) -> ModelSpec:
    """Return the model of this name, with or without ``microsoft/``. Raises ModelError naming close matches."""
    if spec := MODELS.get(name.removeprefix("microsoft/")):
        return spec
    close = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.5)
    raise ModelError(
        f"unknown model {name!r}: it is no model's name, and no file or folder is there",
        f"did you mean {' or '.join(close)}?" if close else "xclip models list shows the names",
    )
