"""X-CLIP in other formats: folders of transformers with a config.json, and Microsoft's .pth."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.base import Checkpoint, convert_errors, xclip_checkpoint
from xclip_cli.checkpoint.keymap import translate
from xclip_cli.checkpoint.registry import OPEN_CLIP_PREFIX, ModelSpec, Preprocessing, as_published
from xclip_cli.checkpoint.tensors import read_pickle, read_safetensors, tensors_in
from xclip_cli.errors import ModelError
from xclip_cli.model.config import HEAD_WIDTH, TextConfig, VisionConfig, XclipConfig


def open_hugging_face(path: Path, name: str, spec: ModelSpec | None) -> Checkpoint:
    """Return the checkpoint of a weight file in a folder of transformers; ``spec`` for the authors' own models."""
    folder = path.parent
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, which says what network its weights are", hub.repair(folder))
    with convert_errors(folder / "config.json") as settings_path:
        config = _config_from_hugging_face(json.loads(settings_path.read_text("utf-8")), settings_path)
    if spec:  # trained with heads of 64 everywhere, which the converted config.json need not say
        config, preprocessing = replace(config, mit_heads=None, prompt_heads=None), spec.preprocessing
    else:
        preprocessing = _preprocessing_of(folder, config.vision.image_size)

    def read(wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        if path.suffix == ".safetensors":
            return translate(read_safetensors(path, wanted), "huggingface", path)
        return translate(tensors_in(read_pickle(path), path), "huggingface", path)

    identity = json.dumps(config.to_dict(), sort_keys=True)
    return xclip_checkpoint(
        name, path, config, preprocessing, read, identity=identity, warnings=_head_warnings(name, config)
    )


def _head_warnings(name: str, config: XclipConfig) -> tuple[str, ...]:
    """Warn of heads that are not embed_dim / 64: transformers' conversion gave L/14 8 heads, trained were 12."""
    trained, found = config.embed_dim // HEAD_WIDTH, (config.mit_heads, config.prompt_heads)
    if config.embed_dim % HEAD_WIDTH or found == (trained, trained):
        return ()
    return (
        f"{name}: config.json gives the MIT {found[0]} and the prompts {found[1]} heads, and so it is run; X-CLIP's "
        f"authors trained {trained}, which answers otherwise. For {trained}, take the model by its registered name, or "
        "set vision_config.mit_num_attention_heads and prompt_num_attention_heads in config.json",
    )


def open_microsoft(path: Path, name: str | None) -> Checkpoint:
    """Return the checkpoint of a .pth of microsoft/VideoX. Raises ModelError for a CLIP for images."""
    state = translate(tensors_in(read_pickle(path), path), "microsoft", path, complete=True)
    config = XclipConfig.from_state(state)
    if not config.mit_layers and not config.prompt_layers:
        raise ModelError(
            f"{path} is a CLIP for images, not an X-CLIP", f"as it is: {OPEN_CLIP_PREFIX}ARCHITECTURE={path}"
        )
    return xclip_checkpoint(name or path.stem, path, config, as_published(config.vision.image_size), lambda _: state)


def _config_from_hugging_face(settings: Mapping, path: Path) -> XclipConfig:
    """Return the configuration of transformers' XCLIPConfig; the defaults are X-CLIP B/32's."""
    if settings.get("model_type") != "xclip":
        raise ModelError(f"{path} is of model type {settings.get('model_type')!r}; it must be 'xclip'")
    vision, text = settings.get("vision_config") or {}, settings.get("text_config") or {}
    activations = {
        vision.get("hidden_act", "quick_gelu"),
        text.get("hidden_act", "quick_gelu"),
        settings.get("prompt_hidden_act", "quick_gelu"),
    }
    epsilons = {vision.get("layer_norm_eps", 1e-5), text.get("layer_norm_eps", 1e-5)}
    if len(activations) > 1 or epsilons != {1e-5}:
        raise ModelError(
            f"{path}: activations {sorted(activations)} and layer_norm_eps {sorted(epsilons)}; "
            "one activation everywhere and 1e-05 are supported"
        )
    return XclipConfig(
        vision=VisionConfig(
            image_size=vision.get("image_size", 224),
            patch_size=vision.get("patch_size", 32),
            width=vision.get("hidden_size", 768),
            layers=vision.get("num_hidden_layers", 12),
            heads=vision.get("num_attention_heads", 12),
        ),
        text=TextConfig(
            context_length=text.get("max_position_embeddings", 77),
            vocab_size=text.get("vocab_size", 49408),
            width=text.get("hidden_size", 512),
            layers=text.get("num_hidden_layers", 12),
            heads=text.get("num_attention_heads", 8),
        ),
        embed_dim=settings.get("projection_dim", 512),
        num_frames=vision.get("num_frames", 8),
        mit_layers=vision.get("mit_num_hidden_layers", 1),
        mit_heads=vision.get("mit_num_attention_heads", 8),
        prompt_layers=settings.get("prompt_layers", 2),
        prompt_heads=settings.get("prompt_num_attention_heads", 8),
        prompt_alpha=settings.get("prompt_alpha", 0.1),
        activation=activations.pop(),
    )


def _preprocessing_of(folder: Path, image_size: int) -> Preprocessing:
    """Return the authors' preprocessing with the sizes, mean, std and filter of preprocessor_config.json, if any.

    transformers resizes with antialiasing; the weights were trained without it.
    """
    path, published = folder / "preprocessor_config.json", as_published(image_size)
    if not path.is_file():
        return published
    with convert_errors(path):
        settings = json.loads(path.read_text("utf-8"))
        size, crop = settings.get("size", image_size), settings.get("crop_size", image_size)
        return replace(
            published,
            resize=size["shortest_edge"] if isinstance(size, Mapping) else size,
            crop=crop["height"] if isinstance(crop, Mapping) else crop,
            mean=settings.get("image_mean", Preprocessing.mean),
            std=settings.get("image_std", Preprocessing.std),
            interpolation="bicubic" if settings.get("resample") == 3 else "bilinear",
        )
