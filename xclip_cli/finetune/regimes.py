"""What is trained, how fast and how long: a table."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from xclip_cli.errors import UsageError
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.model.xclip import Xclip

WEIGHT_DECAY = 0.001
NEW_RATE = 10  # times the rate: modules that image-text training never saw
LABEL_SMOOTHING = 0.1
_NEW = (".message.", "mit.", "prompts.", "classifier")
_NO_DECAY = ("position_embedding", "class_embedding")
_FROZEN = ("visual.stem.", "text.token_embedding", "text.token_proj")


@dataclass(frozen=True)
class Schedule:
    """``rate`` is that of the weights that were there before; ``warmup`` and ``epochs`` count passes over the clips."""

    rate: float
    epochs: int
    warmup: int
    batch_size: int


@dataclass(frozen=True)
class Regime:
    """What learns: parameters whose name begins with one of ``trained``.

    ``clip`` is the schedule of the paper's networks. Those with a convolutional stem, as `mini`, have the schedule
    ``small``, keep the stem and what stands for single tokens of text as they are, and leave out ``patch_dropout`` of
    the patches at each step. ``head`` says what the classes come from: the text tower; a `probe`, solved for, not
    trained; or a classifier without text.
    """

    name: str
    about: str
    trained: tuple[str, ...] = ()
    clip: Schedule = Schedule(0, 0, 0, 1)
    small: Schedule = Schedule(0, 0, 0, 1)
    head: str = "text"
    mixup: float = 0.0
    cutmix: float = 0.0
    patch_dropout: float = 0.75

    @property
    def augments(self) -> bool:
        """Whether clips are learned from in varied views."""
        return self.head != "probe"

    @property
    def validates_in_turn(self) -> bool:
        """Whether, where no clips to validate on are given, each is validated by what was learned from others."""
        return self.head == "probe"

    def schedule(self, model: Xclip) -> Schedule:
        """The one that fits the network."""
        return self.clip if _is_clip(model) else self.small

    def parameters(self, model: Xclip) -> dict[str, nn.Parameter]:
        """Those of the network that are trained, by name."""
        frozen = () if _is_clip(model) else _FROZEN
        named = model.named_parameters()
        return {n: p for n, p in named if n.startswith(self.trained) and not n.startswith(frozen)}


def _is_clip(model: Xclip) -> bool:
    return model.config.vision.stem == "patch"


def is_new(name: str) -> bool:
    """Whether image-text training never saw a parameter: message tokens, MIT, prompts and heads."""
    return any(part in name for part in _NEW)


def parameter_groups(trained: Mapping[str, nn.Parameter], rate: float) -> list[dict]:
    """Groups for AdamW, each with its ``peak`` rate; no decay for vectors and positions."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        plain = parameter.ndim < 2 or any(part in name for part in _NO_DECAY)
        factor = NEW_RATE if is_new(name) else 1
        groups.setdefault((rate * factor, 0.0 if plain else WEIGHT_DECAY), []).append(parameter)
    return [{"params": p, "peak": peak, "weight_decay": decay} for (peak, decay), p in groups.items()]


_VISION, _TEXT = ("visual", "mit"), ("text", "prompts", "logit_scale")
_FULL, _FEW = Schedule(8e-6, 30, 5, 256), Schedule(2e-6, 50, 5, 64)
_SMALL = Schedule(1e-4, 20, 2, 16)

NOTHING = Regime("nothing", "nothing")

_ALL = (
    Regime("linear", "a linear probe that begins at the texts and is held to them", head="probe"),
    Regime("few-shot", "both towers, gently: for 2 to 16 clips a class", (*_VISION, *_TEXT), _FEW, _SMALL),
    Regime(
        "full",
        "both towers, with mixup and cutmix: for hundreds of clips a class",
        (*_VISION, *_TEXT),
        _FULL,
        Schedule(1e-5, 30, 5, 32),
        mixup=0.8,
        cutmix=1.0,
    ),
    Regime(
        "zero-shot",
        "all but the text tower, on many labels: for use on others",
        (*_VISION, "prompts", "logit_scale"),
        Schedule(8e-6, 10, 1, 256),
        _SMALL,
    ),
)
REGIMES: Mapping[str, Regime] = {regime.name: regime for regime in _ALL}


def choose_regime(settings: FinetuneSettings, ablates: bool = False) -> Regime:
    """The one that was asked for; else linear, or few-shot where an option is asked for that needs training.

    Raises UsageError for a name that is none, and for such an option with the probe.
    """
    option = "--ablate" if ablates else settings.training_option
    name = settings.regime if settings.regime != "auto" else "few-shot" if option else "linear"
    if name not in REGIMES:
        raise UsageError(f"--regime is {name!r}: it must be one of {', '.join(REGIMES)}")
    if option and REGIMES[name].head == "probe":
        raise UsageError(
            f"{option} is for regimes that train the network: {name} solves for its answer",
            f"leave {option} out, or take --regime few-shot",
        )
    return REGIMES[name]
