"""A whole fine-tuning run: clips and a model in; a better model, and what became of it, out. Or its ablation."""

import copy
import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from xclip_cli import __version__
from xclip_cli.checkpoint import Checkpoint, save
from xclip_cli.device import resolve_device
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import printable, write_text
from xclip_cli.labels import from_names
from xclip_cli.outputs.markdown import percent, table
from xclip_cli.samples import Sample, label_names
from xclip_cli.settings import FinetuneSettings
from xclip_cli.video.worker import DecodePool

from .clipsets import Splits, find_clips
from .learner import Front, Learner, choose_front, merge
from .loop import Epoch, Job, class_indices, evaluate, joined, top, train
from .regimes import NOTHING, REGIMES
from .report import Report, Scores, write_metrics
from .state import State
from .store import ClipStore, Findings

STATE, MODEL = "state.pt", "model.safetensors"
SHARES = tuple(i / 10 for i in range(10))  # of the original weights, that `--keep auto` chooses from
_PLAIN = {"cross_frame": False, "mit_layers": 0, "prompt_layers": 0}
ABLATION = {  # switches of the network, and what names the classes: the paper's table 7
    "frames averaged": (_PLAIN, "text"),
    "+ cross-frame messages": (_PLAIN | {"cross_frame": True}, "text"),
    "+ multi-frame integration": ({"prompt_layers": 0}, "text"),
    "+ video-specific prompts": ({}, "text"),
    "the same, a classifier instead of text": ({}, "classifier"),
}
ABLATION_HEADS = ("network", "before", "after, top-1 %")
OnProgress = Callable[[int, int], None]
Stopped = Callable[[], bool]


@dataclass(frozen=True)
class Ready:
    """What is known before the first step."""

    splits: Splits
    findings: Findings
    trained_parameters: int
    memory_bytes: int


def run(
    data: str,
    output: Path,
    settings: FinetuneSettings,
    checkpoint: Checkpoint,
    on_progress: OnProgress,
    stopped: Stopped,
    command: str,
    resume: bool = False,
) -> Iterator[Ready | Epoch | Report]:
    """Fine-tunes and writes ``output``: says what is ready, then each epoch, then the report (the first process only).

    ``on_progress(done, total)`` counts clips as they are read. Raises UsageError, ModelError, TrainingError,
    OutputError, and Interrupted where ``stopped`` says so.
    """
    _check_folder(output, resume)
    with _opened(data, settings, checkpoint, on_progress) as job:
        before = _scores(job)
        original = {name: p.detach().clone() for name, p in job.model.named_parameters()} if settings.keeps else None
        learner = _learner(job)
        if not learner.trained:
            raise UsageError(f"--regime {settings.regime} has nothing to learn: {checkpoint.name} has no such part")
        yield Ready(job.splits, job.findings, sum(p.numel() for p in learner.trained.values()), _memory(job, learner))
        state = _state(job, output / STATE)
        for epoch in train(job, learner, state.load() if resume else state, stopped):
            if job.ranks.first:
                write_metrics(output, state.history)
            yield epoch
        state.recall_best(learner)
        merge(job.model)
        kept = _keep(job, original) if original else 0.0
        after = _scores(job, None if learner.by_name else learner)
        if job.ranks.first:
            _save(job, learner, output)
            facts = _facts(job, command, len(state.history), kept)
            report = Report(facts, job.splits, job.findings, kept, state.history, before, after)
            report.write(output)
            state.path.unlink(missing_ok=True)
            yield report


def ablate(
    data: str,
    output: Path,
    settings: FinetuneSettings,
    checkpoint: Checkpoint,
    on_progress: OnProgress,
    command: str,
) -> Iterator[tuple[str, str, str]]:
    """Trains each network of ABLATION alike, from the model's weights: a row of ABLATION_HEADS for each.

    All of them are in ``ablation.md``; a dash stands where nothing of it learns in the regime. Raises as ``run``.
    """
    _check_folder(output)
    with _opened(data, settings, checkpoint, on_progress, ablates=True) as job:
        rows = []
        for name, (switches, head) in ABLATION.items():
            variant = _variant(job, switches, head, on_progress)
            before = None
            if head == "text":
                before = _top1(job, _logits(variant, job.splits.val, job.names))
            learner, after = _learner(variant), None
            if learner.trained:
                state = _state(variant, output / "ablation.pt")  # which no run goes on with
                for _ in train(variant, learner, state):
                    pass
                state.recall_best(learner)
                after = _top1(job, evaluate(variant, learner, job.splits.val))
                state.path.unlink(missing_ok=True)
            rows.append((name, percent(before), percent(after)))
            yield rows[-1]
        if job.ranks.first:
            _write_ablation(job, output, command, rows)


def check(
    data: str, settings: FinetuneSettings, checkpoint: Checkpoint, on_progress: OnProgress
) -> tuple[Splits, Findings]:
    """Reads every clip and learns nothing. Raises UsageError where the lists themselves are wrong."""
    splits = find_clips(data, settings)
    with DecodePool(settings.reader, settings.workers, settings.decode_timeout_seconds) as pool:
        store = ClipStore(checkpoint.preprocessing, checkpoint.num_frames, pool)
        return splits, _read(store, splits, on_progress)


