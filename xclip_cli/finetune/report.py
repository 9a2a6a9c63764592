"""What became of a run, as files for people: report.md, curves.png, confusion.png, labels.yaml, metrics.jsonl."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from xclip_cli.dataset.metrics import confusion
from xclip_cli.dataset.sources import Findings, leaks
from xclip_cli.errors import OutputError
from xclip_cli.files import printable, write_text
from xclip_cli.finetune.clipsets import Splits
from xclip_cli.finetune.job import class_indices
from xclip_cli.finetune.keep import top
from xclip_cli.outputs.markdown import escaped, percent, table
from xclip_cli.outputs.plots import draw_confusion, draw_curves

_MOST_PAIRS, _MOST_FILES = 10, 3


@dataclass(frozen=True)
class Scores:
    """Logits (n, N) of the validation clips over the tuned labels, and top-1 on other labels; None where unmeasured."""

    logits: Tensor | None
    others: float | None


@dataclass(frozen=True)
class Report:
    """A finished run: ``before`` with the model as it came, ``after`` as it was saved, ``kept`` of the original.

    ``facts`` are what the first table says; ``history`` has an entry for each epoch.
    """

    facts: Mapping[str, object]
    splits: Splits
    findings: Findings
    kept: float
    history: Sequence[Mapping[str, Any]]
    before: Scores
    after: Scores

    @property
    def targets(self) -> Tensor:
        """The classes of the validation clips, int64 (n,)."""
        return class_indices(self.splits.validated, self.splits.names)

    @property
    def verdict(self) -> str:
        """What came of it, in a sentence or two."""
        first, last = self.accuracies()["tuned labels, top-1"]
        foreign, foreign_after = self.accuracies()["other labels, top-1"]
        if self.kept == 1:
            return "The original weights are kept: no tuning was better on the validated clips by more than chance."
        said = "" if last is None else f"Tuned: {percent(first)} % became {percent(last)} % on the validated clips."
        if foreign is not None and foreign_after < foreign:
            said += f" Other labels lost: {percent(foreign)} % became {percent(foreign_after)} %."
        return said.strip() or "Tuned."

    def accuracies(self) -> dict[str, tuple[float | None, float | None]]:
        """Before and after, 0 to 1: top-1 and top-5 on the tuned labels, top-1 on other labels."""
        pair = self.before.logits, self.after.logits
        first, five = (
            tuple(None if logits is None else top(logits, self.targets, k) for logits in pair) for k in (1, 5)
        )
        return {
            "tuned labels, top-1": first,
            "tuned labels, top-5": five,
            "other labels, top-1": (self.before.others, self.after.others),
        }

    def write(self, folder: Path) -> None:
        """All files but the model and the metrics. Raises OutputError."""
        name, names = folder.resolve().name, self.splits.names
        labels = yaml.safe_dump({"name": name, "labels": names}, allow_unicode=True, sort_keys=False)
        try:
            write_text(folder / "labels.yaml", labels)
            write_text(folder / "report.md", printable(self._markdown(name)))
            if self.history:
                draw_curves(self.history, folder / "curves.png")
            if self.after.logits is not None:
                counts = confusion(self.targets, self.after.logits.argmax(1), len(names))
                draw_confusion(counts, names, folder / "confusion.png")
        except OSError as error:
            raise OutputError(
                f"the report in {str(folder)!r} cannot be written: {error.strerror}", "free space"
            ) from error

    def _markdown(self, title: str) -> str:
        parts = [f"# {escaped(title)}", self.verdict, table(("", ""), self.facts.items())]
        rows = [(name, percent(a), percent(b)) for name, (a, b) in self.accuracies().items()]
        parts += ["## Accuracy, %", table(("", "before, by name", "after"), rows)]
        if not self.splits.others:
            parts.append("Other labels were not measured: name clips of theirs with `--others`.")
        if self.after.logits is not None:
            parts += ["## Classes, %", table(("class", "clips", "before", "after"), self._classes())]
            parts += ["## Most confused", self._confused()]
        leaking = leaks(self.splits.train, self.splits.val, self.findings)
        if leaking:
            lines = ("- " + escaped(f"{a.path} = {b.path}: {why}") for a, b, why in leaking)
            parts += ["## Leaks: learned from and validated on", "\n".join(lines)]
        if duplicates := self.findings.duplicates(self.splits.train) + self.findings.duplicates(self.splits.val):
            parts += [
                "## The same file twice",
                "\n".join("- " + escaped(f"{a.path} = {b.path}") for a, b in duplicates),
            ]
        if self.findings.unreadable:
            lines = ("- " + escaped(f"{sample.path}: {reason}") for sample, reason in self.findings.unreadable.items())
            parts += ["## Left out: cannot be read", "\n".join(lines)]
        return "\n\n".join(parts) + "\n"

    def _classes(self) -> list[tuple]:
        targets, rows = self.targets, []
        for i, name in enumerate(self.splits.names):
            of_class = targets == i
            shares = [top(s.logits[of_class], targets[of_class]) for s in (self.before, self.after)]
            rows.append((name, int(of_class.sum()), *map(percent, shares)))
        return rows

    def _confused(self) -> str:
        names, predictions = self.splits.names, self.after.logits.argmax(1).tolist()
        pairs: dict[tuple[str, str], list[str]] = {}
        for sample, predicted in zip(self.splits.validated, predictions, strict=True):
            if sample.label != names[predicted]:
                pairs.setdefault((sample.label, names[predicted]), []).append(Path(sample.path).name)
        worst = sorted(pairs.items(), key=lambda pair: -len(pair[1]))[:_MOST_PAIRS]
        rows = [(a, b, len(files), ", ".join(files[:_MOST_FILES])) for (a, b), files in worst]
        return table(("is", "was taken for", "clips", "files"), rows) if rows else "Nothing was confused."


def write_metrics(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """One line of JSON an epoch. Raises OutputError."""
    try:
        write_text(folder / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in history))
    except OSError as error:
        raise OutputError(
            f"cannot write the metrics in {str(folder)!r}: {error.strerror}", "free space, --resume"
        ) from error
