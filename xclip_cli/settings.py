"""What a command was asked to do: frozen, and checked when made."""

import difflib
import functools
import inspect
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from numbers import Integral, Real

from xclip_cli.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")
READERS = ("auto", "opencv", "pyav", "decord")
_DAY = 86400
_SECONDS = {"window": "auto, or from 0 to 86400 seconds", "stride": "from 0 to 86400 seconds"}
TIMEOUT = "more than 0 and at most 86400 seconds"
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on macOS or Windows
        return os.cpu_count() or 1


def require(holds: bool, option: str, value: object, rule: str, command: str = "tag") -> None:
    if not holds:
        raise UsageError(f"--{option} is {value!r}: it must be {rule}", f"xclip {command} --help says what it does")


def within(value: object, low: float, high: float) -> bool:
    """True for a number from ``low`` to ``high``, which NaN, text and a bool are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high


def whole(value: object, low: int, high: float = math.inf) -> bool:
    """True for an integer from ``low`` to ``high``."""
    return isinstance(value, Integral) and within(value, low, high)


def is_length(value: object) -> bool:
    """True for a number of seconds above 0, up to a day."""
    return within(value, 0, _DAY) and value > 0


def takes(settings: type) -> Callable[[Callable], Callable]:
    """Decorate a function that passes ``**options`` on to ``settings``, a dataclass.

    Its signature shows them, as keyword parameters. UsageError for an unknown option names the nearest one.
    """

    def decorate(function: Callable) -> Callable:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        names = [parameter.name for parameter in own]
        options = [
            inspect.Parameter(x.name, inspect.Parameter.KEYWORD_ONLY, default=x.default, annotation=x.type)
            for x in fields(settings)
            if x.name not in names
        ]
        names += [option.name for option in options]

        @functools.wraps(function)
        def checked(*arguments, **given):
            for name in given:
                if name not in names:
                    near = difflib.get_close_matches(name, names, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(names[1:])}"
                    raise UsageError(f"there is no option {name!r}", hint)
            return function(*arguments, **given)

        checked.__signature__ = inspect.Signature([*own, *options])
        return checked

    return decorate


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How videos are decoded: which library, how many processes, and how many seconds one video may take."""

    workers: int = 2
    reader: str = "auto"
    decode_timeout_seconds: float = 60.0

    def __post_init__(self):
        require(whole(self.workers, 1, 64), "workers", self.workers, "from 1 to 64")
        require(self.reader in READERS, "reader", self.reader, " or ".join(READERS))
        timeout = self.decode_timeout_seconds
        require(is_length(timeout), "decode-timeout", timeout, TIMEOUT)


@dataclass(frozen=True, kw_only=True)
class Views(Decoding):
    """What the network is shown of a video, and where and how it computes.

    ``num_clips`` views in time times ``num_crops`` (1 or 3) in space are averaged; ``batch_size`` counts videos per
    model call and holds on accelerators. On a CPU each video is computed by itself, so that its scores cannot depend
    on its neighbours.
    """

    num_clips: int = 1
    num_crops: int = 1
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 8

    def __post_init__(self):
        super().__post_init__()
        require(whole(self.num_clips, 1, 100), "num-clips", self.num_clips, "from 1 to 100")
        require(whole(self.num_crops, 1) and self.num_crops in (1, 3), "num-crops", self.num_crops, "1 or 3")
        require(bool(DEVICE.fullmatch(self.device)), "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        require(self.dtype in DTYPES, "dtype", self.dtype, " or ".join(DTYPES))
        require(whole(self.batch_size, 1), "batch-size", self.batch_size, "1 or more")


@dataclass(frozen=True, kw_only=True)
class TagSettings(Views):
    """How to tag. Raises UsageError naming the option, the value and the rule.

    ``threshold`` is a probability (0..1); where the best score leads the next by less than ``min_margin``, the answer
    is unknown.

    With ``window_seconds`` ("auto": 2 frames a second) a video becomes a timeline: a window every ``stride_seconds``
    (half a window), whose scores are averaged over ``smooth`` windows, become segments that begin at ``threshold`` and
    hold down to ``threshold_low`` (half of it); without ``threshold`` a label begins where it stands out from the
    window's other scores, see `timeline.Rules`. Pauses up to
    ``max_gap_seconds`` (a stride) are filled, and what is shorter than ``min_length_seconds`` is dropped.
    ``exclusive``: one label at a time; ``scenes``: no window crosses a shot change. ``top_k`` does not count then, and
    ``num_clips`` is 1.
    """

    model: str = "mini"
    top_k: int = 5
    threshold: float | None = None
    lang: str | None = None
    min_margin: float = 0.0
    window_seconds: float | str | None = None
    stride_seconds: float | None = None
    threshold_low: float | None = None
    smooth: int = 1
    min_length_seconds: float = 0.0
    max_gap_seconds: float | None = None
    exclusive: bool = False
    scenes: bool = False

    def __post_init__(self):
        super().__post_init__()
        require(bool(self.model), "model", self.model, "a name or a path")
        require(whole(self.top_k, 1), "top-k", self.top_k, "1 or more")
        threshold = self.threshold
        require(threshold is None or within(threshold, 0, 1), "threshold", threshold, "from 0 to 1")
        require(within(self.min_margin, 0, 1), "min-margin", self.min_margin, "from 0 to 1")
        self._check_timeline()

    def _check_timeline(self) -> None:
        window, stride, low = self.window_seconds, self.stride_seconds, self.threshold_low
        for option, value in (("window", None if window == "auto" else window), ("stride", stride)):
            require(value is None or is_length(value), option, value, _SECONDS[option])
        for option, value in (("min-length", self.min_length_seconds), ("max-gap", self.max_gap_seconds)):
            require(value is None or within(value, 0, _DAY), option, value, "from 0 to 86400 seconds")
        most = 1 if self.threshold is None else self.threshold
        require(low is None or within(low, 0, most), "threshold-low", low, f"from 0 to {most}")
        odd = whole(self.smooth, 1, 99) and self.smooth % 2 == 1
        require(odd, "smooth", self.smooth, "an odd number from 1 to 99")
        require(window is None or self.num_clips == 1, "num-clips", self.num_clips, "1 with --window")
        require(
            window is None or not self.min_margin, "min-margin", self.min_margin, "0 with --window: use --threshold"
        )
        defaults = {field.name: field.default for field in fields(self)}
        for name in (
            "stride_seconds",
            "threshold_low",
            "smooth",
            "min_length_seconds",
            "max_gap_seconds",
            "exclusive",
            "scenes",
        ):
            value, option = getattr(self, name), name.removesuffix("_seconds").replace("_", "-")
            require(window is not None or value == defaults[name], option, value, "used with --window")

    @property
    def fingerprint(self) -> str:
        """The same for two settings that give the same results; speed-only options do not count."""
        values = asdict(self)
        for speed_only in ("batch_size", "workers", "decode_timeout_seconds", "model"):
            del values[speed_only]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
