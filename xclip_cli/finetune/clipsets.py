"""Which clips a run learns from, validates on, and checks other labels with."""

from collections.abc import Mapping
from dataclasses import dataclass

from xclip_cli.errors import UsageError
from xclip_cli.settings import FinetuneSettings

from .data import Sample, choose_shots, label_names, read_samples, split_samples


@dataclass(frozen=True)
class Splits:
    """Clips to learn from, to validate on, and of other labels."""

    train: list[Sample]
    val: list[Sample]
    others: list[Sample]

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return label_names(self.train)

    def without(self, unreadable: Mapping[Sample, str]) -> "Splits":
        """Those that can be read. Raises UsageError where nothing of a class is left to learn from."""
        left = Splits(*([s for s in part if s not in unreadable] for part in (self.train, self.val, self.others)))
        if gone := sorted(set(self.names) - set(left.names)):
            example = next(sample for sample in self.train if sample.label == gone[0])
            raise UsageError(
                f"class {gone[0]!r} has no clip that can be read: {unreadable[example]}",
                "replace its clips or take the class out; --check lists them all",
            )
        return left


def find_clips(data: str, settings: FinetuneSettings) -> Splits:
    """What a dataset and its options name; nothing is opened but lists. Raises UsageError."""
    samples = read_samples(data, settings.class_list)
    if settings.val_share is None:
        training, val = samples, read_samples(settings.val, settings.class_list)
    elif any(sample.split for sample in samples):
        training = [s for s in samples if s.split in (None, "train")]
        val = [s for s in samples if s.split in ("val", "test")]
    else:
        training, val = split_samples(samples, settings.val_share, settings.seed, settings.group_regex)
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
    return Splits(training, val, read_samples(settings.others) if settings.others else [])
