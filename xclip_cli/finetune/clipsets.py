"""Which clips a run learns from, validates on, and checks other labels with."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xclip_cli.dataset import Sample, label_names, read_samples
from xclip_cli.dataset.sample import assign_folds, by_source
from xclip_cli.dataset.sources import Findings, number_sources
from xclip_cli.errors import UsageError
from xclip_cli.files import printable
from xclip_cli.finetune.settings import FinetuneSettings


@dataclass(frozen=True)
class Splits:
    """Clips to learn from, to validate on, of other labels, and those that are kept for a test and not looked at.

    ``given``: whether the user chose those to validate on. ``folds``: of each clip to learn from the part, numbered
    from 0, in which it is validated on by what was learned from the other parts; empty where ``val`` serves.
    """

    train: list[Sample]
    val: list[Sample]
    others: list[Sample]
    test: Sequence[Sample] = ()
    given: bool = True
    folds: Sequence[int] = ()

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return label_names(self.train)

    @property
    def validated(self) -> list[Sample]:
        """The clips that accuracies are measured on."""
        return self.train if self.folds else self.val

    def without(self, unreadable: Mapping[Sample, str]) -> "Splits":
        """Those that can be read. Raises UsageError where nothing of a class is left to learn from."""
        parts = ([s for s in part if s not in unreadable] for part in (self.train, self.val, self.others))
        left = Splits(*parts, self.test, self.given)
        if gone := sorted(set(self.names) - set(left.names)):
            example = next(sample for sample in self.train if sample.label == gone[0])
            raise UsageError(
                f"class {gone[0]!r} has no clip that can be read: {unreadable[example]}",
                "replace its clips or take the class out; --check lists them all",
            )
        return left

    def held_out(self, settings: FinetuneSettings, findings: Findings, in_turn: bool) -> "Splits":
        """Where no clips to validate on are given: a share of each class held out, or, ``in_turn``, each part once.

        Clips of one source stay on one side. Then the shots are chosen.
        """
        if self.given:
            return replace(self, train=self._shots(self.train, settings))
        train = self._shots(self.train, settings) if in_turn else self.train
        sources, share = number_sources(train, findings, settings.group_regex), settings.val_share
        if in_turn:
            return replace(self, train=train, folds=assign_folds(train, sources, round(1 / share), settings.seed))
        train, val = split_samples(train, share, settings.seed, sources)
        return replace(self, train=self._shots(train, settings), val=val)

    def _shots(self, samples: list[Sample], settings: FinetuneSettings) -> list[Sample]:
        return choose_shots(samples, settings.shots, settings.seed) if settings.shots else samples


def find_clips(data: str, settings: FinetuneSettings) -> Splits:
    """What a dataset and its options name; nothing is opened but lists. Raises UsageError."""
    elsewhere = settings.val if settings.val_share is None else None
    samples = read_samples(data, settings.class_list, beside=elsewhere)
    training = [s for s in samples if s.split in (None, "train")]
    val, test = ([s for s in samples if s.split == split] for split in ("val", "test"))
    if elsewhere is not None:
        val = _marked_val(elsewhere, read_samples(elsewhere, settings.class_list, beside=data))
    names = label_names(training)
    if unknown := sorted(set(label_names(val)) - set(names)):
        raise UsageError(
            f"label {unknown[0]!r} stands in the validation clips alone: every label needs clips to learn from",
            f"labels to learn are: {', '.join(names)[:200]}",
        )
    if len(names) < 2:
        raise UsageError(f"{data!r} has {len(names)} class to learn: it must have at least 2")
    others = read_samples(settings.others) if settings.others else []
    if odd := [name for name in (*names, *label_names(others)) if printable(name) != name]:
        raise UsageError(f"the label '{printable(odd[0])}' is not valid Unicode: no model can hold it", "rename it")
    return Splits(training, val, others, test, bool(val))


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
    samples: Sequence[Sample], share: float, seed: int, sources: Sequence[int] | None = None
) -> tuple[list[Sample], list[Sample]]:
    """Training and validation clips: of each class about ``share`` are for validation, drawn by the seed.

    Clips of one number in ``sources`` stay together, across classes too. Each class keeps at least one source to learn
    from, and one with two or more has one to validate on; a class that is all of one source is divided all the same.
    """
    groups = list(by_source(samples, _divided(samples, sources or range(len(samples)))).values())
    counts = [Counter(sample.label for sample in group) for group in groups]
    wanted = {label: min(n - 1, round(share * n)) for label, n in Counter(s.label for s in samples).items()}
    left = Counter(label for labels in counts for label in labels)  # groups that are not held out yet
    held, untouched = set(), {label for label, n in wanted.items() if n}
    order = random.Random(seed).sample(range(len(groups)), len(groups))
    for fits in (True, False):  # first those that are not too large, then the smallest for classes that have none
        for i in order if fits else sorted(order, key=lambda i: len(groups[i])):
            small = all(n <= wanted[label] for label, n in counts[i].items())
            if all(left[label] > 1 for label in counts[i]) and (small if fits else untouched & set(counts[i])):
                held.add(i)
                left.subtract(counts[i].keys())
                untouched -= set(counts[i])
                wanted = {label: n - counts[i][label] for label, n in wanted.items()}
        order = [i for i in order if i not in held]
    of_val = {sample for i in held for sample in groups[i]}
    return [s for s in samples if s not in of_val], [s for s in samples if s in of_val]


def _divided(samples: Sequence[Sample], sources: Sequence[int]) -> list[int]:
    """The sources, but that each clip of a class that is all of one source is a source of its own."""
    of_label = defaultdict(set)
    for sample, source in zip(samples, sources, strict=True):
        of_label[sample.label].add(source)
    return [
        -1 - i if len(of_label[sample.label]) == 1 else source
        for i, (sample, source) in enumerate(zip(samples, sources, strict=True))
    ]


def choose_shots(samples: Sequence[Sample], shots: int, seed: int) -> list[Sample]:
    """``shots`` clips of each class, drawn by the seed; all of a class that has fewer.

    With one seed the clips of fewer shots are among those of more.
    """
    chosen = []
    for label in label_names(samples):
        of_label = [sample for sample in samples if sample.label == label]
        chosen += random.Random(f"{seed} {label}").sample(of_label, len(of_label))[:shots]
    return chosen
