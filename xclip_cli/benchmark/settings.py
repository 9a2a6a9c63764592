"""What to time, and how to measure accuracy."""

from dataclasses import dataclass, field

from xclip_cli import settings
from xclip_cli.settings import DEVICE, DTYPES, READERS, TagSettings, require, whole

TEMPORAL = ("mean", "mit", "cct", "cct+mit")
PROMPTING = ("none", "template", "ensemble", "video")
CLASS_NAMES = ("readable", "original")


@dataclass(frozen=True, kw_only=True)
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
            settings.require(holds, option, value, rule, "benchmark speed")

        require(bool(self.models) and all(self.models), "models", ",".join(self.models), "names, separated by commas")
        require(bool(DEVICE.fullmatch(self.device)), "device", self.device, "auto, cpu, cuda, cuda:N or mps")
        require(self.dtype in DTYPES, "dtype", self.dtype, " or ".join(DTYPES))
        require(self.threads is None or whole(self.threads, 1, 1024), "threads", self.threads, "from 1 to 1024")
        require(whole(self.rounds, 1, 1000), "rounds", self.rounds, "from 1 to 1000")
        require(self.reader in READERS, "reader", self.reader, " or ".join(READERS))


@dataclass(frozen=True, kw_only=True)
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
                require(value in known, option, value, " or ".join(known), "benchmark accuracy")
