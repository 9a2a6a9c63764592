"""How to fine-tune."""

import json
import re
from dataclasses import asdict, dataclass
from hashlib import sha256

from xclip_cli import settings
from xclip_cli.settings import DEVICE, DTYPES, Decoding, whole, within


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Decoding):
    """How to fine-tune. Raises UsageError naming the option, the value and the rule.

    ``val`` is a share (0..1) of each class or the path of other clips; ``others`` clips with labels that are not tuned
    on. ``shots`` clips of each class are learned from; None: all. ``epochs``, ``batch_size`` (per process, cut into
    ``accumulate`` parts) and ``lr`` are the regime's where None. ``dtype`` "auto" is bfloat16 on CUDA, else float32.
    ``keep`` is the share of the original in the result, or "auto": chosen on validation clips.
    ``regime`` "auto" is linear, or few-shot where an option asks for training.
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
    checkpointing: bool = False
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self):
        super().__post_init__()

        def require(holds, option, value, rule):
            settings.require(holds, option, value, rule, "finetune")

        for option in ("shots", "epochs", "batch_size", "patience"):
            value = getattr(self, option)
            require(value is None or whole(value, 1), option.replace("_", "-"), value, "1 or more")
        require(whole(self.accumulate, 1), "accumulate", self.accumulate, "1 or more")
        require(self.lr is None or (within(self.lr, 0, 1) and 0 < self.lr < 1), "lr", self.lr, "between 0 and 1")
        share = _number(self.keep)
        require(self.keep == "auto" or (share is not None and 0 <= share <= 1), "keep", self.keep, "0 to 1, or auto")
        share = _number(self.val)
        require(share is None or 0 < share < 1, "val", self.val, "a share between 0 and 1, a folder or a CSV")
        require(bool(DEVICE.fullmatch(self.device)), "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        require(self.dtype in ("auto", *DTYPES), "dtype", self.dtype, "auto or " + " or ".join(DTYPES))
        try:
            re.compile(self.group_regex or "")
        except re.error as error:
            require(False, "group-regex", self.group_regex, f"a regular expression ({error})")

    @property
    def training_option(self) -> str | None:
        """The first option that only training by steps knows and that was asked for."""
        names = "epochs", "batch_size", "accumulate", "lr", "patience", "checkpointing"
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


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
