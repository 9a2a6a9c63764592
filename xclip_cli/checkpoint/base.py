"""Checkpoint: a model that was found and checked, whose parts are loaded when they are called for."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.checkpoint.tensors import load_strictly
from xclip_cli.errors import ModelError
from xclip_cli.files import content_sha256
from xclip_cli.model.config import XclipConfig
from xclip_cli.model.text import make_tokenizer, make_tower, trim
from xclip_cli.model.xclip import Xclip

_CHUNK = 64  # texts encoded at once: 400 labels x 16 templates in one batch would need 70 GB


@dataclass(frozen=True)
class TextEncoder:
    """A text tower with its tokenizer: N texts -> features float32 (N, E) on the CPU, not normalised.

    ``count_tokens(texts)`` counts the tokens of each text, start and end included. The tokenizer truncates texts of
    more than ``context_length``. ``stored`` maps texts to features (E,) that replace the tower's.
    """

    encode: Callable[[Tensor], Tensor]
    tokenize: Callable[[list[str]], Tensor]
    count_tokens: Callable[[list[str]], list[int]]
    context_length: int
    stored: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, texts: list[str]) -> Tensor:
        with torch.inference_mode():
            chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
            features = torch.cat([self.encode(self.tokenize(chunk)).float() for chunk in chunks])
        rows = zip(texts, features.clone(), strict=True)  # outside inference mode, so that training may use it
        return torch.stack([self.stored.get(text, row) for text, row in rows])


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found and checked but not loaded.

    ``tagging_model`` builds both towers for tagging; ``full_model`` builds the same as an Xclip, which can be trained.
    ``num_frames``: frames to sample from a video. ``default_labels``: the class names of a fine-tuned model, else None.
    ``identity``: what changes the scores besides the bytes of ``path`` and the preprocessing. ``prompted``: whether
    video-specific prompting changes the text features. ``warnings``: a line for each guess that may be wrong.
    """

    name: str
    path: Path
    preprocessing: Preprocessing
    num_frames: int
    video_model: Callable[[], nn.Module]
    text_encoder: Callable[[], TextEncoder]
    tagging_model: Callable[[], nn.Module]
    full_model: Callable[[], Xclip]
    default_labels: list[str] | None = None
    identity: str = field(default="", repr=False)
    prompted: bool = False
    warnings: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the weights, the preprocessing and the identity."""
        parts = content_sha256(self.path), self.identity, self.preprocessing
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def not_downloaded(name: str) -> ModelError:
    return ModelError(f"model {name!r} is not on this machine", f"get it with: xclip models pull {name}")


def xclip_checkpoint(
    name: str,
    path: Path,
    config: XclipConfig,
    preprocessing: Preprocessing,
    read: Callable[[Callable[[str], bool]], Mapping[str, Tensor]],
    stored: Mapping[str, Tensor] | None = None,
    **more,
) -> Checkpoint:
    """Return the checkpoint of an Xclip of this configuration.

    ``read(wanted)`` returns tensors by our names: at least those whose key in the file is wanted.
    """

    def load(build: Callable[[], nn.Module], part: Callable[[str], bool]) -> nn.Module:
        with torch.device("meta"):
            module = build()
        return load_strictly(module, {key: value for key, value in read(part).items() if part(key)}, path)

    def text_encoder() -> TextEncoder:
        tower = load(
            lambda: nn.ModuleDict({"text": make_tower(config.text, config.embed_dim, config.activation)}), _is_text
        )["text"]
        encode, length = lambda tokens: tower(trim(tokens)), config.text.context_length
        return TextEncoder(encode, *make_tokenizer(config.text), length, stored or {})

    def full_model() -> Xclip:
        return load(lambda: Xclip(config), lambda key: True)

    return Checkpoint(
        name,
        path,
        preprocessing,
        config.num_frames,
        video_model=lambda: load(lambda: Xclip(config, text=False), lambda key: not _is_text(key)),
        text_encoder=text_encoder,
        tagging_model=full_model,
        full_model=full_model,
        prompted=config.prompt_layers > 0,
        **more,
    )


def _is_text(key: str) -> bool:
    """Return whether the key belongs to the text tower, by our names or by Hugging Face's."""
    return key.startswith(("text.", "text_model.", "text_projection."))


@contextmanager
def convert_errors(path: Path) -> Iterator[Path]:
    """Convert whatever the body raises over settings of unknown origin into a ModelError."""
    try:
        yield path
    except (OSError, LookupError, AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} cannot be understood: {error!r}") from error
