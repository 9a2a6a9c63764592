"""What is timed: networks of this package, with their weights or without, and what they are compared with."""

import copy
import logging
import re
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.base import TextEncoder
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.checkpoint.registry import MODELS, ModelSpec, Preprocessing
from xclip_cli.model.config import XclipConfig
from xclip_cli.model.text import count_tokens, tokenize
from xclip_cli.model.xclip import Xclip

_PUBLISHED = re.compile(r"K400 (\d+\.\d)")
_CONTEXT = 77


@dataclass(frozen=True)
class Network:
    """A network that looks at clips (B, *shape); ``encode(module, clips)`` is one pass of its video side.

    ``accuracy`` is the published top-1 on Kinetics-400, percent, with whatever views its authors used.
    """

    name: str
    module: nn.Module
    shape: tuple[int, int, int, int]
    encode: Callable[[nn.Module, Tensor], object]
    num_frames: int
    accuracy: float | None = None
    weights: str = "random"

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())

    def gigamacs(self) -> float:
        """Multiply-adds of one clip, 1e9, counted without computing any."""
        return _count(self.module, lambda module: self.encode(module, torch.empty(1, *self.shape, device="meta")))


@dataclass(frozen=True)
class Tagging(Network):
    """One of ours, which also has a text side and a preprocessing."""

    preprocessing: Preprocessing = None
    text_encoder: TextEncoder = None

    def gigamacs_with_text(self) -> float:
        """Of one clip and one text of 77 tokens, scored, as the paper counts (table 1)."""

        def whole(module: nn.Module) -> None:
            features = module.encode_video(torch.empty(1, *self.shape, device="meta"))
            tower = module.text if isinstance(module, Xclip) else module.encode_text
            length = self.text_encoder.context_length
            module.similarity(features, tower(torch.zeros(1, length, dtype=torch.long, device="meta")))

        return _count(self.module, whole)


def tagging(name: str) -> Tagging:
    """The model of this name; a registered one that is not on this machine has its architecture and random weights.

    Raises ModelError as ``open_checkpoint`` does.
    """
    spec = MODELS.get(name.removeprefix("microsoft/"))
    if spec is not None and hub.local_file(spec) is None:
        model = _random(spec)
        length = _CONTEXT if isinstance(model, Xclip) else model.model.context_length
        text = TextEncoder(model.encode_text, lambda texts: tokenize(texts)[:, :length], count_tokens, length)
        preprocessing, num_frames, weights = spec.preprocessing, spec.num_frames, "random"
    else:
        checkpoint = open_checkpoint(name)
        model = checkpoint.tagging_model()
        text = checkpoint.text_encoder()
        preprocessing, num_frames, weights = checkpoint.preprocessing, checkpoint.num_frames, "on disk"
    return Tagging(
        name,
        model.eval(),
        (num_frames, 3, preprocessing.crop, preprocessing.crop),
        lambda module, clips: module.encode_video(clips),
        num_frames,
        published(spec) if spec else None,
        weights,
        preprocessing,
        text,
    )


def published(spec: ModelSpec) -> float | None:
    """The registry's top-1 on Kinetics-400 of a model that learned its classes, percent."""
    found = _PUBLISHED.match(spec.accuracy)
    return float(found[1]) if found else None


def _random(spec: ModelSpec) -> nn.Module:
    if spec.architecture is not None:
        return Xclip(XclipConfig.from_dict(spec.architecture))
    import open_clip

    from xclip_cli.model.openclip import FrozenClip

    architecture = spec.name.partition(":")[2].partition("/")[0]
    with quiet():
        return FrozenClip(open_clip.create_model(architecture, pretrained=None))


@contextmanager
def quiet():
    """Other libraries say much, while they build, about weights and optional parts that are absent."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _count(module: nn.Module, call: Callable[[nn.Module], object]) -> float:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call(copy.deepcopy(module).to("meta"))
    return counter.get_total_flops() / 2e9
