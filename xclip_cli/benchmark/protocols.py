"""Which clips are measured and among which labels: a dataset of one's own, or a published protocol by its name."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xclip_cli import labels
from xclip_cli.benchmark.settings import AccuracySettings
from xclip_cli.checkpoint.registry import MODELS
from xclip_cli.dataset import Sample, label_names, read_samples
from xclip_cli.dataset.rows import from_table
from xclip_cli.errors import UsageError
from xclip_cli.labels import LabelSet, tables
from xclip_cli.labels.classlist import NameIndex, read_class_list
from xclip_cli.labels.typed import translate_labels

_ZERO_SHOT_CLASSES = 160
_NUMBER_LAST = re.compile(r"\s+\d+$")


@dataclass(frozen=True)
class Protocol:
    """How a published number is measured. ``read(folder, split_file)`` gives its clips.

    ``numbered`` lists may give numbers for classes; ``read`` then takes the class list that names them, or None, too.
    ``dataset`` is what the registry's accuracies call it; ``views`` how the number was made, clips x crops;
    ``original(name)`` what the data set itself calls a class of ours. ``counts`` are the clips of the list as it was
    published, in all its releases, ``per_class`` those of each class; ``sha256`` is that of its sorted `class/file`
    lines in lower case. What is not known is empty.
    """

    dataset: str
    labelset: str
    split: str
    views: str
    read: Callable[..., list[Sample]]
    original: Callable[[str], str] = str
    numbered: bool = False
    counts: tuple[int, ...] = ()
    per_class: int | None = None
    sha256: str = ""

    def check(self, samples: Sequence[Sample]) -> str:
        """What tells the list of these clips from the published one; empty where nothing does. One line."""
        of_class = Counter(sample.label for sample in samples)
        if self.counts and len(samples) not in self.counts:
            return f"it has {len(samples):,} clips, and the published list {' or '.join(f'{n:,}' for n in self.counts)}"
        if self.per_class and (odd := next((x for x, n in of_class.items() if n != self.per_class), None)):
            return f"it has {of_class[odd]} clips of {odd!r}, and the published list {self.per_class} of each class"
        lines = sorted(f"{sample.label}/{Path(sample.path).name}".casefold() for sample in samples)
        if self.sha256 and hashlib.sha256("\n".join(lines).encode()).hexdigest() != self.sha256:
            return "it has other clips than the published list"
        return ""

    def published(self, model: str) -> float | None:
        """Top-1, percent, that the model's authors or papers report; None where the registry knows none."""
        spec = MODELS.get(model.removeprefix("microsoft/"))
        found = spec and re.search(rf"{self.dataset}(?: \d+-shot)? (\d+\.\d)", spec.accuracy)
        return float(found[1]) if found else None


