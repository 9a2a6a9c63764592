"""A whole fine-tuning run: clips and a model in; a better model, and what became of it, out. Or its ablation."""

import copy
import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli import __version__
from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.dataset import Sample, label_names
from xclip_cli.dataset.sources import Findings
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import make_folder, printable, write_text
from xclip_cli.finetune.clipsets import Splits
from xclip_cli.finetune.job import Job, OnProgress, by_name, class_indices, evaluate, opened, prompts
from xclip_cli.finetune.keep import SHARES, choose, helps, interpolate, top
from xclip_cli.finetune.learner import Learner, choose_front
from xclip_cli.finetune.loop import Epoch, State, train
from xclip_cli.finetune.probe import WAYS, Probe, Videos
from xclip_cli.finetune.report import Report, Scores, write_metrics
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.outputs.markdown import Code, escaped, percent, table

STATE, MODEL = "state.pt", "model.safetensors"
_PLAIN = {"cross_frame": False, "mit_layers": 0, "prompt_layers": 0}
ABLATION = {  # switches of the network, and what names the classes: the paper's table 7
    "frames averaged": (_PLAIN, "text"),
    "+ cross-frame messages": (_PLAIN | {"cross_frame": True}, "text"),
    "+ multi-frame integration": ({"prompt_layers": 0}, "text"),
    "+ video-specific prompts": ({}, "text"),
    "the same, a classifier instead of text": ({}, "classifier"),
}
ABLATION_HEADS = ("network", "before", "after, top-1 %")
Stopped = Callable[[], bool]


@dataclass(frozen=True)
class Tuned:
    """What came out: ``features`` (N, E) of the classes, where they stand for their texts, and the share ``kept`` of
    the original, 1 where nothing changed. ``logits`` are those of clips that were validated in turn; ``facts`` say how
    it was found."""

    features: Tensor | None
    kept: float
    logits: Tensor | None = None
    history: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """What is known before the first step."""

    splits: Splits
    findings: Findings
    trained_parameters: int
    memory_bytes: int
    stops_after_step: bool


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
    with opened(data, settings, checkpoint, on_progress) as job:
        before = _scores(job)
        if job.regime.head == "probe":
            make_folder(output)
            yield Ready(job.splits, job.findings, len(job.names) * job.model.config.embed_dim, _memory(job), False)
            tuned = _probed(job, before.logits)
        else:
            tuned = yield from _trained(job, output, stopped, resume)
        after = _scores(job, tuned)
        if job.ranks.first:
            facts = _facts(job, command, tuned)
            report = Report(facts, job.splits, job.findings, tuned.kept, tuned.history, before, after)
            report.write(output)
            _save(job, tuned, output)  # last: where it is, the run is finished
            (output / STATE).unlink(missing_ok=True)
            yield report


def _trained(job: Job, output: Path, stopped: Stopped, resume: bool) -> Iterator[Ready | Epoch]:
    """Trains, and returns what of it is taken."""
    original = _copy(job.model)
    learner = _learner(job)
    learned = sum(p.numel() for p in learner.trained.values())
    yield Ready(job.splits, job.findings, learned, _memory(job, learner), True)
    state = _state(job, output / STATE)
    for epoch in train(job, learner, state.load() if resume else state, stopped):
        if job.ranks.first:
            write_metrics(output, state.history)
        yield epoch
    state.recall_best(learner)
    tuned = _copy(job.model)

    def logits(share: float) -> Tensor:
        interpolate(job.model, original, tuned, share)
        return evaluate(job, by_name(job, job.names), job.splits.val)

    if job.settings.keep == "auto":
        candidates = [logits(share) for share in SHARES]
        kept = job.ranks.share(SHARES[choose(candidates, class_indices(job.splits.val, job.names), slack=1)])
    else:
        kept = float(job.settings.keep)
    interpolate(job.model, original, tuned, kept)
    return Tuned(None, kept, history=state.history, facts={"epochs": len(state.history)})


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _probed(job: Job, before: Tensor) -> Tuned:
    """Solves for the classes' features, and takes what the clips validated on, whose logits were ``before``, speak for.

    The way is chosen by what the probe makes of the logits, and what is chosen is judged by the network's own.
    """
    text, splits, settings = by_name(job, job.names).text().float().cpu(), job.splits, job.settings
    videos = _videos(job, text, splits.train)
    probe = Probe(text, videos.lengths.mean(dim=0), job.model.logit_scale.exp().item())
    solutions = list(probe.solutions(videos))
    validated = videos if splits.folds else _videos(job, text, splits.val)
    parts = probe.in_turn(videos, splits.folds) if splits.folds else {0: solutions}
    candidates = probe.candidates(validated, splits.folds, parts)
    if settings.keep == "auto":
        kept, chosen = 0.0, job.ranks.share(choose(candidates, validated.targets, paths=2)) - 1
    else:
        losses = [F.cross_entropy(logits, validated.targets) for logits in candidates[1:]]
        kept, chosen = float(settings.keep), job.ranks.share(int(torch.stack(losses).argmin()))
    if chosen < 0 or kept == 1:
        return Tuned(None, 1.0, before)

    def features(offsets: Sequence[Tensor]) -> Tensor:
        return job.ranks.share(probe.moved((1 - kept) * offsets[chosen]))

    after = torch.empty_like(before)
    for fold, offsets in parts.items():
        held = [i for i in range(len(before)) if not splits.folds or splits.folds[i] == fold]
        learner = by_name(job, job.names, features(offsets))
        after[held] = evaluate(job, learner, [splits.validated[i] for i in held])
    if settings.keep == "auto" and not job.ranks.share(helps(before, after, validated.targets, 1)):
        return Tuned(None, 1.0, before)
    what, strength = WAYS[chosen]
    facts = {"classes are told apart by": what, "held to the texts by": f"{strength:g}"}
    return Tuned(features(solutions), kept, after, facts=facts)


