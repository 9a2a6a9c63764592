"""Reading weight files. A file is data: no code in it is run, whatever its format."""

import math
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xclip_cli.errors import ModelError


def read_safetensors(path: Path, wanted: Callable[[str], bool] = lambda key: True) -> dict[str, Tensor]:
    """The tensors whose key is wanted, in memory of their own; the rest of the file is not read."""
    with open_safetensors(path) as file:
        return {key: file.get_tensor(key).clone() for key in file.keys() if wanted(key)}  # noqa: SIM118


class open_safetensors:
    """safetensors' reader, with our errors."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self):
        from safetensors import SafetensorError, safe_open

        try:
            self.file = safe_open(self.path, framework="pt")
            return self.file.__enter__()
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{self.path} cannot be read as safetensors: {error}") from error

    def __exit__(self, *failure):
        return self.file.__exit__(*failure)


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, as far as it is tensors and plain values.

    A yacs CfgNode, which Microsoft's checkpoints carry, comes as a dict; any other class or function that the file
    names is refused before it is touched. Tensors are mapped from the file, not read, where its format allows it.
    Raises ModelError.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ModelError(
                f"{path} is refused: its pickle asks for {found[1]}, which could run code; nothing was run",
                "take the model from a source you trust, as .safetensors",
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # bytes that anyone may have made can fail in any way while they are parsed
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModelError:
    if "TorchScript" in str(error):
        return ModelError(
            f"{path} is a TorchScript archive, which is a program; only weights are read",
            "OpenAI's own models: xclip models pull open_clip:ViT-B-16/openai",
        )
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return ModelError(f"{path} cannot be read as a checkpoint: {reason}")


def tensors_in(value: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint: the dict itself, or what stands under ``model`` or ``state_dict``."""
    for key in ("model", "state_dict"):
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping) or not value:
        raise ModelError(f"{path} holds no weights: expected a dict of tensors, found {type(value).__name__}")
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise ModelError(f"{path} holds no weights: {key!r} is a {type(tensor).__name__}, not a tensor")
    return {key.removeprefix("module."): tensor for key, tensor in value.items()}


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The module, built on the meta device, filled with float32 copies of exactly these tensors; in eval mode.

    Raises ModelError naming the first tensor that is missing, left over, of another shape or not finite.
    """
    expected = module.state_dict()
    for key in [*expected, *state]:
        found, needed = state.get(key), expected.get(key)
        if found is None or needed is None:
            trouble = "is missing" if found is None else "has no place in this architecture"
            raise ModelError(f"{path} does not fit: {key} {trouble}")
        if found.shape != needed.shape:
            shapes = f"{tuple(found.shape)}, the architecture needs {tuple(needed.shape)}"
            raise ModelError(f"{path} does not fit: {key} has the shape {shapes}")
    own = {key: tensor.to(torch.float32, copy=True).contiguous() for key, tensor in state.items()}
    check_finite(own, path)
    module.load_state_dict(own, strict=True, assign=True)
    return module.eval()


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """ModelError naming the first tensor with a NaN or an infinity in it, of which every score would be a NaN."""
    for key, tensor in state.items():
        if not math.isfinite(tensor.detach().sum(dtype=torch.float64)):
            raise ModelError(f"{path} is damaged: {key} holds what is no number (NaN or infinity)")
