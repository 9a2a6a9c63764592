"""The network's sizes and switches, validated; stored in a model file's metadata."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from xclip_cli.errors import ModelError

Stem = Literal["patch", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
TextKind = Literal["clip", "bert"]
Activation = Literal["quick_gelu", "gelu"]

HEAD_WIDTH = 64
_MOST, _MOST_LAYERS = 1_000_000, 1_000  # a file that asks for more would be built for hours
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # of a WordPiece vocabulary: padding, unknown, start, end


@dataclass(frozen=True)
class VisionConfig:
    """The frame encoder. An EfficientNet stem always gives one token for each 32 x 32 pixels.

    ``class_hidden``: hidden units of an MLP between such a stem's pooled feature and the class token; None: no MLP.
    """

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    stem: Stem = "patch"
    class_hidden: int | None = None

    def __post_init__(self):
        optional = () if self.class_hidden is None else ("class_hidden",)
        _check_positive(self, "vision", ("image_size", "patch_size", "width", "heads", *optional))
        _check_choice("vision.stem", self.stem, get_args(Stem))
        _check_heads("vision", self.width, self.heads)
        if self.stem == "patch" and self.image_size % self.patch_size:
            raise ModelError(f"vision.image_size is {self.image_size}; it must be a multiple of {self.patch_size}")
        if self.stem != "patch" and self.patch_size != 32:
            raise ModelError(f"vision.patch_size is {self.patch_size}; the stem {self.stem} needs 32")
        if self.stem == "patch" and self.class_hidden is not None:
            raise ModelError(f"vision.class_hidden is {self.class_hidden}; the stem patch has no such part")

    @property
    def num_patches(self) -> int:
        """Tokens of one frame, the class token not counted."""
        return (-(-self.image_size // self.patch_size)) ** 2


@dataclass(frozen=True)
class TextConfig:
    """The text tower: CLIP's, causal, or BERT's, which takes the mean over all tokens.

    ``token_width`` factorises CLIP's token table: (vocab, token_width), then a linear map to width. ``vocabulary`` is
    that of BERT's WordPiece tokenizer: piece i has the id i, and [PAD] is 0. CLIP's tokenizer needs none.
    """

    context_length: int = 77
    vocab_size: int = 49408
    width: int = 512
    layers: int = 12
    heads: int = 8
    token_width: int | None = None
    kind: TextKind = "clip"
    vocabulary: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self):
        _check_choice("text.kind", self.kind, get_args(TextKind))
        optional = () if self.token_width is None else ("token_width",)
        _check_positive(self, "text", ("context_length", "vocab_size", "width", "heads", *optional))
        _check_heads("text", self.width, self.heads)
        if self.kind == "bert" or self.vocabulary is not None:
            object.__setattr__(self, "vocabulary", _checked_vocabulary(self))


@dataclass(frozen=True)
class XclipConfig:
    """The whole network.

    The switches of the paper's ablation: ``cross_frame`` (message tokens), ``mit_layers`` (0: mean over frames) and
    ``prompt_layers`` (0: the text stays as it is). With all three off the network is a frozen, frame-averaged CLIP.
    ``mit_heads`` and ``prompt_heads`` left at None mean embed_dim / 64, as the weights were trained.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embed_dim: int = 512
    num_frames: int = 8
    cross_frame: bool = True
    mit_layers: int = 1
    mit_heads: int | None = None
    prompt_layers: int = 2
    prompt_heads: int | None = None
    prompt_alpha: float = 0.1
    activation: Activation = "quick_gelu"

    def __post_init__(self):
        _check_positive(self, "model", ("embed_dim", "num_frames"))
        _check_choice("activation", self.activation, get_args(Activation))
        if isinstance(self.prompt_alpha, bool) or not isinstance(self.prompt_alpha, int | float):
            raise ModelError(f"prompt_alpha is {self.prompt_alpha!r}; it must be a number")
        object.__setattr__(self, "prompt_alpha", float(self.prompt_alpha))
        for name, layers in (("mit_heads", self.mit_layers), ("prompt_heads", self.prompt_layers)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, max(1, self.embed_dim // HEAD_WIDTH))
            if layers:
                _check_heads(name.removesuffix("_heads"), self.embed_dim, getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """Return a nested dict for JSON, which ``from_dict`` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "XclipConfig":
        """Return the configuration that ``to_dict`` wrote; absent names keep their defaults.

        Raises ModelError for an unknown name or a value that breaks a rule.
        """
        parts = {"vision": VisionConfig, "text": TextConfig}
        made = {name: _make(part, data[name], name) for name, part in parts.items() if name in data}
        return _make(cls, {**data, **made}, "model")

    @classmethod
    def from_state(cls, state: Mapping[str, Any], activation: Activation = "quick_gelu") -> "XclipConfig":
        """Return the configuration of a state dict with this package's keys and a patch stem.

        Sizes are read from the shapes; heads are width / 64 everywhere, as in every CLIP and X-CLIP that was published.
        Raises ModelError naming the key that is missing.
        """
        width, _, patch_size, _ = _shape(state, "visual.stem.conv.weight")
        positions, _ = _shape(state, "visual.position_embedding")
        context_length, text_width = _shape(state, "text.position_embedding")
        mit_layers = _count(state, "mit.blocks.")
        return cls(
            vision=VisionConfig(
                image_size=patch_size * round((positions - 1) ** 0.5),
                patch_size=patch_size,
                width=width,
                layers=_count(state, "visual.blocks."),
                heads=max(1, width // HEAD_WIDTH),
            ),
            text=TextConfig(
                context_length=context_length,
                vocab_size=_shape(state, "text.token_embedding")[0],
                width=text_width,
                layers=_count(state, "text.blocks."),
                heads=max(1, text_width // HEAD_WIDTH),
            ),
            embed_dim=_shape(state, "visual.proj.weight")[0],
            num_frames=_shape(state, "mit.position_embedding")[1] if mit_layers else 8,
            cross_frame=any(".message." in key for key in state),
            mit_layers=mit_layers,
            prompt_layers=_count(state, "prompts.layers."),
            activation=activation,
        )


def _make(kind: type, data: Any, where: str):
    if not isinstance(data, Mapping):
        raise ModelError(f"{where} configuration is {data!r}; it must be a mapping")
    unknown = sorted(set(data) - {f.name for f in fields(kind)})
    if unknown:
        raise ModelError(
            f"{where} configuration has the unknown name {unknown[0]!r}", hint="Was it made by a newer xclip-cli?"
        )
    return kind(**data)


def _check_positive(config: Any, where: str, names: tuple[str, ...]) -> None:
    counts = tuple(f.name for f in fields(config) if f.name.endswith("layers"))
    for name, least, most in [(n, 1, _MOST) for n in names] + [(n, 0, _MOST_LAYERS) for n in counts]:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ModelError(f"{where}.{name} is {value!r}; it must be a whole number from {least} to {most}")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ModelError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def _checked_vocabulary(text: TextConfig) -> tuple[str, ...]:
    """Return the vocabulary as a tuple. Raises ModelError."""
    words, specials = text.vocabulary, ", ".join(SPECIAL_TOKENS)
    if text.kind != "bert":
        raise ModelError(f"text.kind is {text.kind!r}, which has no text.vocabulary; 'bert' has one")
    if text.token_width is not None:
        raise ModelError(f"text.token_width is {text.token_width}; a text tower of kind 'bert' has none")
    if text.context_length < 3:
        raise ModelError(f"text.context_length is {text.context_length}; [CLS], one word and [SEP] take 3")
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ModelError(f"text.vocabulary is {repr(words)[:40]}; kind 'bert' needs a list of strings")
    if len(words) != text.vocab_size:
        raise ModelError(f"text.vocabulary has {len(words)} words; text.vocab_size is {text.vocab_size}")
    if len(set(words)) != len(words):
        raise ModelError(f"text.vocabulary has the word {Counter(words).most_common(1)[0][0]!r} more than once")
    if absent := [special for special in SPECIAL_TOKENS if special not in words]:
        raise ModelError(f"text.vocabulary has no {absent[0]}; it must have {specials}")
    if words[0] != SPECIAL_TOKENS[0]:
        raise ModelError(f"text.vocabulary begins with {words[0]!r}; it must begin with {SPECIAL_TOKENS[0]}")
    return tuple(words)


def _check_heads(where: str, width: int, heads: int) -> None:
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise ModelError(f"{where} has {heads!r} heads; they must divide its width, {width}")


def _shape(state: Mapping[str, Any], key: str) -> tuple[int, ...]:
    if key not in state:
        raise ModelError(f"the weights have no {key}", hint="Is this an X-CLIP or CLIP checkpoint with a patch stem?")
    return tuple(state[key].shape)


def _count(state: Mapping[str, Any], prefix: str) -> int:
    """Return the number of layers under the prefix."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})