def _videos(job: Job, text: Tensor, samples: Sequence[Sample]) -> Videos:
    """Clips as the network, as it is, sees them beside texts (N, E)."""
    texts = text.to(job.device)

    def seen(inputs: list[Tensor]) -> Tensor:
        video, patches = job.front.finish(inputs)
        video, still = (F.normalize(x.float(), dim=-1) for x in (video, job.front.still(inputs).video))
        prompted = texts.expand(len(video), -1, -1) if patches is None else job.model.prompts(texts, patches).float()
        return torch.cat([video, still, (prompted @ video.unsqueeze(-1)).squeeze(-1), prompted.norm(dim=-1)], dim=1)

    columns = evaluate(job, seen, samples).clone()  # outside inference mode, so that the solving may use it
    number, width = texts.shape
    features, stills, along, lengths = columns.split([width, width, number, number], dim=1)
    return Videos(features, along, lengths, class_indices(samples, job.names), stills)


def ablate(
    data: str,
    output: Path,
    settings: FinetuneSettings,
    checkpoint: Checkpoint,
    on_progress: OnProgress,
    command: str,
) -> Iterator[tuple[str, str, str]]:
    """Trains each network of ABLATION alike, from the model's weights: a row of ABLATION_HEADS for each.

    All of them are in ``ablation.md``; a classifier without text knows nothing before. Raises as ``run``.
    """
    _check_folder(output)
    with opened(data, settings, checkpoint, on_progress, ablates=True) as job:
        rows = []
        for name, (switches, head) in ABLATION.items():
            variant = _variant(job, switches, head)
            before = None
            if head == "text":
                before = _top1(job, evaluate(variant, by_name(variant, job.names), job.splits.val))
            learner, state = _learner(variant), _state(variant, output / "ablation.pt")  # which no run goes on with
            for _ in train(variant, learner, state):
                pass
            state.recall_best(learner)
            after = _top1(job, evaluate(variant, learner, job.splits.val))
            state.path.unlink(missing_ok=True)
            rows.append((name, percent(before), percent(after)))
            yield rows[-1]
        if job.ranks.first:
            _write_ablation(job, output, command, rows)


def _variant(job: Job, switches: Mapping[str, bool | int], head: str) -> Job:
    """The same job for a copy of the network with some parts off; what its front gives of a clip is the same."""
    model, regime = copy.deepcopy(job.model).switched(**switches), replace(job.regime, head=head)
    return replace(job, model=model, regime=regime, front=choose_front(model, regime))


def _learner(job: Job) -> Learner:
    """What learns; its new weights are drawn from the seed."""
    torch.manual_seed(job.settings.seed)
    job.model.visual.checkpointing = job.settings.checkpointing
    return Learner(job.front, prompts(job.names), job.regime).to(job.device)


def _top1(job: Job, logits: Tensor) -> float:
    """Of the validation clips, 0 to 1."""
    return top(logits, class_indices(job.splits.val, job.names))


