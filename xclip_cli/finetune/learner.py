"""The network as it learns: a frozen front whose output is kept, and the rest, with a head that names the classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xclip_cli.errors import UsageError
from xclip_cli.finetune.regimes import Regime, is_new
from xclip_cli.model.block import Attention, Mlp, parameter
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

    The classes come from the text tower (after ``context`` learned words, if any), or are ``features`` (N, E) that
    stand for texts, or are vectors of their own, ``classifier``, without text. ``rank`` above 0: what was there before
    learns by low-rank changes alone.
    """

    def __init__(
        self,
        front: Front,
        names: Sequence[str],
        regime: Regime,
        context: int = 0,
        rank: int = 0,
        features: Tensor | None = None,
    ):
        super().__init__()
        model = front.model
        self.model, self.regime, self.front = model, regime, front
        tokenizer = make_tokenizer(model.config.text)
        self.register_buffer("tokens", trim(tokenizer.tokenize(list(names))), persistent=False)
        self.context = parameter(context, model.config.text.width) if context else None
        self.classifier = parameter(len(names), model.config.embed_dim) if regime.head == "classifier" else None
        longest = max(tokenizer.count_tokens(list(names))) + context
        if longest > model.config.text.context_length:
            raise UsageError(
                f"the longest label and --learn-context {context} make {longest} tokens: this model reads "
                f"{model.config.text.context_length}",
                "shorten the labels or learn fewer words",
            )
        if rank:
            adapt(model, rank, set(regime.parameters(model)))
        trained = regime.parameters(model)
        own = {name: p for name, p in (("context", self.context), ("classifier", self.classifier)) if p is not None}
        self.trained = own | {n: p for n, p in trained.items() if not rank or is_low_rank(n) or is_new(n)}
        for tensor in self.parameters():
            tensor.requires_grad_(False)
        for tensor in self.trained.values():
            tensor.requires_grad_(True)
        self._fixed_text = features

    @property
    def by_name(self) -> bool:
        """Whether the text tower alone gives the classes, so that any other label has its features too."""
        return self.context is None and self.classifier is None

    def text(self) -> Tensor:
        """Features of the classes (N, E); computed once where nothing of them learns."""
        if self.classifier is not None:
            return self.classifier
        if self._fixed_text is not None:
            return self._fixed_text
        if self.context is not None or any(p.requires_grad for p in self.model.text.parameters()):
            return self.model.text(self.tokens, self.context)
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


class LowRank(nn.Module):
    """W (out, in) -> W + up @ down; starts as W (LoRA, Hu et al., 2022), as a parametrisation of a linear map.

    Ours and not `peft`: torch's own parametrisations do all the work, a merged model is the plain network again, and no
    dependency on transformers and accelerate comes along.
    """

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def adapt(module: nn.Module, rank: int, trained: set[str]) -> None:
    """Gives every linear map in attention and MLP whose weight is among ``trained`` (names) a low-rank change.

    Modules that image-text training never saw keep learning whole.
    """
    for name, part in list(module.named_modules()):
        if isinstance(part, Attention | Mlp) and not is_new(f"{name}."):
            for key, linear in part.named_children():
                if f"{name}.{key}.weight" in trained:
                    parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, rank))


def merge(module: nn.Module) -> None:
    """Adds every low-rank change into its weight; the module is then as it was built."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


def is_low_rank(name: str) -> bool:
    """Whether a parameter's name is that of a low-rank change."""
    return ".parametrizations.weight.0." in name
