"""A model's name or path -> its Checkpoint, without loading weights and without the network."""

import re
from pathlib import Path

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.base import Checkpoint, not_downloaded
from xclip_cli.checkpoint.official import open_hugging_face, open_microsoft
from xclip_cli.checkpoint.ours import open_ours, read_metadata
from xclip_cli.checkpoint.registry import MODELS, OPEN_CLIP_PREFIX, ModelSpec, find
from xclip_cli.errors import ModelError
from xclip_cli.model.xclip import Xclip

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def load_model(name_or_path: str) -> Xclip:
    """Return the whole network, both towers, float32 on the CPU, in eval mode.

    open_clip's native ViTs become an Xclip with its three switches off. Raises ModelError as `open_checkpoint` does.
    """
    return open_checkpoint(name_or_path).full_model()


def open_checkpoint(name_or_path: str) -> Checkpoint:
    """Return the checkpoint of a model on this machine, without loading it and without the network.

    Takes a registered name; ORG/REPO of the Hugging Face Hub; a folder in its layout; our .safetensors or a folder with
    one; Microsoft's .pth; ``open_clip:ARCHITECTURE[/TAG]`` or ``open_clip:ARCHITECTURE=FILE``.
    Raises ModelError for a model that is unknown, not downloaded, damaged or another network.
    """
    name = str(name_or_path)
    if name.startswith(OPEN_CLIP_PREFIX):
        from xclip_cli.checkpoint.frozen import open_frozen  # here, since it takes open_clip

        return open_frozen(name)
    if name in MODELS:
        return _open_registered(MODELS[name])
    path = hub.user_path(name)
    if path.is_dir():
        return _open_folder(path)
    if path.exists():
        return _open_file(path)
    if path.suffix in _SUFFIXES:
        raise ModelError(f"there is no file {name!r}", "xclip models list shows the models that have a name")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("microsoft/"):
        return _open_registered(find(name))
    if folder := hub.snapshot(name):
        return _open_folder(folder, name)
    raise not_downloaded(name)


def _open_registered(spec: ModelSpec) -> Checkpoint:
    path = hub.local_file(spec)
    if path is None and spec.source.startswith("bundled:"):
        raise ModelError(f"the bundled model {spec.name!r} is missing", "reinstall xclip-cli")
    if path is None:
        raise not_downloaded(spec.name)
    if spec.source.startswith("hf:"):
        return _open_folder(path.parent, spec.name, spec)
    return _open_file(path, spec.name)


def _open_file(path: Path, name: str | None = None) -> Checkpoint:
    if path.suffix == ".safetensors":
        about = read_metadata(path)
        if about is not None:
            return open_ours(path, about, name)
    if (path.parent / "config.json").is_file() and path.name in hub.WEIGHT_FILES:
        return _open_folder(path.parent, name)
    if path.suffix == ".safetensors":
        raise ModelError(
            f"{path} does not say what network it is: xclip-cli did not write it, and no config.json is beside it",
            "for a model of open_clip: open_clip:ARCHITECTURE=FILE",
        )
    return open_microsoft(path, name)


def _open_folder(folder: Path, name: str | None = None, spec: ModelSpec | None = None) -> Checkpoint:
    path = hub.first_in(folder, hub.WEIGHT_FILES)
    if path is None:
        names = ", ".join(hub.WEIGHT_FILES)
        raise ModelError(f"{folder} has no weights: none of {names} is in it", hub.repair(folder))
    if path.suffix == ".safetensors" and (about := read_metadata(path)) is not None:
        return open_ours(path, about, None)
    return open_hugging_face(path, name or folder.resolve().name, spec)