def _scores(job: Job, tuned: Tuned | None = None) -> Scores:
    """The model as it is, or as it will be read from its file; what has no clips is None."""
    splits, features = job.splits, tuned and tuned.features
    logits = tuned and tuned.logits
    if logits is None and splits.validated:
        logits = evaluate(job, by_name(job, job.names, features), splits.validated)
    if not splits.others:
        return Scores(logits, None)
    names = label_names(splits.others)
    others = evaluate(job, by_name(job, names, features), splits.others)
    return Scores(logits, top(others, class_indices(splits.others, names)))


def _state(job: Job, path: Path) -> State:
    """A new one, to be kept in this file, whose folder is made."""
    make_folder(path.parent)
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


def _save(job: Job, tuned: Tuned, output: Path) -> None:
    """A file that tags by itself: classes that are not by name have their features in it."""
    made_by = f"xclip finetune {__version__}, {job.regime.name}, from {job.checkpoint.name}"
    save(
        job.model.cpu(),
        output / MODEL,
        preprocessing=job.checkpoint.preprocessing,
        name=output.resolve().name,
        labels=job.names,
        label_features=tuned.features,
        made_by=made_by,
    )


def _facts(job: Job, command: str, tuned: Tuned) -> dict[str, object]:
    settings, splits = job.settings, job.splits
    ways = f"{max(splits.folds) + 1} parts validated in turn" if splits.folds else f"{len(splits.val)} to validate"
    return {
        "command": Code(command),
        "model": f"{job.checkpoint.name}, fingerprint {job.checkpoint.fingerprint[:16]}",
        "regime": f"{job.regime.name}: {job.regime.about}",
        "clips": f"{len(splits.train)} to learn from, {ways}",
        "unreadable": len(job.findings.unreadable),
        "data": f"sha256 {_data_sha256(job)}",
        "seed": settings.seed,
        **tuned.facts,
        "of the original kept": f"{tuned.kept:.0%} (--keep {settings.keep})",
        "versions": f"xclip-cli {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "device": f"{job.device}, {settings.dtype}, {job.ranks.count} process(es)",
    }


def _write_ablation(job: Job, output: Path, command: str, rows: Sequence[tuple[str, str, str]]) -> None:
    splits = job.splits
    facts = f"{len(splits.train)} clips to learn from, {len(splits.val)} to validate, seed {job.settings.seed}"
    text = f"# Ablation\n\n{escaped(Code(command))}: {facts}\n\n{table(ABLATION_HEADS, rows)}\n"
    try:
        write_text(output / "ablation.md", text)
    except OSError as error:
        raise OutputError(f"cannot write the table in {str(output)!r}: {error.strerror}", "free space") from error


def _memory(job: Job, learner: Learner | None = None) -> int:
    """Bytes that will be taken at the largest, about: weights, gradients, two moments, and what a step keeps; without a
    learner the weights, and what a probe sees of each clip.

    A transformer block keeps some 34 values of two bytes per token and width (Korthikanti et al., 2023), twice that in
    float32; with checkpointing its input alone.
    """
    settings, vision = job.settings, job.model.config.vision
    weights = 4 * sum(p.numel() for p in job.model.parameters())
    if learner is None:
        return weights + 4 * len(job.splits.train) * (2 * job.model.config.embed_dim + len(WAYS) * len(job.names))
    learned = 12 * sum(p.numel() for p in learner.trained.values())
    kept = learner.patches(torch.Generator())
    tokens = 2 + (vision.num_patches if kept is None else len(kept))
    clips = -(-job.schedule.batch_size // settings.accumulate) * job.checkpoint.num_frames
    per_block = 4 if settings.checkpointing else 68 if settings.dtype == "float32" else 34
    return weights + learned + clips * tokens * vision.width * vision.layers * per_block


def _check_folder(output: Path, resume: bool = False) -> None:
    """UsageError for an output folder that holds something, unless it is a run to go on with, or has an odd name."""
    if (name := printable(str(output.resolve()))) != str(output.resolve()):
        raise UsageError(f"the output '{name}' is not valid Unicode: no weights can be written there", "another -o")
    if resume and not (output / STATE).exists() and (output / MODEL).exists():
        raise UsageError(f"the run in {str(output)!r} is finished: there is nothing to go on with", "see its report.md")
    if output.exists() and not resume and (not output.is_dir() or any(output.iterdir())):
        hint = "choose another -o, or delete the folder"
        hint = hint if (output / MODEL).exists() else f"go on with --resume if the run was stopped, or {hint}"
        raise UsageError(f"the output {str(output)!r} is there already and not empty", hint)
