"""A whole fine-tuning run: clips and a model in; a better model, and what became of it, out."""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from xclip_cli import __version__
from xclip_cli.checkpoint import Checkpoint, open_checkpoint, save
from xclip_cli.device import resolve_device
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import printable
from xclip_cli.labels import from_names
from xclip_cli.model.xclip import Xclip
from xclip_cli.samples import Sample, label_names
from xclip_cli.settings import FinetuneSettings
from xclip_cli.video.worker import DecodePool

from .clipsets import Splits, find_clips
from .learner import Learner, choose_front, merge
from .loop import Epoch, Ranks, Task, accuracy, evaluate, joined, train
from .regimes import NOTHING, REGIMES, Regime
from .report import Report, Scores, write_metrics
from .state import State
from .store import ClipStore, Findings

SHARES = tuple(i / 10 for i in range(10))  # of the original weights, that `--keep auto` chooses from
STATE, MODEL = "state.pt", "model.safetensors"
Told = Callable[[int, int], None]
Stopped = Callable[[], bool]


@dataclass(frozen=True)
class Ready:
    """What is known before the first step."""

    splits: Splits
    findings: Findings
    trained_parameters: int
    memory_bytes: int


@dataclass
class Job:
    """The clips, read, and the model, loaded: all that a run and an ablation have in common."""

    settings: FinetuneSettings
    checkpoint: Checkpoint
    splits: Splits
    findings: Findings
    store: ClipStore
    model: Xclip
    regime: Regime
    front: str
    device: torch.device
    ranks: Ranks

    @property
    def data_sha256(self) -> str:
        """Of the contents, labels and splits of all clips."""
        digest = hashlib.sha256()
        for part in (self.splits.train, self.splits.val):
            for s in part:
                digest.update(f"{self.findings.sha256[s.path]} {s.start_seconds} {s.end_seconds} {s.label}\n".encode())
            digest.update(b"\n")
        return digest.hexdigest()

    @property
    def purpose(self) -> str:
        """What a state must be of to go on with."""
        return f"{self.data_sha256} {self.checkpoint.fingerprint} {self.settings.fingerprint}"

    def task(self, learner: Learner, names: list[str] | None = None) -> Task:
        """Of this job, for a learner over some classes (by default those that are tuned)."""
        settings = self.settings
        asked = {"epochs": settings.epochs, "batch_size": settings.batch_size, "rate": settings.lr}
        schedule = replace(self.regime.schedule(self.model), **{k: v for k, v in asked.items() if v is not None})
        parts = self.store, self.splits.train, self.splits.val, names or self.splits.names
        return Task(learner.to(self.device), *parts, schedule, settings, self.device, self.ranks)

    def learner(self, model: Xclip, regime: Regime) -> Learner:
        """What learns; its weights and words that are new are drawn from the seed."""
        torch.manual_seed(self.settings.seed)
        model.visual.checkpointing = self.settings.checkpointing
        texts = prompts(self.splits.names)
        return Learner(model, texts, regime, self.front, self.settings.learn_context, self.settings.lora)

    def logits(self, model: Xclip) -> Tensor:
        """What the model, its classes by their names, says of the validation clips."""
        return self._logits(model, self.splits.val, self.splits.names)

    def scores(self, model: Xclip, task: Task | None = None) -> Scores:
        """The model by its own text tower, or the tuned labels by a task's learner; what has no clips is None."""
        mine, others = None, None
        if self.splits.val:
            mine = evaluate(task, self.splits.val) if task else self.logits(model)
        if samples := self.splits.others:
            names = label_names(samples)
            others = accuracy(self._logits(model, samples, names), samples, names)
        return Scores(mine, others)

    def _logits(self, model: Xclip, samples: list[Sample], names: list[str]) -> Tensor:
        return evaluate(self.task(Learner(model, prompts(names), NOTHING, self.front), names), samples)


def prompts(names: list[str]) -> list[str]:
    """The text that stands for each name, as when tagging."""
    return [label.prompts[0] for label in from_names(names).labels]


