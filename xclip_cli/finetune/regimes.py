"""What is trained, how fast and how long: a table."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from xclip_cli.model.xclip import Xclip

WEIGHT_DECAY = 0.001
NEW_RATE = 10  # times the rate: modules that image-text training never saw
LOW_RANK_RATE = 50
LABEL_SMOOTHING = 0.1
_NEW = (".message.", "mit.", "prompts.", "context", "classifier")
_NO_DECAY = ("position_embedding", "class_embedding", "context")


@dataclass(frozen=True)
class Schedule:
    """``rate`` is that of the weights that were there before; ``warmup`` and ``epochs`` count passes over the clips."""

    rate: float
    epochs: int
    warmup: int
    batch_size: int


@dataclass(frozen=True)
class Regime:
    """What learns: parameters whose name begins with one of ``trained``, unless with one of ``frozen``.

    ``clip`` is the schedule of the paper's networks. Those with a convolutional stem, as `mini`, have the schedule
    ``small``, keep ``frozen`` as it is, and leave out ``patch_dropout`` of the patches at each step.
    """

    about: str
    trained: tuple[str, ...]
    clip: Schedule
    small: Schedule
    frozen: tuple[str, ...] = ("visual.stem.", "text.token_embedding", "text.token_proj")
    head: str = "text"
    mixup: float = 0.0
    cutmix: float = 0.0
    patch_dropout: float = 0.75

    def schedule(self, model: Xclip) -> Schedule:
        """The one that fits the network."""
        return self.clip if _is_clip(model) else self.small

    def parameters(self, model: Xclip) -> dict[str, nn.Parameter]:
        """Those of the network that are trained, by name."""
        frozen = () if _is_clip(model) else self.frozen
        named = model.named_parameters()
        return {n: p for n, p in named if n.startswith(self.trained) and not n.startswith(frozen)}


def _is_clip(model: Xclip) -> bool:
    return model.config.vision.stem == "patch"


def is_new(name: str) -> bool:
    """Whether image-text training never saw a parameter: message tokens, MIT, prompts, heads and learned words."""
    return any(part in name for part in _NEW)


def parameter_groups(trained: Mapping[str, nn.Parameter], rate: float) -> list[dict]:
    """Groups for AdamW, each with its ``peak`` rate; no decay for vectors, positions and learned words."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        plain = parameter.ndim < 2 or any(part in name for part in _NO_DECAY)
        factor = LOW_RANK_RATE if ".parametrizations." in name else NEW_RATE if is_new(name) else 1
        groups.setdefault((rate * factor, 0.0 if plain else WEIGHT_DECAY), []).append(parameter)
    return [{"params": p, "peak": peak, "weight_decay": decay} for (peak, decay), p in groups.items()]


_VISION, _TEXT = ("visual", "mit"), ("text", "prompts", "logit_scale")
_FULL, _FEW = Schedule(8e-6, 30, 5, 256), Schedule(2e-6, 50, 5, 64)
_SMALL = Schedule(1e-4, 20, 2, 16)

NOTHING = Regime("nothing", (), Schedule(0, 0, 0, 1), Schedule(0, 0, 0, 1))

REGIMES: Mapping[str, Regime] = {
    "few-shot": Regime("both towers, gently: for 2 to 16 clips a class", (*_VISION, *_TEXT), _FEW, _SMALL),
    "full": Regime(
        "both towers, with mixup and cutmix: for hundreds of clips a class",
        (*_VISION, *_TEXT),
        _FULL,
        Schedule(1e-5, 30, 5, 32),
        frozen=("text.token_embedding", "text.token_proj"),
        mixup=0.8,
        cutmix=1.0,
    ),
    "zero-shot": Regime(
        "all but the text tower, on many labels: for use on others",
        (*_VISION, "prompts", "logit_scale"),
        Schedule(8e-6, 10, 1, 256),
        _SMALL,
    ),
    "vision-only": Regime("frame encoder and MIT", _VISION, _FEW, _SMALL),
    "text-only": Regime("text tower and prompts", _TEXT, _FEW, _SMALL),
    "prompts-only": Regime("video-specific prompts", ("prompts",), _FEW, _SMALL),
    "linear": Regime(
        "a linear probe: one vector per class, no text",
        (),
        Schedule(1e-3, 100, 5, 64),
        Schedule(1e-3, 100, 5, 16),
        head="classifier",
    ),
}
