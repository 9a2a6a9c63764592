"""Models of open_clip, frozen: their normalised image features are averaged over the frames.

    open_clip:ARCHITECTURE/TAG    the weights of that tag, from Hugging Face's cache
    open_clip:ARCHITECTURE        the first tag that open_clip lists
    open_clip:ARCHITECTURE=FILE   a local checkpoint; ARCHITECTURE-quickgelu for weights trained with QuickGELU

Preprocessing, tokenizer, context length and activation are those that open_clip has for the model.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import open_clip
import torch
from torch import nn

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.base import Checkpoint, TextEncoder, not_downloaded
from xclip_cli.checkpoint.keymap import translate
from xclip_cli.checkpoint.registry import CLIP, OPEN_CLIP_PREFIX, Preprocessing
from xclip_cli.checkpoint.tensors import check_finite, load_strictly, read_pickle, read_safetensors, tensors_in
from xclip_cli.errors import MissingExtraError, ModelError
from xclip_cli.model.openclip import FrozenClip, native_config
from xclip_cli.model.xclip import Xclip

NUM_FRAMES = 8
_OPENAI = {"mean": CLIP[0], "std": CLIP[1], "interpolation": "bicubic", "resize_mode": "shortest"}


@dataclass(frozen=True)
class Source:
    """Where a model of open_clip comes from: a tag with its settings, or a file."""

    architecture: str
    tag: str | None
    settings: Mapping  # of the tag; of a file, those of the architecture's first tag, for the preprocessing
    file: Path | None = None

    @property
    def repository(self) -> tuple[str, tuple[str, ...]]:
        """The hub's repository and the names that the weights may have in it, best first."""
        repository, _, name = self.settings.get("hf_hub", "").rpartition("/")
        if not repository:
            raise ModelError(
                f"open_clip has the weights {self.architecture}/{self.tag} at {self.settings.get('url')} alone",
                f"download them, then: {OPEN_CLIP_PREFIX}{self.architecture}=FILE",
            )
        return repository, (name.rpartition(".")[0] + ".safetensors", name) if name else hub.OPEN_CLIP_FILES


def open_frozen(name: str) -> Checkpoint:
    """Return the checkpoint of one of the three forms above. Raises ModelError."""
    source = _parse(name)
    path = source.file
    if path is None:
        repository, names = source.repository
        folder = hub.snapshot(repository)
        path = hub.first_in(folder, names) if folder else None
        if path is None:
            raise not_downloaded(name)
    source = replace(source, file=path)
    preprocessing = _preprocessing(source)
    return Checkpoint(
        name,
        path,
        preprocessing,
        NUM_FRAMES,
        video_model=lambda: FrozenClip(_build(source), text=False).eval(),
        text_encoder=lambda: _text_encoder(source),
        tagging_model=lambda: FrozenClip(_build(source)).eval(),
        full_model=lambda: _as_xclip(source),
        identity=json.dumps([source.architecture, source.tag, _quick_gelu(source)]),
    )


def pull(name: str) -> Path:
    """Download a model of open_clip with its tokenizer; return the file with its weights. Raises ModelError."""
    source = _parse(name)
    if source.file:
        return source.file
    text = open_clip.get_model_config(source.architecture)["text_cfg"]
    if tokenizer := text.get("hf_tokenizer_name"):
        hub.fetch(tokenizer, ["tokenizer_config.json"])
        for file in ("config.json", "tokenizer.json", "special_tokens_map.json", "vocab.txt", "spiece.model"):
            hub.fetch_first(tokenizer, [file])
    if tower := text.get("hf_model_name"):
        hub.fetch(tower, ["config.json"])
    return hub.fetch(*source.repository)


