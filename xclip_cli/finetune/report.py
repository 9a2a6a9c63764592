"""What became of a run, as files for people: report.md, curves.png, confusion.png, labels.yaml, metrics.jsonl."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from xclip_cli import __version__
from xclip_cli.errors import OutputError
from xclip_cli.files import write_text
from xclip_cli.metrics import confusion
from xclip_cli.outputs.markdown import percent, table
from xclip_cli.plots import draw_confusion, draw_curves

from .loop import places

if TYPE_CHECKING:
    from .run import Job

_MOST_PAIRS, _MOST_FILES = 10, 3


@dataclass(frozen=True)
class Scores:
    """Logits (n, N) of the validation clips over the tuned labels, and top-1 on other labels; None where unmeasured."""

    mine: Tensor | None
    others: float | None


@dataclass(frozen=True)
class Report:
    """A finished run: ``before`` with the model as it came, ``after`` as it was saved, ``kept`` of the original."""

    job: Job
    command: str
    kept: float
    history: list[dict[str, Any]]
    before: Scores
    after: Scores

    def accuracies(self) -> dict[str, tuple[float | None, float | None]]:
        """Before and after, 0 to 1: top-1 and top-5 on the tuned labels, top-1 on other labels."""
        answers = self._answers()
        return {
            "tuned labels, top-1": (top(self.before.mine, answers, 1), top(self.after.mine, answers, 1)),
            "tuned labels, top-5": (top(self.before.mine, answers, 5), top(self.after.mine, answers, 5)),
            "other labels, top-1": (self.before.others, self.after.others),
        }

    def write(self, folder: Path) -> None:
        """All files but the model and the metrics. Raises OutputError."""
        name, names = folder.resolve().name, self.job.splits.names
        labels = yaml.safe_dump({"name": name, "labels": names}, allow_unicode=True, sort_keys=False)
        try:
            write_text(folder / "labels.yaml", labels)
            write_text(folder / "report.md", self._markdown(name))
            draw_curves(self.history, folder / "curves.png")
            if self.after.mine is not None:
                guesses = self.after.mine.argmax(1)
                draw_confusion(confusion(self._answers(), guesses, len(names)), names, folder / "confusion.png")
        except OSError as error:
            raise OutputError(
                f"the report in {str(folder)!r} cannot be written: {error.strerror}", "free space"
            ) from error

    def _answers(self) -> Tensor:
        return places(self.job.splits.val, self.job.splits.names)

    def _markdown(self, name: str) -> str:
        job, settings = self.job, self.job.settings
        facts = {
            "command": f"`{self.command}`",
            "model": f"{job.checkpoint.name}, fingerprint {job.checkpoint.fingerprint[:16]}",
            "regime": f"{settings.regime}: {job.regime.about}",
            "clips": f"{len(job.splits.train)} to learn from, {len(job.splits.val)} to validate",
            "unreadable": len(job.findings.unreadable),
            "data": f"sha256 {job.data_sha256}",
            "seed": settings.seed,
            "epochs": len(self.history),
            "original weights kept": f"{self.kept:.0%} (--keep {settings.keep})",
            "versions": f"xclip-cli {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
            "device": f"{job.device}, {settings.dtype}, {job.ranks.count} process(es)",
        }
        parts = [f"# {name}", table(("", ""), facts.items())]
        rows = [(name, percent(a), percent(b)) for name, (a, b) in self.accuracies().items()]
        parts += ["## Accuracy, %", table(("", "before, by name", "after"), rows)]
        if not job.splits.others:
            parts.append("Other labels were not measured: name clips of theirs with `--others`.")
        if self.after.mine is not None:
            parts += ["## Classes, %", table(("class", "clips", "before", "after"), self._classes())]
            parts += ["## Most confused", self._confused()]
        leaks, twins = job.findings.duplicates(job.splits.train, job.splits.val)
        if leaks:
            parts += ["## Leaks: learned from and validated on", "\n".join(f"- {a} = {b}" for a, b in leaks)]
        if twins:
            parts += ["## The same file twice", "\n".join(f"- {a} = {b}" for a, b in twins)]
        if job.findings.unreadable:
            lines = (f"- {sample.path}: {reason}" for sample, reason in job.findings.unreadable.items())
            parts += ["## Left out: cannot be read", "\n".join(lines)]
        return "\n\n".join(parts) + "\n"

    def _classes(self) -> list[tuple]:
        answers, rows = self._answers(), []
        for i, name in enumerate(self.job.splits.names):
            of_class = answers == i
            right = [percent(top(s.mine[of_class], answers[of_class], 1)) for s in (self.before, self.after)]
            rows.append((name, int(of_class.sum()), *right))
        return rows

    def _confused(self) -> str:
        answers, guesses, names = self._answers(), self.after.mine.argmax(1), self.job.splits.names
        pairs: dict[tuple[str, str], list[str]] = {}
        for sample, answer, guess in zip(self.job.splits.val, answers.tolist(), guesses.tolist(), strict=True):
            if answer != guess:
                pairs.setdefault((names[answer], names[guess]), []).append(Path(sample.path).name)
        worst = sorted(pairs.items(), key=lambda pair: -len(pair[1]))[:_MOST_PAIRS]
        rows = [(a, b, len(files), ", ".join(files[:_MOST_FILES])) for (a, b), files in worst]
        return table(("is", "was taken for", "clips", "files"), rows) if rows else "Nothing was confused."


def write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """One line of JSON an epoch. Raises OutputError."""
    try:
        write_text(folder / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in history))
    except OSError as error:
        raise OutputError(
            f"cannot write the metrics in {str(folder)!r}: {error.strerror}", "free space, --resume"
        ) from error


def top(logits: Tensor | None, answers: Tensor, k: int) -> float | None:
    """Share of the rows whose answer is among the best k; None without rows or with no more than k classes (k > 1)."""
    if logits is None or not len(logits) or (k > 1 and logits.shape[1] <= k):
        return None
    return (logits.topk(k).indices == answers[:, None]).any(1).float().mean().item()
