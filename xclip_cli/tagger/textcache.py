"""Text features of a label set: from memory, then from disk, and from the text tower where both have none.

They are kept per model fingerprint and prompt, before video-specific prompting, which depends on the video. With every
prompt on disk neither the tokenizer nor the text tower is loaded, and `prompt_features` does not import torch.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xclip_cli.errors import LabelError
from xclip_cli.files import cache_dir, from_json, replacing
from xclip_cli.labels import Label, LabelSet

if TYPE_CHECKING:
    from torch import Tensor

    from xclip_cli.checkpoint.base import Checkpoint, TextEncoder

LOCK_SECONDS = 10.0  # after this wait for another process the new features are not stored
MOST_PROMPTS = 16_384  # stored per model, 32 MiB at 512 numbers each; the oldest are dropped
_memory: dict[str, dict[str, np.ndarray]] = {}  # fingerprint -> prompt -> float32 (E,)


def text_features(label_set: LabelSet, checkpoint: "Checkpoint") -> "Tensor":
    """Return features float32 (N, E) on the CPU: one row for each label, then one for each background entry.

    A label of several prompts has the direction of the mean of their unit vectors, and their mean length.
    Raises LabelError for a prompt that is longer than the text tower's context.
    """
    import torch  # here, for those that only read what is on disk

    entries = (*label_set.labels, *label_set.background)
    vectors = prompt_features(entries, checkpoint)
    return torch.stack([_average([vectors[prompt] for prompt in entry.prompts]) for entry in entries])


def prompt_features(entries: Sequence[Label], checkpoint: "Checkpoint") -> Mapping[str, np.ndarray]:
    """Return the features float32 (E,) of at least the prompts of these labels. Raises LabelError."""
    vectors = _memory.setdefault(checkpoint.fingerprint, {})
    prompts = list(dict.fromkeys(prompt for entry in entries for prompt in entry.prompts))
    path = cache_dir() / "text" / f"{checkpoint.fingerprint}.safetensors"
    if any(prompt not in vectors for prompt in prompts):
        vectors.update(_read(path))
    if missing := [prompt for prompt in prompts if prompt not in vectors]:
        encoder = checkpoint.text_encoder()
        check_lengths(entries, set(missing), encoder)
        vectors.update(zip(missing, encoder(missing).numpy(), strict=True))
        _store(path, {prompt: vectors[prompt] for prompt in prompts})
    return vectors


def forget() -> None:
    """Clear the features in this process's memory; the files stay."""
    _memory.clear()


def _average(vectors: list[np.ndarray]) -> "Tensor":
    import torch

    rows = torch.from_numpy(np.stack(vectors))
    if len(rows) == 1:
        return rows[0]
    lengths = rows.norm(dim=1, keepdim=True)
    return torch.nn.functional.normalize((rows / lengths).mean(dim=0), dim=0) * lengths.mean()


def check_lengths(entries: Iterable[Label], chosen: set[str], encoder: "TextEncoder") -> None:
    """Raise LabelError for the first of the chosen prompts that is longer than the encoder's context."""
    for entry in entries:
        prompts = [prompt for prompt in entry.prompts if prompt in chosen]
        for prompt, tokens in zip(prompts, encoder.count_tokens(prompts), strict=True):
            if tokens > encoder.context_length:
                where = f"{entry.source}: " if entry.source else ""
                raise LabelError(
                    f"{where}prompt {prompt[:60]!r} is {tokens} tokens long; this model reads {encoder.context_length}",
                    "shorten the prompt",
                )


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the stored features by prompt; none where the file is absent, damaged or of another model."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            rows, about = file.get_tensor("features"), file.metadata() or {}
        prompts = from_json(about["prompts"], list[str])
        fits = rows.dtype == np.float32 and rows.ndim == 2 and len(rows) == len(prompts)
        if fits and about["checksum"] == _checksum(path, about["prompts"], rows) and np.isfinite(rows).all():
            return dict(zip(prompts, rows, strict=True))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError):
        pass
    return {}


def _store(path: Path, vectors: dict[str, np.ndarray]) -> None:
    """Add these features to the file. A cache that cannot be written or is locked costs time, nothing else."""
    from filelock import FileLock
    from safetensors.numpy import save

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent.with_suffix(".lock"), timeout=LOCK_SECONDS):
            stored = {prompt: row for prompt, row in _read(path).items() if prompt not in vectors} | vectors
            newest = list(stored)[-max(MOST_PROMPTS, len(vectors)) :]
            rows, prompts = np.stack([stored[prompt] for prompt in newest]), json.dumps(newest)
            about = {"prompts": prompts, "checksum": _checksum(path, prompts, rows)}
            with replacing(path) as draft:
                draft.write_bytes(save({"features": rows}, about))
    except (OSError, NotImplementedError):
        pass


def _checksum(path: Path, prompts: str, rows: np.ndarray) -> str:
    return str(zlib.crc32(rows.tobytes(), zlib.crc32(f"{path.stem} {prompts}".encode())))