def _parse(name: str) -> Source:
    rest, _, file = name.removeprefix(OPEN_CLIP_PREFIX).partition("=")
    architecture, _, tag = rest.partition("/")
    if open_clip.get_model_config(architecture) is None or ":" in architecture:
        close = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
        raise ModelError(
            f"open_clip has no architecture {architecture!r}", f"did you mean {' or '.join(close)}?" if close else None
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    first = open_clip.get_pretrained_cfg(architecture, tags[0]) if tags else {}
    if file:
        path = hub.user_path(file)
        if not path.is_file():
            raise ModelError(f"there is no file {file!r}")
        return Source(architecture, None, first, path)
    if not tags:
        raise ModelError(f"open_clip has no weights of {architecture}", f"{OPEN_CLIP_PREFIX}{architecture}=FILE")
    settings = open_clip.get_pretrained_cfg(architecture, tag) if tag else first
    if not settings:
        raise ModelError(f"open_clip has no weights {tag!r} of {architecture}", f"it has {', '.join(tags)}")
    return Source(architecture, tag or tags[0], settings)


def _quick_gelu(source: Source) -> bool:
    """Return whether it uses QuickGELU: by the tag's settings; for a file, by the architecture's."""
    own = bool(open_clip.get_model_config(source.architecture).get("quick_gelu"))
    return own or (source.tag is not None and bool(source.settings.get("quick_gelu")))


def _preprocessing(source: Source) -> Preprocessing:
    size = open_clip.get_model_config(source.architecture)["vision_cfg"].get("image_size", 224)
    sides = set(size) if isinstance(size, list | tuple) else {size}
    settings = {**_OPENAI, **source.settings}
    if len(sides) > 1 or settings["resize_mode"] == "longest":
        raise ModelError(f"{source.architecture} takes frames that are not square; this is not supported")
    side, mode = sides.pop(), settings["resize_mode"]
    return Preprocessing(
        resize=0 if mode == "squash" else side,
        crop=side,
        mean=settings["mean"],
        std=settings["std"],
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
        mode=mode,
        cropping="torchvision",
    )


def _build(source: Source) -> nn.Module:
    """Return open_clip's own model with its weights, loaded strictly."""
    path = source.file
    state = (
        read_safetensors(path, _is_resizable) if path.suffix == ".safetensors" else tensors_in(read_pickle(path), path)
    )
    try:
        with _offline():
            model = open_clip.create_model(
                source.architecture, pretrained=str(path), force_quick_gelu=_quick_gelu(source), weights_only=True
            )
    except ImportError as error:
        raise _needs_transformers(source) from error
    except Exception as error:  # open_clip fails in many ways over weights of another model
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} does not fit open_clip's {source.architecture}: {reason}") from error
    own = model.state_dict()
    for key in filter(_is_resizable, state):
        if key in own and own[key].shape != state[key].shape:
            shapes = f"{tuple(state[key].shape)}, the architecture needs {tuple(own[key].shape)}"
            raise ModelError(f"{path} does not fit open_clip's {source.architecture}: {key} has the shape {shapes}")
    check_finite(dict(model.named_parameters()), path)
    return model.eval()


def _is_resizable(key: str) -> bool:
    """Return whether it is a position embedding, which open_clip would resize silently."""
    return key.endswith("positional_embedding")


def _text_encoder(source: Source) -> TextEncoder:
    model = FrozenClip(_build(source)).eval()
    text = open_clip.get_model_config(source.architecture)["text_cfg"]
    try:
        with _offline():
            tokenizer = open_clip.get_tokenizer(source.architecture)
    except ImportError as error:
        raise _needs_transformers(source) from error
    except (OSError, ValueError) as error:
        tag = source.tag or next(iter(open_clip.list_pretrained_tags_by_model(source.architecture)), "TAG")
        raise ModelError(
            f"the tokenizer of {source.architecture} is not on this machine",
            f"get it with: xclip models pull {OPEN_CLIP_PREFIX}{source.architecture}/{tag}",
        ) from error
    inner = getattr(tokenizer, "tokenizer", None)

    def count_tokens(texts: list[str]) -> list[int]:
        if inner is None:
            return [len(tokenizer.encode(text)) + 2 for text in texts]
        return [len(inner(tokenizer.clean_fn(text)).input_ids) for text in texts]

    return TextEncoder(model.encode_text, tokenizer, count_tokens, text.get("context_length", 77))


def _needs_transformers(source: Source) -> MissingExtraError:
    return MissingExtraError(f"open_clip's {source.architecture} needs transformers", "pip install transformers")


def _as_xclip(source: Source) -> Xclip:
    model = _build(source)
    config = native_config(model)
    with torch.device("meta"):
        network = Xclip(config)
    return load_strictly(network, translate(model.state_dict(), "open_clip", source.file), source.file)


@contextmanager
def _offline() -> Iterator[None]:
    """Keep huggingface_hub and transformers offline while open_clip builds a model."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
