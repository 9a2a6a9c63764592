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

from xclip_cli.checkpoint import hub
from xclip_cli.errors import ModelError

_POINTER = "a Git LFS pointer, not the file itself"
_TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_PARSING = (pickle.UnpicklingError, LookupError, EOFError, AttributeError, TypeError)
_SIGNATURES = (
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", _POINTER),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF model"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"<", "a web page or XML"),
    (b"{", "JSON text"),
)


def read_safetensors(path: Path, wanted: Callable[[str], bool] = lambda key: True) -> dict[str, Tensor]:
    """Return copies of the tensors whose key is wanted; the rest of the file is not read."""
    with open_safetensors(path) as file:
        return {key: file.get_tensor(key).clone() for key in file.keys() if wanted(key)}  # noqa: SIM118


class open_safetensors:
    """safetensors' reader as a context manager that raises ModelError."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self):
        from safetensors import SafetensorError, safe_open

        try:
            self.file = safe_open(self.path, framework="pt")
            return self.file.__enter__()
        except (OSError, SafetensorError) as error:
            raise _unreadable(self.path, "safetensors", error) from error

    def __exit__(self, *failure):
        return self.file.__exit__(*failure)


def read_pickle(path: Path) -> Any:
    """Return the tensors and plain values that `torch.save` wrote.

    A yacs CfgNode, as in Microsoft's checkpoints, becomes a dict. A file that names any other class or function is
    refused before that is imported. Tensors are memory-mapped where the format allows it. Raises ModelError.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
            warnings.simplefilter("ignore")
            if zipped := zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    unpacked = sum(item.file_size for item in archive.infolist())
                if unpacked > path.stat().st_size:
                    raise ValueError("its ZIP archive is compressed, or states sizes that it does not have")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ModelError(
                f"{path} is refused: its pickle asks for {found[1]}, which could run code; nothing was run",
                "take the model from a source you trust, as .safetensors",
            ) from error
        raise _unreadable(path, "a checkpoint", error) from error
    except Exception as error:  # bytes that anyone may have made can fail in any way while they are parsed
        raise _unreadable(path, "a checkpoint", error) from error


def _unreadable(path: Path, wanted: str, error: Exception) -> ModelError:
    if "TorchScript" in str(error):
        return ModelError(
            f"{path} is a TorchScript archive, which is a program; only weights are read",
            "OpenAI's own models: xclip models pull open_clip:ViT-B-16/openai",
        )
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if kind := _kind(path):
        reason = f"it is {kind}"
    elif "weights_only" in reason or isinstance(error, _PARSING):  # PyTorch says how to run the file's code
        reason = "it is damaged, or of another kind"
    hint = "git lfs pull gets the file itself" if kind == _POINTER else hub.repair(path)
    return ModelError(f"{path} cannot be read as {wanted}: {reason}", hint)


def _kind(path: Path) -> str | None:
    """Return what the file is by its first bytes; None if it may be weights."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return "the beginning of a ZIP archive: the rest is missing"
        with zipfile.ZipFile(path) as archive:
            is_checkpoint = any(name.endswith("data.pkl") for name in archive.namelist())
        if is_checkpoint and path.suffix == ".safetensors":
            return "a file of torch.save, whose name must end in .pth"
        return None if is_checkpoint else "a ZIP archive without weights"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[4:8] == b"ftyp":
        return "a video"
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return None if _TORCH_MAGIC in head else "a pickle that torch.save did not write"
    if head[8:9] == b"{" and path.suffix != ".safetensors":
        return "a safetensors file, whose name must end in .safetensors"
    return next((kind for start, kind in _SIGNATURES if head.startswith(start)), None if head else "an empty file")


def tensors_in(value: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint: the dict itself, or its entry ``model`` or ``state_dict``."""
    for key in ("model", "state_dict"):
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping) or not value:
        raise ModelError(f"{path} holds no weights: expected a dict of tensors, found {type(value).__name__}")
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise ModelError(f"{path} holds no weights: {key!r:.80} is a {type(tensor).__name__}, not a tensor")
        if not _is_plain(tensor):
            raise ModelError(f"{path} is damaged: {key!r:.80} is no plain tensor of numbers that the file holds")
    return {key.removeprefix("module."): tensor for key, tensor in value.items()}


def _is_plain(tensor: Tensor) -> bool:
    """Return whether it is dense, real, not quantised, and no larger than its storage."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Return the module, built on the meta device, with float32 copies of exactly these tensors; in eval mode.

    Raises ModelError naming the first tensor that is missing, left over, of another shape or not finite.
    """
    expected = module.state_dict()
    for key in [*expected, *state]:
        found, needed = state.get(key), expected.get(key)
        if found is None or needed is None:
            trouble = "is missing" if found is None else "has no place in this architecture"
            raise ModelError(f"{path} does not fit: {key} {trouble}", hub.repair(path))
        if found.shape != needed.shape:
            shapes = f"{tuple(found.shape)}, the architecture needs {tuple(needed.shape)}"
            raise ModelError(f"{path} does not fit: {key} has the shape {shapes}")
    own = {key: tensor.to(torch.float32, copy=True).contiguous() for key, tensor in state.items()}
    check_finite(own, path)
    module.load_state_dict(own, strict=True, assign=True)
    return module.eval()


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError for the first tensor with a NaN or an infinity: every score would be NaN."""
    for key, tensor in state.items():
        if not math.isfinite(tensor.detach().sum(dtype=torch.float64)):
            raise ModelError(f"{path} is damaged: {key} holds what is no number (NaN or infinity)", hub.repair(path))