@contextmanager
def _opened(
    data: str, settings: FinetuneSettings, checkpoint: Checkpoint, on_progress: OnProgress, ablates: bool = False
) -> Iterator[Job]:
    """The clips, read, and the model, loaded. Raises UsageError, ModelError and OutputError."""
    device = resolve_device(settings.device)
    if settings.dtype == "auto":
        settings = replace(settings, dtype="bfloat16" if device.type == "cuda" else "float32")
    if settings.regime not in REGIMES:
        raise UsageError(f"--regime is {settings.regime!r}: it must be one of {', '.join(REGIMES)}")
    splits, regime = find_clips(data, settings), REGIMES[settings.regime]
    _check_validation(splits, settings, ablates)
    model = checkpoint.full_model().to(device)
    front = choose_front(model, regime)
    with (
        joined(device) as ranks,
        DecodePool(settings.reader, settings.workers, settings.decode_timeout_seconds) as pool,
    ):
        store = _store(checkpoint, front, device, pool)
        findings = ranks.share(_read(store, splits, on_progress) if ranks.first else None)
        splits = splits.without(findings.unreadable)
        _check_validation(splits, settings, ablates)
        yield Job(settings, checkpoint, model, regime, front, store, splits, findings, device, ranks)


def _store(checkpoint: Checkpoint, front: Front, device: torch.device, pool: DecodePool) -> ClipStore:
    def encode(frames: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.cpu() for tensor in front(frames.to(device)))

    made_by = f"{checkpoint.fingerprint} {front.identity}"
    return ClipStore(checkpoint.preprocessing, checkpoint.num_frames, pool, None if front.is_empty else encode, made_by)


def _read(store: ClipStore, splits: Splits, on_progress: OnProgress) -> Findings:
    total, findings = len(splits.train) + len(splits.val) + len(splits.others), Findings()
    for part, varied in ((splits.train, True), (splits.val, False), (splits.others, False)):
        before = findings.count
        findings.add(store.prepare(part, varied, lambda done, _, before=before: on_progress(before + done, total)))
    return findings


def _variant(job: Job, switches: Mapping[str, bool | int], head: str, on_progress: OnProgress) -> Job:
    """The same job for a copy of the network with some parts off, and what is kept of the clips for its own front."""
    model, regime = copy.deepcopy(job.model).switched(**switches), replace(job.regime, head=head)
    front, store = choose_front(model, regime), job.store
    if front.identity != job.front.identity:
        store = _store(job.checkpoint, front, job.device, job.store.pool)
        if job.ranks.first:
            _read(store, job.splits, on_progress)
        job.ranks.share(None)  # the others wait
    return replace(job, model=model, regime=regime, front=front, store=store)


def _prompts(names: Sequence[str]) -> list[str]:
    """The text that stands for each name, as when tagging."""
    return [label.prompts[0] for label in from_names(list(names)).labels]


def _learner(job: Job) -> Learner:
    """What learns; its weights and words that are new are drawn from the seed."""
    settings = job.settings
    torch.manual_seed(settings.seed)
    job.model.visual.checkpointing = settings.checkpointing
    texts = _prompts(job.names)
    return Learner(job.front, texts, job.regime, settings.learn_context, settings.lora).to(job.device)


def _logits(job: Job, samples: Sequence[Sample], names: Sequence[str]) -> Tensor:
    """What the model as it is, its classes by their names, says of samples."""
    return evaluate(job, Learner(job.front, _prompts(names), NOTHING).to(job.device), samples)


def _top1(job: Job, logits: Tensor) -> float:
    """Of the validation clips, 0 to 1."""
    return top(logits, class_indices(job.splits.val, job.names))


def _scores(job: Job, learner: Learner | None = None) -> Scores:
    """The model by its own text tower, or the tuned labels by a learner; what has no clips is None."""
    splits, logits, others = job.splits, None, None
    if splits.val:
        logits = evaluate(job, learner, splits.val) if learner else _logits(job, splits.val, job.names)
    if splits.others:
        names = label_names(splits.others)
        others = top(_logits(job, splits.others, names), class_indices(splits.others, names))
    return Scores(logits, others)


