"""Text features of a label set, from memory, then from disk, and from the text tower only where both have none.

They are kept per model fingerprint and prompt, before video-specific prompting, which depends on the video. With every
prompt on disk neither the tokenizer nor the text tower is loaded, and for `prompt_features` not even torch.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from xclip_cli.errors import LabelError
from xclip_cli.files import cache_dir
from xclip_cli.labels import Label, LabelSet

if TYPE_CHECKING:
    from torch import Tensor

LOCK_SECONDS = 10.0  # how long another process may keep the file before it is done without
_memory: dict[str, dict[str, np.ndarray]] = {}  # fingerprint -> prompt -> float32 (E,)
T = TypeVar("T")


class TextEncoder(Protocol):
    context_length: int

    def __call__(self, texts: list[str]) -> "Tensor": ...
    def count_tokens(self, texts: list[str]) -> list[int]: ...


class Model(Protocol):
    """As much of a Checkpoint as is needed here."""

    fingerprint: str

    def text_encoder(self) -> TextEncoder: ...


def text_features(label_set: LabelSet, checkpoint: Model) -> "Tensor":
    """Features float32 (N, E) on the CPU: one row for each label, then one for each background entry.

    A label of several prompts has the direction of the mean of their unit vectors, and their mean length.
    Raises LabelError for a prompt that is longer than the text tower's context.
    """
    import torch  # here, for those that only read what is on disk

    entries = (*label_set.labels, *label_set.background)
    known = prompt_features(entries, checkpoint)
    return torch.stack([_average([known[prompt] for prompt in entry.prompts]) for entry in entries])


def prompt_features(entries: Sequence[Label], checkpoint: Model) -> Mapping[str, np.ndarray]:
    """Features float32 (E,) of all prompts of these labels, by prompt. Raises LabelError as `text_features`."""
    known = _memory.setdefault(checkpoint.fingerprint, {})
    missing = _unknown(entries, known)
    if missing:
        path = cache_dir() / "text" / f"{checkpoint.fingerprint}.sqlite"
        known.update(_read(path, missing))
        missing = _unknown(entries, known)
    if missing:
        encoder = checkpoint.text_encoder()
        check_lengths(entries, set(missing), encoder)
        fresh = dict(zip(missing, encoder(missing).numpy(), strict=True))
        known.update(fresh)
        _write(path, fresh)
    return known


def forget() -> None:
    """Lets go of what this process holds in memory; what is on disk stays."""
    _memory.clear()


def _unknown(entries: Iterable[Label], known: dict) -> list[str]:
    return [p for p in dict.fromkeys(p for entry in entries for p in entry.prompts) if p not in known]


def _average(vectors: list[np.ndarray]) -> "Tensor":
    import torch

    rows = torch.from_numpy(np.stack(vectors))
    if len(rows) == 1:
        return rows[0]
    lengths = rows.norm(dim=1, keepdim=True)
    return torch.nn.functional.normalize((rows / lengths).mean(dim=0), dim=0) * lengths.mean()


def check_lengths(entries: Iterable[Label], chosen: set[str], encoder: TextEncoder) -> None:
    """Raises LabelError for one of these prompts that is longer than the encoder reads."""
    for entry in entries:
        prompts = [prompt for prompt in entry.prompts if prompt in chosen]
        for prompt, tokens in zip(prompts, encoder.count_tokens(prompts), strict=True):
            if tokens > encoder.context_length:
                where = f"{entry.source}: " if entry.source else ""
                raise LabelError(
                    f"{where}prompt {prompt[:60]!r} is {tokens} tokens long; this model reads {encoder.context_length}",
                    "shorten the prompt",
                )


def _read(path: Path, prompts: list[str]) -> dict[str, np.ndarray]:
    def select(base: sqlite3.Connection) -> dict[str, np.ndarray]:
        rows = (base.execute("SELECT vector, checksum FROM prompts WHERE prompt = ?", (p,)).fetchone() for p in prompts)
        found = {
            prompt: np.frombuffer(row[0], np.float32).copy()
            for prompt, row in zip(prompts, rows, strict=True)
            if row and row[1] == _checksum(prompt, row[0])
        }
        if len({len(vector) for vector in found.values()}) > 1 or not all(np.isfinite(v).all() for v in found.values()):
            raise ValueError("these are not features of one model")
        return found

    return (_use(path, select) if path.exists() else None) or {}


def _write(path: Path, vectors: dict[str, np.ndarray]) -> None:
    """All of them in one transaction: after a kill either all are there or none."""
    rows = [(prompt, blob, _checksum(prompt, blob)) for prompt, blob in ((p, v.tobytes()) for p, v in vectors.items())]
    _use(path, lambda base: base.executemany("INSERT OR REPLACE INTO prompts VALUES (?, ?, ?)", rows))


def _use(path: Path, work: Callable[[sqlite3.Connection], T]) -> T | None:
    """What the work gives. A damaged file is replaced; one that cannot be used now (locked, read-only) is let be."""
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as base, base:
                base.execute("CREATE TABLE IF NOT EXISTS prompts (prompt TEXT PRIMARY KEY, vector BLOB, checksum INT)")
                return work(base)
        except (OSError, sqlite3.OperationalError):
            return None
        except (sqlite3.DatabaseError, ValueError, TypeError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return None


def _checksum(prompt: str, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(prompt.encode()))
