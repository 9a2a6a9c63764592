"""What a command was asked to do: frozen, and checked when made."""

import json
import math
import os
import re
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from numbers import Integral, Real

from xclip_cli.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")
READERS = ("auto", "opencv", "pyav", "decord")
TEMPORAL = ("mean", "mit", "cct", "cct+mit")
PROMPTING = ("none", "template", "ensemble", "video")
CLASS_NAMES = ("readable", "original")
_DAY = 86400
_SECONDS = {"window": "auto, or from 0 to 86400 seconds", "stride": "from 0 to 86400 seconds"}
_TIMEOUT = "more than 0 and at most 86400 seconds"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on macOS or Windows
        return os.cpu_count() or 1


def _require(holds: bool, option: str, value: object, rule: str, command: str = "tag") -> None:
    if not holds:
        raise UsageError(f"--{option} is {value!r}: it must be {rule}", f"xclip {command} --help says what it does")


def _within(value: object, low: float, high: float) -> bool:
    """True for a number from ``low`` to ``high``, which NaN, text and a bool are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high


def _whole(value: object, low: int, high: float = math.inf) -> bool:
    """True for an integer from ``low`` to ``high``."""
    return isinstance(value, Integral) and _within(value, low, high)


def _is_length(value: object) -> bool:
    """True for a number of seconds above 0, up to a day."""
    return _within(value, 0, _DAY) and value > 0


@dataclass(frozen=True)
class TagSettings:
    """How to tag. Raises UsageError naming the option, the value and the rule.

    ``threshold`` is a probability (0..1); where the best score leads the next by less than ``min_margin``, the answer
    is unknown; ``num_clips`` views in time times ``num_crops`` (1 or 3) in space are averaged; ``batch_size`` counts
    videos per model call and holds on accelerators (on CPU each video is computed by itself, so that its scores cannot
    depend on its neighbours).

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
    num_clips: int = 1
    num_crops: int = 1
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 8
    workers: int = 2
    reader: str = "auto"
    decode_timeout_seconds: float = 60.0
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
        _require(bool(self.model), "model", self.model, "a name or a path")
        _require(_whole(self.top_k, 1), "top-k", self.top_k, "1 or more")
        threshold = self.threshold
        _require(threshold is None or _within(threshold, 0, 1), "threshold", threshold, "from 0 to 1")
        _require(_within(self.min_margin, 0, 1), "min-margin", self.min_margin, "from 0 to 1")
        _require(_whole(self.num_clips, 1, 100), "num-clips", self.num_clips, "from 1 to 100")
        _require(_whole(self.num_crops, 1) and self.num_crops in (1, 3), "num-crops", self.num_crops, "1 or 3")
        _require(bool(_DEVICE.fullmatch(self.device)), "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        _require(self.dtype in DTYPES, "dtype", self.dtype, " or ".join(DTYPES))
        _require(_whole(self.batch_size, 1), "batch-size", self.batch_size, "1 or more")
        _require(_whole(self.workers, 1, 64), "workers", self.workers, "from 1 to 64")
        _require(self.reader in READERS, "reader", self.reader, " or ".join(READERS))
        timeout = self.decode_timeout_seconds
        _require(_is_length(timeout), "decode-timeout", timeout, _TIMEOUT)
        self._check_timeline()

    def _check_timeline(self) -> None:
        window, stride, low = self.window_seconds, self.stride_seconds, self.threshold_low
        for option, value in (("window", None if window == "auto" else window), ("stride", stride)):
            _require(value is None or _is_length(value), option, value, _SECONDS[option])
        for option, value in (("min-length", self.min_length_seconds), ("max-gap", self.max_gap_seconds)):
            _require(value is None or _within(value, 0, _DAY), option, value, "from 0 to 86400 seconds")
        most = 1 if self.threshold is None else self.threshold
        _require(low is None or _within(low, 0, most), "threshold-low", low, f"from 0 to {most}")
        odd = _whole(self.smooth, 1, 99) and self.smooth % 2 == 1
        _require(odd, "smooth", self.smooth, "an odd number from 1 to 99")
        _require(window is None or self.num_clips == 1, "num-clips", self.num_clips, "1 with --window")
        _require(
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
            _require(window is not None or value == defaults[name], option, value, "used with --window")

    @property
    def fingerprint(self) -> str:
        """The same for two settings that give the same results; speed-only options do not count."""
        values = asdict(self)
        for speed_only in ("batch_size", "workers", "decode_timeout_seconds", "model"):
            del values[speed_only]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FinetuneSettings:
    """How to fine-tune. Raises UsageError naming the option, the value and the rule.

    ``val`` is a share (0..1) of each class or the path of other clips; ``others`` clips with labels that are not tuned
    on. ``shots`` clips of each class are learned from; None: all. ``epochs``, ``batch_size`` (per process, cut into
    ``accumulate`` parts) and ``lr`` are the regime's where None. ``dtype`` "auto" is bfloat16 on CUDA, else float32.
    ``keep`` is the share of the original in the result, or "auto": chosen on validation clips; ``lora`` a rank, 0 for
    none. ``regime`` "auto" is linear, or few-shot where an option asks for training.
    """

    model: str = "mini"
    regime: str = "auto"
    val: str = "0.2"
    others: str | None = None
    class_list: str | None = None
    group_regex: str | None = None
    shots: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    lr: float | None = None
    patience: int | None = None
    seed: int = 0
    keep: str = "auto"
    lora: int = 0
    learn_context: int = 0
    checkpointing: bool = False
    device: str = "auto"
    dtype: str = "auto"
    workers: int = 2
    reader: str = "auto"
    decode_timeout_seconds: float = 60.0

    def __post_init__(self):
        def require(holds, option, value, rule):
            _require(holds, option, value, rule, "finetune")

        for option in ("shots", "epochs", "batch_size", "patience"):
            value = getattr(self, option)
            require(value is None or _whole(value, 1), option.replace("_", "-"), value, "1 or more")
        require(_whole(self.accumulate, 1), "accumulate", self.accumulate, "1 or more")
        require(self.lr is None or (_within(self.lr, 0, 1) and 0 < self.lr < 1), "lr", self.lr, "between 0 and 1")
        share = _number(self.keep)
        require(self.keep == "auto" or (share is not None and 0 <= share <= 1), "keep", self.keep, "0 to 1, or auto")
        share = _number(self.val)
        require(share is None or 0 < share < 1, "val", self.val, "a share between 0 and 1, a folder or a CSV")
        require(_whole(self.lora, 0, 1024), "lora", self.lora, "a rank from 0 to 1024")
        require(_whole(self.learn_context, 0, 64), "learn-context", self.learn_context, "from 0 to 64 words")
        require(bool(_DEVICE.fullmatch(self.device)), "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        require(self.dtype in ("auto", *DTYPES), "dtype", self.dtype, "auto or " + " or ".join(DTYPES))
        require(_whole(self.workers, 1, 64), "workers", self.workers, "from 1 to 64")
        timeout = self.decode_timeout_seconds
        require(_is_length(timeout), "decode-timeout", timeout, _TIMEOUT)
        try:
            re.compile(self.group_regex or "")
        except re.error as error:
            require(False, "group-regex", self.group_regex, f"a regular expression ({error})")

    @property
    def training_option(self) -> str | None:
        """The first option that only training by steps knows and that was asked for."""
        names = "epochs", "batch_size", "accumulate", "lr", "patience", "lora", "learn_context", "checkpointing"
        asked = (name for name in names if getattr(self, name) != getattr(FinetuneSettings, name))
        return next((f"--{name.replace('_', '-')}" for name in asked), None)

    @property
    def val_share(self) -> float | None:
        """Of each class; None where ``val`` names clips."""
        return _number(self.val)

    @property
    def fingerprint(self) -> str:
        """The same for two settings that give the same weights from the same clips and model."""
        values = asdict(self)
        for other in ("workers", "decode_timeout_seconds", "model", "others", "keep", "checkpointing"):
            del values[other]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SpeedSettings:
    """What to time. Raises UsageError naming the option, the value and the rule.

    ``against`` names rivals (see ``benchmark.rivals``); ``threads`` are torch's, None: as many as torch takes;
    ``rounds`` is how often every network has its turn; ``video`` a file to decode instead of a clip made for it.
    """

    models: tuple[str, ...] = ("mini", "xclip-base-patch32", "xclip-base-patch16")
    against: str = "usual"
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    rounds: int = 5
    video: str | None = None
    reader: str = "auto"

    def __post_init__(self):
        def require(holds, option, value, rule):
            _require(holds, option, value, rule, "benchmark speed")

        require(bool(self.models) and all(self.models), "models", ",".join(self.models), "names, separated by commas")
        require(bool(_DEVICE.fullmatch(self.device)), "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        require(self.dtype in DTYPES, "dtype", self.dtype, " or ".join(DTYPES))
        require(self.threads is None or _whole(self.threads, 1, 1024), "threads", self.threads, "from 1 to 1024")
        require(_whole(self.rounds, 1, 1000), "rounds", self.rounds, "from 1 to 1000")
        require(self.reader in READERS, "reader", self.reader, " or ".join(READERS))


@dataclass(frozen=True)
class AccuracySettings:
    """How to measure accuracy. Raises UsageError naming the option, the value and the rule.

    ``temporal`` and ``prompting`` name the rows to measure, every pair of them; empty: as the model is. ``tag`` holds
    what is the same as in tagging. ``class_names`` is the text that stands for a protocol's classes: readable (apply
    eye makeup), or original, as the data set and the training of the official models have it (ApplyEyeMakeup).
    """

    tag: TagSettings = field(default_factory=TagSettings)
    protocol: str | None = None
    split_file: str | None = None
    class_list: str | None = None
    temporal: tuple[str, ...] = ()
    prompting: tuple[str, ...] = ()
    class_names: str = "readable"

    def __post_init__(self):
        ways = ("temporal", TEMPORAL, self.temporal), ("prompting", PROMPTING, self.prompting)
        for option, known, values in (*ways, ("class-names", CLASS_NAMES, (self.class_names,))):
            for value in values:
                _require(value in known, option, value, " or ".join(known), "benchmark accuracy")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