@contextmanager
def opened(data: str, settings: FinetuneSettings, told: Told) -> Iterator[Job]:
    """Reads the clips and the model. Raises UsageError, ModelError and OutputError."""
    device = resolve_device(settings.device)
    if settings.dtype == "auto":
        settings = replace(settings, dtype="bfloat16" if device.type == "cuda" else "float32")
    if settings.regime not in REGIMES:
        raise UsageError(f"--regime is {settings.regime!r}: it must be one of {', '.join(REGIMES)}")
    splits, checkpoint = find_clips(data, settings), open_checkpoint(settings.model)
    model, regime = checkpoint.full_model().to(device), REGIMES[settings.regime]
    front = choose_front(model, regime)
    with (
        joined(device) as ranks,
        DecodePool(settings.reader, settings.workers, settings.decode_timeout_seconds) as pool,
    ):
        still = Learner(copy.deepcopy(model), ["-"], NOTHING, front) if front != "pixels" else None
        encode = still and (lambda frames: tuple(t.cpu() for t in still.encode_front(frames.to(device))))
        store = ClipStore(
            checkpoint.preprocessing, checkpoint.num_frames, pool, encode, f"{checkpoint.fingerprint} {front}"
        )
        findings = ranks.share(_read(store, splits, told) if ranks.first else None)
        splits = splits.without(findings.unreadable)
        yield Job(settings, checkpoint, splits, findings, store, model, regime, front, device, ranks)


def _read(store: ClipStore, splits: Splits, told: Told) -> Findings:
    total, findings = len(splits.train) + len(splits.val) + len(splits.others), Findings()
    for part, varied in ((splits.train, True), (splits.val, False), (splits.others, False)):
        before = findings.count
        findings.add(store.prepare(part, varied, lambda done, _, before=before: told(before + done, total)))
    return findings


def check(data: str, settings: FinetuneSettings, told: Told) -> tuple[Splits, Findings]:
    """Reads every clip and learns nothing. Raises UsageError where the lists themselves are wrong."""
    splits, checkpoint = find_clips(data, settings), open_checkpoint(settings.model)
    with DecodePool(settings.reader, settings.workers, settings.decode_timeout_seconds) as pool:
        return splits, _read(ClipStore(checkpoint.preprocessing, checkpoint.num_frames, pool), splits, told)


def run(
    data: str, output: Path, settings: FinetuneSettings, resume: bool, told: Told, stopped: Stopped, command: str
) -> Iterator[Ready | Epoch | Report]:
    """Fine-tunes and writes ``output``: says what is ready, then each epoch, then the report (the first process only).

    ``told(done, total)`` counts clips as they are read. Raises UsageError, ModelError, TrainingError, OutputError, and
    Interrupted where ``stopped`` says so.
    """
    check_folder(output, resume)
    with opened(data, settings, told) as job:
        check_validation(job.splits, settings)
        before = job.scores(job.model)
        original = copy.deepcopy(job.model).requires_grad_(False) if settings.keeps else None
        learner = job.learner(job.model, job.regime)
        task = job.task(learner)
        yield Ready(job.splits, job.findings, sum(p.numel() for p in learner.trained.values()), memory(task))
        state = State(output / STATE, job.purpose, job.ranks.count, settings.patience is not None)
        make_folder(output)
        for epoch in train(task, state.load() if resume else state, stopped):
            if job.ranks.first:
                write_metrics(output, state.history)
            yield epoch
        state.recall_best(learner)
        merge(job.model)
        kept = _keep(job, original) if original else 0.0
        after = job.scores(job.model, None if learner.by_name else task)
        if job.ranks.first:
            _save(job, learner, output)
            report = Report(job, command, kept, state.history, before, after)
            report.write(output)
            state.path.unlink(missing_ok=True)
            yield report