@dataclass(frozen=True)
class Task:
    """Clips whose every label is a label of the set, and what a reader of the numbers must know of them."""

    samples: list[Sample]
    label_set: LabelSet
    protocol: Protocol | None
    facts: dict[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def targets(self) -> dict[Sample, int]:
        """The index in the set of each sample's label."""
        index = NameIndex(label.name for label in self.label_set.labels)
        return {sample: index.get(sample.label) for sample in self.samples}


def read_task(data: str, label_set: LabelSet | None, settings: AccuracySettings) -> Task:
    """What DATA and the options name: every clip once. ``label_set`` is what to choose among; None: DATA's own labels.

    Nothing is opened but lists. Raises UsageError naming the file, the line and the rule.
    """
    if settings.protocol is not None:
        return _read_protocol(data, label_set, settings)
    if settings.split_file is not None:
        raise UsageError("--split-file belongs to a protocol", f"add --protocol, one of {', '.join(PROTOCOLS)}")
    if settings.class_names != AccuracySettings.class_names:
        raise UsageError("--class-names belongs to a protocol", f"add --protocol, one of {', '.join(PROTOCOLS)}")
    samples, facts = read_samples(data, settings.class_list), {}
    if any(sample.split for sample in samples):
        samples = [sample for sample in samples if sample.split in ("val", "test")]
        if not samples:
            raise UsageError(f"{data!r} has no clip whose split is val or test", "leave the column split out")
        facts["splits"] = ", ".join(f"{n} {split}" for split, n in Counter(s.split for s in samples).items())
    samples = list(dict.fromkeys(samples))
    own = translate_labels(labels.from_names(label_names(samples), name="classes"))
    return _task(data, samples, label_set or own, None, facts)


def _read_protocol(data: str, label_set: LabelSet | None, settings: AccuracySettings) -> Task:
    protocol = PROTOCOLS.get(settings.protocol)
    if protocol is None:
        raise UsageError(f"--protocol is {settings.protocol!r}: it must be one of {', '.join(PROTOCOLS)}")
    if label_set is not None:
        raise UsageError("a protocol has its own labels", "leave --labelset and --labels-file out")
    folder, split = Path(data), Path(settings.split_file or "")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {data!r}: with --protocol, DATA is the folder of the videos")
    if settings.split_file is None or not split.exists():
        what = f"there is no {settings.split_file!r}" if settings.split_file else "no split file was given"
        raise UsageError(f"{what}: {settings.protocol} needs {protocol.split}", "--split-file PATH")
    class_list = Path(settings.class_list) if settings.class_list else None
    if class_list and not protocol.numbered:
        raise UsageError(f"--class-list is given, and {settings.protocol} names its classes itself", "leave it out")
    lists = (split, class_list) if protocol.numbered else (split,)
    samples, label_set = protocol.read(folder, *lists), labels.builtin(protocol.labelset)
    other = protocol.check(samples)
    if settings.protocol.startswith("k600-zeroshot"):
        samples, label_set = _only(_zero_shot_names(class_list), samples, label_set)
    if settings.class_names == "original":
        original = (replace(label, prompts=(protocol.original(label.name),)) for label in label_set.labels)
        label_set = LabelSet(label_set.name, tuple(original))
    facts = {
        "protocol": settings.protocol,
        "split": f"{protocol.split}: {split}, sha256 {_hash(split)}, {len(samples):,} clips",
        "class names": f"{settings.class_names}, as in {label_set.labels[0].prompts[0]!r}",
    }
    task = _task(data, list(dict.fromkeys(samples)), label_set, protocol, facts)
    warning = f"{split} is not the list of {settings.protocol}: {other}; the numbers cannot be compared"
    return replace(task, warnings=(warning,)) if other else task


def _task(data: str, samples: list[Sample], label_set: LabelSet, protocol: Protocol | None, facts: dict) -> Task:
    """Labels without thresholds and background: here every clip has an answer."""
    plain = tuple(replace(label, threshold=None) for label in label_set.labels)
    task = Task(samples, LabelSet(label_set.name, plain), protocol, facts)
    index = NameIndex(label.name for label in plain)
    if missing := sorted({s.label for s in samples if index.get(s.label) is None}):
        raise UsageError(
            f"label {missing[0]!r} of {data!r} is not in the label set {label_set.name!r}",
            "every label of the clips must be among those to choose from",
        )
    if len(plain) < 2:
        raise UsageError(f"there is {len(plain)} label to choose from: it takes at least 2")
    return task


def _only(names: Sequence[str], samples: list[Sample], label_set: LabelSet) -> tuple[list[Sample], LabelSet]:
    keys = {tables.letters(name) for name in names}
    chosen = tuple(label for label in label_set.labels if tables.letters(label.name) in keys)
    if len(chosen) != len(keys):
        unknown = sorted(keys - {tables.letters(label.name) for label in chosen})
        raise UsageError(f"--class-list: {unknown[0]!r} is no class of {label_set.name}")
    return [sample for sample in samples if tables.letters(sample.label) in keys], LabelSet(label_set.name, chosen)


def _zero_shot_names(class_list: Path | None) -> list[str]:
    names = [] if class_list is None else list(read_class_list(class_list).names.values())
    if len({tables.letters(name) for name in names}) != _ZERO_SHOT_CLASSES:
        raise UsageError(
            f"--class-list names {len(names)} classes: a zero-shot split of Kinetics-600 has {_ZERO_SHOT_CLASSES}",
            "give the split's own list, a class a line",
        )
    return names


def _ucf101(folder: Path, split: Path) -> list[Sample]:
    """testlist01.txt: `Class/v_Class_g01_c01.avi` a line."""
    samples = []
    for number, line in tables.read_lines(split):
        label, slash, name = _NUMBER_LAST.sub("", line).partition("/")
        if not slash:
            raise UsageError(f"{split}, line {number}: {line[:80]!r} is not `Class/video.avi`", "testlist01.txt")
        video = folder / label / name
        samples.append(Sample(str(video if video.exists() else folder / name), label))
    return samples


def _camel_case(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.split())


def _hmdb51(folder: Path, split: Path) -> list[Sample]:
    """The folder of `CLASS_test_split1.txt`: `video.avi 2` a line is a clip to test on."""
    files = sorted(split.glob("*_test_split1.txt")) if split.is_dir() else []
    if not files:
        raise UsageError(f"{str(split)!r} is no folder of CLASS_test_split1.txt files")
    samples = []
    for file in files:
        label = file.name.removesuffix("_test_split1.txt")
        for number, line in tables.read_lines(file):
            found = re.fullmatch(r"(.*\S)\s+([012])", line)
            if not found:
                raise UsageError(f"{file}, line {number}: {line[:80]!r} is not `video.avi 0|1|2`")
            if found[2] == "2":
                samples.append(Sample(str(folder / label / found[1]), label))
    return samples


def _kinetics(folder: Path, split: Path, class_list: Path | None) -> list[Sample]:
    """Kinetics' own CSV, whose videos are ID_START_END or ID anywhere in the folder; or a list of `path id`."""
    if split.suffix.lower() != ".csv":
        if class_list is None:
            raise UsageError(f"{str(split)!r} gives numbers for classes", "name them: --class-list FILE")
        return read_samples(split, class_list, folder=folder)
    return [s for s in from_table(split, folder) if s.split != "train"]


def _hash(path: Path) -> str:
    """Of a file's bytes, or of those of a folder's text files in order."""
    files: Iterable[Path] = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


_ZERO_SHOT = Protocol(  # each copy of Kinetics-600 lacks other videos: there is no one count
    "K600", "kinetics600", "Kinetics-600's validation list", "1 x 1, 32 frames, mean of 3", _kinetics, numbered=True
)
PROTOCOLS = {
    "ucf101-split1": Protocol(
        "UCF101",
        "ucf101",
        "testlist01.txt",
        "1 x 1, 32 frames, mean of 3 splits",
        _ucf101,
        _camel_case,
        counts=(3783,),
        sha256="458e9756743de35a182c88ca31b125465512d87894caa792e2b8b17b3e45e37e",
    ),
    "hmdb51-split1": Protocol(
        "HMDB51",
        "hmdb51",
        "the folder of *_test_split1.txt",
        "1 x 1, 32 frames, mean of 3 splits",
        _hmdb51,
        counts=(1530,),
        per_class=30,
    ),
    "k400-val": Protocol(
        "K400",
        "kinetics400",
        "Kinetics-400's validation list",
        "4 x 3",
        _kinetics,
        numbered=True,
        counts=(19_881, 19_906),
    ),
    **{f"k600-zeroshot-{i}": _ZERO_SHOT for i in (1, 2, 3)},
}
