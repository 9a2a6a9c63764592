"""Which clips a run learns from, validates on, and checks other labels with."""

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xclip_cli.errors import UsageError
from xclip_cli.samples import Sample, label_names, read_samples
from xclip_cli.settings import FinetuneSettings


@dataclass(frozen=True)
class Splits:
    """Clips to learn from, to validate on, of other labels, and those that are kept for a test and not looked at."""

    train: list[Sample]
    val: list[Sample]
    others: list[Sample]
    test: Sequence[Sample] = ()

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return label_names(self.train)

    def without(self, unreadable: Mapping[Sample, str]) -> "Splits":
        """Those that can be read. Raises UsageError where nothing of a class is left to learn from."""
        left = Splits(
            *([s for s in part if s not in unreadable] for part in (self.train, self.val, self.others)), self.test
        )
        if gone := sorted(set(self.names) - set(left.names)):
            example = next(sample for sample in self.train if sample.label == gone[0])
            raise UsageError(
                f"class {gone[0]!r} has no clip that can be read: {unreadable[example]}",
                "replace its clips or take the class out; --check lists them all",
            )
        return left


def find_clips(data: str, settings: FinetuneSettings) -> Splits:
    """What a dataset and its options name; nothing is opened but lists. Raises UsageError."""
    elsewhere = settings.val if settings.val_share is None else None
    samples = read_samples(data, settings.class_list, beside=elsewhere)
    training = [s for s in samples if s.split in (None, "train")]
    val, test = ([s for s in samples if s.split == split] for split in ("val", "test"))
    if elsewhere is not None:
        val = _marked_val(elsewhere, read_samples(elsewhere, settings.class_list, beside=data))
    elif not val:
        training, val = split_samples(training, settings.val_share, settings.seed, settings.group_regex)
    names = label_names(training)
    if unknown := sorted(set(label_names(val)) - set(names)):
        raise UsageError(
            f"label {unknown[0]!r} stands in the validation clips alone: every label needs clips to learn from",
            f"labels to learn are: {', '.join(names)[:200]}",
        )
    if len(names) < 2:
        raise UsageError(f"{data!r} has {len(names)} class to learn: it must have at least 2")
    if settings.shots:
        training = choose_shots(training, settings.shots, settings.seed)
    return Splits(training, val, read_samples(settings.others) if settings.others else [], test)


def _marked_val(source: str, samples: list[Sample]) -> list[Sample]:
    """The clips to validate on of a source of their own: where it has splits, those of val."""
    if not any(sample.split for sample in samples):
        return samples
    marked = [sample for sample in samples if sample.split == "val"]
    if not marked:
        raise UsageError(
            f"--val {source!r} marks its clips, and none as val", "leave the column split out, or write val"
        )
    return marked


def split_samples(
    samples: Sequence[Sample], share: float, seed: int, group_regex: str | None = None
) -> tuple[list[Sample], list[Sample]]:
    """Training and validation clips: of each class about ``share`` are for validation, drawn by the seed.

    Clips whose path gives the same match of ``group_regex`` (its first group, if it has one) are of one source and stay
    together, across classes too. Each class keeps at least one clip, or group, to learn from.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        match = re.search(group_regex, sample.path) if group_regex else None
        groups[match[1 if match.re.groups else 0] if match else f"{sample.path} {sample.start_seconds}"].append(sample)
    left = {label: sum(s.label == label for s in samples) for label in label_names(samples)}
    wanted = {label: min(count - 1, round(share * count)) for label, count in left.items()}
    held: set[str] = set()
    for name in random.Random(seed).sample(sorted(groups), len(groups)):
        counts = {label: sum(s.label == label for s in groups[name]) for label in {s.label for s in groups[name]}}
        if all(count <= wanted[label] for label, count in counts.items()):
            held.add(name)
            for label, count in counts.items():
                wanted[label] -= count
    return (
        [sample for name, group in groups.items() if name not in held for sample in group],
        [sample for name, group in groups.items() if name in held for sample in group],
    )


def choose_shots(samples: Sequence[Sample], shots: int, seed: int) -> list[Sample]:
    """``shots`` clips of each class, drawn by the seed; all of a class that has fewer.

    With one seed the clips of fewer shots are among those of more.
    """
    chosen = []
    for label in label_names(samples):
        of_label = [sample for sample in samples if sample.label == label]
        chosen += random.Random(f"{seed} {label}").sample(of_label, len(of_label))[:shots]
    return chosen
