"""Networks that one might use instead: torchvision's and transformers', with random weights.

Speed does not depend on the weights. The accuracies are those of the weights that are published: torchvision's own,
and for TimeSformer (facebookresearch/TimeSformer) and VideoMAE (MCG-NJU/VideoMAE, MODEL_ZOO.md) their authors'.
"""

import importlib.util
from collections.abc import Callable

from xclip_cli.benchmark.networks import Network, published, quiet
from xclip_cli.checkpoint.registry import MODELS, ModelSpec
from xclip_cli.errors import MissingExtraError, UsageError

# Frames of a clip and pixels of its sides, as torchvision measured its accuracy.
_TORCHVISION = {
    "r3d_18": (16, 112),
    "s3d": (128, 224),
    "mvit_v2_s": (16, 224),
    "swin3d_t": (32, 224),
    "swin3d_s": (32, 224),
    "swin3d_b": (32, 224),
}
_OFFICIAL = ("base-patch32", "base-patch16", "large-patch14")
_TRANSFORMERS = {
    **{f"transformers:xclip-{size}": ("XCLIP", 8, None) for size in _OFFICIAL},
    "transformers:vivit": ("Vivit", 32, None),
    "transformers:timesformer": ("Timesformer", 8, 77.9),
    "transformers:videomae": ("VideoMAE", 16, 80.9),
}
NAMES = (*_TORCHVISION, *_TRANSFORMERS)
_USUAL = ("r3d_18", "s3d", "mvit_v2_s", "swin3d_t", "transformers:xclip-base-patch32")


def choose(names: str) -> list[str]:
    """The rivals that ``names``, separated by commas, name: ``usual``, ``all`` (of what is installed) or ``none``.

    Raises UsageError for an unknown one, MissingExtraError for one that is asked for by name and not installed.
    """
    if names in ("usual", "all"):
        return [name for name in (_USUAL if names == "usual" else NAMES) if _installed(name)]
    chosen = [name.strip() for name in names.split(",") if name.strip() and names != "none"]
    for name in chosen:
        if name not in NAMES:
            raise UsageError(f"--against names {name!r}: known are {', '.join(NAMES)}", "or usual, all, none")
        if not _installed(name):
            raise MissingExtraError(f"{name!r} needs transformers, which is not installed", "pip install transformers")
    return chosen


def rival(name: str) -> Network:
    """The network of one of NAMES, in eval mode."""
    with quiet():
        return _of_torchvision(name) if name in _TORCHVISION else _of_transformers(name)


def _installed(name: str) -> bool:
    return name in _TORCHVISION or importlib.util.find_spec("transformers") is not None


def _of_torchvision(name: str) -> Network:
    from torchvision.models import get_model, get_model_weights

    num_frames, side = _TORCHVISION[name]
    accuracy = get_model_weights(name).DEFAULT.meta["_metrics"]["Kinetics-400"]["acc@1"]
    shape = (3, num_frames, side, side)
    return Network(name, get_model(name).eval(), shape, lambda module, clips: module(clips), num_frames, accuracy)


def _of_transformers(name: str) -> Network:
    import transformers

    kind, num_frames, accuracy = _TRANSFORMERS[name]
    config, model = getattr(transformers, f"{kind}Config")(), getattr(transformers, f"{kind}Model")
    encode: Callable = lambda module, clips: module(clips)  # noqa: E731
    if kind == "XCLIP":
        spec = MODELS[name.partition(":")[2]]
        config, accuracy = _official(config, spec), published(spec)
        encode = lambda module, clips: module.get_video_features(clips)  # noqa: E731
    return Network(name, model(config).eval(), (num_frames, 3, 224, 224), encode, num_frames, accuracy)


def _official(config, spec: ModelSpec):
    """The reference implementation's configuration in the size of a registered model."""
    sizes = spec.architecture
    vision, text, width = sizes["vision"], sizes["text"], sizes["embed_dim"]
    return type(config)(
        text_config={
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_attention_heads": text["heads"],
        },
        vision_config={
            "patch_size": vision["patch_size"],
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["heads"],
            "mit_hidden_size": width,
            "mit_intermediate_size": 4 * width,
            "mit_num_attention_heads": width // 64,
        },
        projection_dim=width,
        prompt_num_attention_heads=width // 64,
    )
