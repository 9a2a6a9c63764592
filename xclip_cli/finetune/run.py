"""A whole fine-tuning run: clips and a model in; a better model, and what became of it, out."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from xclip_cli.checkpoint import Checkpoint, open_checkpoint, save
from xclip_cli.errors import ModelError, OutputError, UsageError
from xclip_cli.finetune import keep, lora
from xclip_cli.finetune.clips import ClipStore, Findings
from xclip_cli.finetune.data import Sample, choose_shots, label_names, read_samples, split_samples
from xclip_cli.finetune.learner import Learner, choose_front
from xclip_cli.finetune.loop import Epoch, Task, evaluate, places, train
from xclip_cli.finetune.ranks import Ranks, joined
from xclip_cli.finetune.regimes import REGIMES, Regime, Schedule
from xclip_cli.finetune.report import Outcome, Report, write_labels, write_metrics
from xclip_cli.finetune.state import State
from xclip_cli.labels import from_names
from xclip_cli.model.xclip import Xclip
from xclip_cli.settings import FinetuneSettings
from xclip_cli.tagger import resolve_device
from xclip_cli.video.worker import DecodePool

_FROZEN = Regime("nothing", ("-",), Schedule(0, 0, 0, 1), Schedule(0, 0, 0, 1))
Told = Callable[[int, int], None]


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
            example = next(s for s in self.train if s.label == gone[0])
            raise UsageError(
                f"class {gone[0]!r} has no clip that can be read: {unreadable[example]}",
                "replace its clips or take the class out; --check lists them all",
            )
        return left


@dataclass(frozen=True)
class Ready:
    """What is known before the first step: how the clips read, and what training will take."""

    splits: Splits
    findings: Findings
    memory_bytes: int
    trained_parameters: int


def find_clips(data: str, settings: FinetuneSettings) -> Splits:
    """What a dataset and its options name; no file is opened but lists. Raises UsageError."""
    samples = read_samples(data, settings.class_list)
    if settings.val_share is None:
        training, val = samples, read_samples(settings.val, settings.class_list)
    elif any(sample.split for sample in samples):
        training = [s for s in samples if s.split in (None, "train")]
        val = [s for s in samples if s.split in ("val", "test")]
    else:
        training, val = split_samples(samples, settings.val_share, settings.seed, settings.group_regex)
    if unknown := sorted(set(label_names(val)) - set(label_names(training))):
        raise UsageError(f"label {unknown[0]!r} stands in the validation clips alone", "every label needs training clips")
    if len(label_names(training)) < 2:
        raise UsageError(f"{data!r} has {len(label_names(training))} class: it must have at least 2")
    if settings.shots:
        training = choose_shots(training, settings.shots, settings.seed)
    return Splits(training, val, read_samples(settings.others) if settings.others else [])


def check(data: str, settings: FinetuneSettings, told: Told) -> tuple[Splits, Findings]:
    """Reads every clip, learns nothing."""
    splits, checkpoint = find_clips(data, settings), open_checkpoint(settings.model)
    with _pool(settings) as pool:
        store = ClipStore(checkpoint.preprocessing, checkpoint.num_frames, pool)
        return splits, store.prepare([*splits.train, *splits.val, *splits.others], True, told)


def run(
    data: str,
    output: Path,
    settings: FinetuneSettings,
    resume: bool = False,
    told: Told = lambda done, total: None,
    stopped: Callable[[], bool] = lambda: False,
    command: str = "",
) -> Iterator[Ready | Epoch | Report]:
    """Fine-tunes and writes ``output``: says what is ready, then each epoch, then the report.

    ``told(done, total)`` counts clips as they are read. Raises UsageError, ModelError, TrainingError, OutputError, and
    Interrupted where ``stopped`` says so.
    """
    with ExitStack() as stack:
        job = stack.enter_context(Job.opened(data, settings, told))
        yield job.ready
        before = job.judge()
        task = job.task(*job.learner())
        state = State(output / "state.pt", job.purpose, keeps_best=settings.patience is not None)
        _make_folder(output, state, resume, job.ranks)
        for epoch in train(task, state.load() if resume else state, stopped):
            if job.ranks.first:
                write_metrics(output, state.history)
            yield epoch
        kept = job.finish(task, state)
        after = job.judge(task)
        if job.ranks.first:
            _save(output, task, settings, job)
            write_labels(output, job.splits.names)
            report = Report(data, command, settings, job.checkpoint, job.splits, job.findings, kept, state.history, before, after)
            report.write(output)
            state.path.unlink(missing_ok=True)
            yield report
