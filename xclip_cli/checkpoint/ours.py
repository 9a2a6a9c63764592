"""Our format: one .safetensors with the weights and, as JSON metadata, everything else about the model."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from xclip_cli.checkpoint.base import Checkpoint, convert_errors, xclip_checkpoint
from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.checkpoint.tensors import check_finite, open_safetensors, read_safetensors
from xclip_cli.errors import ModelError, OutputError
from xclip_cli.files import replacing
from xclip_cli.model.config import XclipConfig
from xclip_cli.model.xclip import Xclip

METADATA_KEY, LABEL_FEATURES = "xclip", "label_features"
FORMAT = 1


def save(
    model: Xclip,
    path: str | Path,
    *,
    preprocessing: Preprocessing,
    name: str,
    labels: Sequence[str] | None = None,
    label_features: Tensor | None = None,
    made_by: str = "",
) -> None:
    """Write one .safetensors that reloads by its path alone: the weights as they are, the rest as JSON metadata.

    ``labels`` are the class names that the model was tuned on. ``label_features`` (N, E), if given, replace the text
    tower's features of them (a linear probe). The file is written atomically. Raises OutputError.
    """
    import safetensors
    from safetensors.torch import save_file

    path = Path(path)
    about = {
        "format": FORMAT,
        "name": name,
        "config": model.config.to_dict(),
        "preprocessing": asdict(preprocessing),
        "labels": None if labels is None else list(labels),
        "made_by": made_by,
    }
    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    if label_features is not None:
        state[LABEL_FEATURES] = label_features.detach().cpu().contiguous()
    try:
        with replacing(path) as draft:
            save_file(state, draft, metadata={METADATA_KEY: json.dumps(about, ensure_ascii=False)})
    except (OSError, safetensors.SafetensorError) as error:
        raise OutputError(f"{path} cannot be written: {error}") from error


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Return the metadata that `save` wrote; None for a safetensors file of another program."""
    with open_safetensors(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        about = json.loads(text)
        made_for = about["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its metadata cannot be read ({error!r})") from error
    if made_for != FORMAT:
        raise ModelError(f"{path} has format {made_for!r}; this version reads {FORMAT}", "pip install -U xclip-cli")
    return about


def open_ours(path: Path, about: Mapping, name: str | None) -> Checkpoint:
    """Return the checkpoint of such a file; ``about`` is its metadata."""
    with convert_errors(path):
        config = XclipConfig.from_dict(about["config"])
        preprocessing = Preprocessing(**about["preprocessing"])
        if preprocessing.crop != config.vision.image_size:
            raise ValueError(f"frames of {preprocessing.crop} pixels for a network of {config.vision.image_size}")
        name, labels = name or str(about["name"]), about["labels"]
        names = labels if isinstance(labels, list) else []
        if labels not in (None, names) or not all(isinstance(name, str) and name.isprintable() for name in names):
            raise TypeError(f"labels are {labels!r:.40}, not a list of printable names")
        stored = _stored_features(path, [name.strip() for name in names], config) if names else {}

    def read(wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        return read_safetensors(path, lambda key: key != LABEL_FEATURES and wanted(key))

    return xclip_checkpoint(name, path, config, preprocessing, read, stored, default_labels=labels)


def _stored_features(path: Path, prompts: Sequence[str], config: XclipConfig) -> dict[str, Tensor]:
    """Return the features of its labels that the file holds, if any. Raises ModelError."""
    found = read_safetensors(path, lambda key: key == LABEL_FEATURES)
    check_finite(found, path)
    for features in found.values():
        if features.shape != (len(prompts), config.embed_dim):
            shapes = f"{tuple(features.shape)}, its labels need {(len(prompts), config.embed_dim)}"
            raise ModelError(f"{path} is damaged: {LABEL_FEATURES} has the shape {shapes}")
        return dict(zip(prompts, features.float(), strict=True))
    return {}