def _keep(job: Job, original: Xclip) -> float:
    """Puts what was asked for of the original weights back; gives the share."""
    asked = job.settings.keep
    first = dict(original.named_parameters())
    tuned = {name: p.detach().clone() for name, p in job.model.named_parameters()}

    def accuracy_at(share: float) -> float:
        interpolate(job.model, first, tuned, share)
        return accuracy(job.logits(job.model), job.splits.val, job.splits.names)

    share = choose_share(accuracy_at, len(job.splits.val)) if asked == "auto" else float(asked)
    interpolate(job.model, first, tuned, share)
    return share


def interpolate(model: nn.Module, original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], keep: float) -> None:
    """Gives the model ``keep`` times the original weights plus the rest of the tuned ones."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.lerp(tuned[name], original[name], keep))


def choose_share(accuracy_at: Callable[[float], float], count: int) -> float:
    """The largest share whose accuracy on ``count`` validation clips is within one standard error of the best.

    What the clips cannot tell apart is decided for the labels that they do not show (the one-standard-error rule,
    Breiman et al., 1984).
    """
    accuracies = {keep: accuracy_at(keep) for keep in SHARES}
    best = max(accuracies.values())
    error = (best * (1 - best) / count) ** 0.5
    return max(keep for keep, accuracy in accuracies.items() if accuracy >= best - error)


def _save(job: Job, learner: Learner, output: Path) -> None:
    """A file that tags by itself: classes that are not by name have their features in it."""
    model, features = job.model, None
    if not learner.by_name:
        features = learner.text().detach()
    if learner.classifier is not None:
        model = model.switched(prompt_layers=0)
    made_by = f"xclip finetune {__version__}, {job.settings.regime}, from {job.checkpoint.name}"
    save(
        model.cpu(),
        output / MODEL,
        preprocessing=job.checkpoint.preprocessing,
        name=output.resolve().name,
        labels=job.splits.names,
        label_features=features,
        made_by=made_by,
    )


def memory(task: Task) -> int:
    """Bytes that training will take at its largest, about: weights, gradients, two moments, and what a step keeps.

    A transformer block keeps some 34 values of two bytes per token and width (Korthikanti et al., 2023), twice that in
    float32; with checkpointing its input alone.
    """
    learner, settings, vision = task.learner, task.settings, task.learner.model.config.vision
    weights = 4 * sum(p.numel() for p in learner.parameters())
    learned = 12 * sum(p.numel() for p in learner.trained.values())
    kept = learner.patches(torch.Generator())
    tokens = 2 + (vision.num_patches if kept is None else len(kept))
    clips = -(-task.schedule.batch_size // settings.accumulate) * task.store.num_frames
    per_block = 4 if settings.checkpointing else 68 if settings.dtype == "float32" else 34
    blocks = 0 if learner.front == "visual" else vision.layers
    return weights + learned + clips * tokens * vision.width * blocks * per_block


def check_validation(splits: Splits, settings: FinetuneSettings) -> None:
    """UsageError for an option that chooses by the accuracy on validation clips where there are none."""
    asked = {"--keep auto": settings.keep == "auto", "--patience": settings.patience is not None}
    for option in (option for option, wanted in asked.items() if wanted and not splits.val):
        raise UsageError(
            f"{option} needs validation clips: there are none",
            "name some with --val PATH, or have two clips or more of each class",
        )


def check_folder(output: Path, resume: bool = False) -> None:
    """UsageError for an output folder that holds something, unless it is a run to go on with, or has an odd name."""
    if (name := printable(str(output.resolve()))) != str(output.resolve()):
        raise UsageError(
            f"the output '{name}' is not valid Unicode: weights cannot be written there", "choose another -o"
        )
    if resume and not (output / STATE).exists() and (output / MODEL).exists():
        raise UsageError(f"the run in {str(output)!r} is finished: there is nothing to go on with", "see its report.md")
    if output.exists() and not resume and (not output.is_dir() or any(output.iterdir())):
        hint = "choose another -o, or delete the folder"
        hint = f"go on with --resume, or {hint}" if (output / STATE).exists() else hint
        raise UsageError(f"the output {str(output)!r} is there already and not empty", hint)


def make_folder(output: Path) -> None:
    """Raises OutputError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(output)!r}: {error.strerror}") from error
