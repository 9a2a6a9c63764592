"""What a command was asked to do: frozen, and checked when made."""

import json
import re
from dataclasses import asdict, dataclass
from hashlib import sha256

from xclip_cli.errors import UsageError

DTYPES = ("float32", "bfloat16", "float16")
READERS = ("opencv", "decord")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def _require(holds: bool, option: str, value: object, rule: str) -> None:
    if not holds:
        raise UsageError(f"--{option} is {value!r}: it must be {rule}", f"xclip tag --help says what --{option} does")


@dataclass(frozen=True)
class TagSettings:
    """How to tag. Raises UsageError naming the option, the value and the rule.

    ``threshold`` is a probability (0..1); ``num_clips`` views in time times ``num_crops`` (1 or 3) in space are
    averaged; ``batch_size`` counts videos per model call and holds on accelerators (on CPU each video is computed by
    itself, so that its scores cannot depend on its neighbours).
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
    reader: str = "opencv"
    decode_timeout_seconds: float = 60.0
    lang: str | None = None

    def __post_init__(self):
        _require(bool(self.model), "model", self.model, "a name or a path")
        _require(self.top_k >= 1, "top-k", self.top_k, "1 or more")
        _require(self.threshold is None or 0 <= self.threshold <= 1, "threshold", self.threshold, "from 0 to 1")
        _require(1 <= self.num_clips <= 100, "num-clips", self.num_clips, "from 1 to 100")
        _require(self.num_crops in (1, 3), "num-crops", self.num_crops, "1 or 3")
        _require(bool(_DEVICE.fullmatch(self.device)), "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        _require(self.dtype in DTYPES, "dtype", self.dtype, " or ".join(DTYPES))
        _require(self.batch_size >= 1, "batch-size", self.batch_size, "1 or more")
        _require(1 <= self.workers <= 64, "workers", self.workers, "from 1 to 64")
        _require(self.reader in READERS, "reader", self.reader, " or ".join(READERS))
        _require(self.decode_timeout_seconds > 0, "decode-timeout", self.decode_timeout_seconds, "more than 0 seconds")

    @property
    def fingerprint(self) -> str:
        """The same for two settings that give the same results; speed-only options do not count."""
        values = asdict(self)
        for speed_only in ("batch_size", "workers", "decode_timeout_seconds", "model"):
            del values[speed_only]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
