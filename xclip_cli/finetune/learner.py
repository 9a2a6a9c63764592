"""The network as it learns: a frozen front whose output is kept, and the rest, with a head that names the classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xclip_cli.errors import UsageError
from xclip_cli.finetune.regimes import Regime
from xclip_cli.model.block import parameter
from xclip_cli.model.text import make_tokenizer, trim
from xclip_cli.model.xclip import VideoFeatures, Xclip, cosine


class Front:
    """The first part of a network, which stays as it is, so that what it gives of a clip can be computed once and kept.

    Made from the model that it serves. This one is empty: it gives the pixels themselves.
    """

    name = "pixels"
    is_empty = True

    def __init__(self, model: Xclip):
        self.model = model

    def __call__(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Normalised frames (B, T, 3, S, S) -> what ``finish`` takes, B first."""
        return (frames,)

    def finish(self, inputs: Sequence[Tensor], kept: Tensor | None = None) -> VideoFeatures:
        """The rest of the way; ``kept``: the patches to look at (indices), or all."""
        [frames] = inputs
        return self.model.integrate(*self.model.visual.encode(self.model.visual.tokens(frames), kept))


class StemFront(Front):
    """A convolutional stem: its tokens (B, T, 1 + P, width)."""

    name = "stem"
    is_empty = False

    def __call__(self, frames: Tensor) -> tuple[Tensor, ...]:
        return (self.model.visual.tokens(frames),)

    def finish(self, inputs: Sequence[Tensor], kept: Tensor | None = None) -> VideoFeatures:
        [tokens] = inputs
        return self.model.integrate(*self.model.visual.encode(tokens, kept))


class FrameFront(Front):
    """The whole frame encoder: features (B, T, E) and patches (B, T, P, width); all patches are always looked at."""

    name = "visual"
    is_empty = False

    def __call__(self, frames: Tensor) -> tuple[Tensor, ...]:
        return self.model.visual(frames)

    def finish(self, inputs: Sequence[Tensor], kept: Tensor | None = None) -> VideoFeatures:
        return self.model.integrate(*inputs)

    def still(self, inputs: Sequence[Tensor]) -> VideoFeatures:
        """As ``finish``, of videos that show the mean of their frames all the time."""
        frame_features, patches = inputs
        return self.model.integrate(frame_features.mean(dim=1, keepdim=True).expand_as(frame_features), patches)


def choose_front(model: Xclip, regime: Regime) -> Front:
    """The longest part of the network that stays as it is in a regime and whose output is worth keeping."""
    if not regime.trained:
        return FrameFront(model)
    return Front(model) if model.config.vision.stem == "patch" else StemFront(model)


class Learner(nn.Module):
    """Scores clips over fixed classes, from what the front of a model gives of them; the model is the front's.

    The classes come from the text tower, or are ``features`` (N, E) that stand for texts, or are vectors of their own,
    ``classifier``, without text.
    """

    def __init__(self, front: Front, names: Sequence[str], regime: Regime, features: Tensor | None = None):
        super().__init__()
        model = front.model
        self.model, self.regime, self.front = model, regime, front
        tokenizer = make_tokenizer(model.config.text)
        self.register_buffer("tokens", trim(tokenizer.tokenize(list(names))), persistent=False)
        self.classifier = parameter(len(names), model.config.embed_dim) if regime.head == "classifier" else None
        longest = max(tokenizer.count_tokens(list(names)))
        if longest > model.config.text.context_length:
            raise UsageError(
                f"the longest label has {longest} tokens: this model reads {model.config.text.context_length}",
                "shorten the labels",
            )
        own = {} if self.classifier is None else {"classifier": self.classifier}
        self.trained = own | regime.parameters(model)
        for tensor in self.parameters():
            tensor.requires_grad_(False)
        for tensor in self.trained.values():
            tensor.requires_grad_(True)
        self._fixed_text = features

    def text(self) -> Tensor:
        """Features of the classes (N, E); computed once where nothing of them learns."""
        if self.classifier is not None:
            return self.classifier
        if self._fixed_text is not None:
            return self._fixed_text
        if any(p.requires_grad for p in self.model.text.parameters()):
            return self.model.text(self.tokens)
        with torch.no_grad():
            self._fixed_text = self.model.text(self.tokens)
        return self._fixed_text

    def forward(self, inputs: Sequence[Tensor], kept: Tensor | None = None) -> Tensor:
        """Logits (B, N) of what the front gave; ``kept``: the patches to look at (indices), or all."""
        video, text = self.front.finish(inputs, kept), self.text()
        if self.classifier is not None:
            return self.model.logits(cosine(video.video, text))
        return self.model.logits(self.model.similarity(video, text))

    def patches(self, generator: torch.Generator) -> Tensor | None:
        """Which patches a training step looks at; None: all of them."""
        vision = self.model.config.vision
        if vision.stem == "patch":
            return None
        kept = max(1, round(vision.num_patches * (1 - self.regime.patch_dropout)))
        return torch.randperm(vision.num_patches, generator=generator)[:kept]