def _state(job: Job, path: Path) -> State:
    """A new one, to be kept in this file, whose folder is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(path.parent)!r}: {error.strerror}") from error
    purpose = f"{_data_sha256(job)} {job.checkpoint.fingerprint} {job.settings.fingerprint}"
    return State(path, purpose, job.ranks.count, keeps_best=job.settings.patience is not None)


def _data_sha256(job: Job) -> str:
    """Of the contents, labels and splits of all clips."""
    digest, known = hashlib.sha256(), job.findings.sha256
    for part in (job.splits.train, job.splits.val):
        for s in part:
            digest.update(f"{known[s.path]} {s.start_seconds} {s.end_seconds} {s.label}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _keep(job: Job, original: Mapping[str, Tensor]) -> float:
    """Puts what was asked for of the original weights back; gives the share."""
    val, asked = job.splits.val, job.settings.keep
    tuned = {name: p.detach().clone() for name, p in job.model.named_parameters()}

    def accuracy_at(share: float) -> float:
        interpolate(job.model, original, tuned, share)
        return _top1(job, _logits(job, val, job.names))

    share = choose_share(accuracy_at, len(val)) if asked == "auto" else float(asked)
    interpolate(job.model, original, tuned, share)
    return share


def interpolate(model: nn.Module, original: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> None:
    """Gives the model ``share`` times the original weights plus the rest of the tuned ones, so that other labels still
    work (WiSE-FT, Wortsman et al., 2022)."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.lerp(tuned[name], original[name], share))


def choose_share(accuracy_at: Callable[[float], float], count: int) -> float:
    """The largest of SHARES whose accuracy on ``count`` validation clips is within one standard error of the best.

    What the clips cannot tell apart is decided for the labels that they do not show (the one-standard-error rule,
    Breiman et al., 1984).
    """
    accuracies = {share: accuracy_at(share) for share in SHARES}
    best = max(accuracies.values())
    error = (best * (1 - best) / count) ** 0.5
    return max(share for share, accuracy in accuracies.items() if accuracy >= best - error)


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
        labels=job.names,
        label_features=features,
        made_by=made_by,
    )


def _facts(job: Job, command: str, epochs: int, kept: float) -> dict[str, object]:
    settings, splits = job.settings, job.splits
    return {
        "command": f"`{command}`",
        "model": f"{job.checkpoint.name}, fingerprint {job.checkpoint.fingerprint[:16]}",
        "regime": f"{settings.regime}: {job.regime.about}",
        "clips": f"{len(splits.train)} to learn from, {len(splits.val)} to validate",
        "unreadable": len(job.findings.unreadable),
        "data": f"sha256 {_data_sha256(job)}",
        "seed": settings.seed,
        "epochs": epochs,
        "original weights kept": f"{kept:.0%} (--keep {settings.keep})",
        "versions": f"xclip-cli {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "device": f"{job.device}, {settings.dtype}, {job.ranks.count} process(es)",
    }


def _write_ablation(job: Job, output: Path, command: str, rows: Sequence[tuple[str, str, str]]) -> None:
    splits = job.splits
    facts = f"{len(splits.train)} clips to learn from, {len(splits.val)} to validate, seed {job.settings.seed}"
    text = f"# Ablation\n\n`{command}`: {facts}\n\n{table(ABLATION_HEADS, rows)}\n"
    try:
        write_text(output / "ablation.md", text)
    except OSError as error:
        raise OutputError(f"cannot write the table in {str(output)!r}: {error.strerror}", "free space") from error


def _memory(job: Job, learner: Learner) -> int:
    """Bytes that training will take at its largest, about: weights, gradients, two moments, and what a step keeps.

    A transformer block keeps some 34 values of two bytes per token and width (Korthikanti et al., 2023), twice that in
    float32; with checkpointing its input alone.
    """
    settings, vision = job.settings, job.model.config.vision
    weights = 4 * sum(p.numel() for p in learner.parameters())
    learned = 12 * sum(p.numel() for p in learner.trained.values())
    kept = learner.patches(torch.Generator())
    tokens = 2 + (vision.num_patches if kept is None else len(kept))
    clips = -(-job.schedule.batch_size // settings.accumulate) * job.checkpoint.num_frames
    per_block = 4 if settings.checkpointing else 68 if settings.dtype == "float32" else 34
    blocks = 0 if job.front.encodes_frames else vision.layers
    return weights + learned + clips * tokens * vision.width * blocks * per_block


def _check_validation(splits: Splits, settings: FinetuneSettings, ablates: bool) -> None:
    """UsageError for an option that compares accuracies on validation clips where there are none."""
    asked = {"--keep auto": settings.keep == "auto", "--patience": settings.patience is not None, "--ablate": ablates}
    for option in (option for option, wanted in asked.items() if wanted and not splits.val):
        raise UsageError(
            f"{option} needs validation clips: there are none",
            "name some with --val PATH, or have two clips or more of each class",
        )


def _check_folder(output: Path, resume: bool = False) -> None:
    """UsageError for an output folder that holds something, unless it is a run to go on with, or has an odd name."""
    if (name := printable(str(output.resolve()))) != str(output.resolve()):
        raise UsageError(f"the output '{name}' is not valid Unicode: no weights can be written there", "another -o")
    if resume and not (output / STATE).exists() and (output / MODEL).exists():
        raise UsageError(f"the run in {str(output)!r} is finished: there is nothing to go on with", "see its report.md")
    if output.exists() and not resume and (not output.is_dir() or any(output.iterdir())):
        hint = "choose another -o, or delete the folder"
        hint = f"go on with --resume, or {hint}" if (output / STATE).exists() else hint
        raise UsageError(f"the output {str(output)!r} is there already and not empty", hint)
