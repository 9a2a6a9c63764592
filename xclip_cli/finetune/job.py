"""What is trained on what: the clips, read, and the network, loaded; and what a network says of clips."""

import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.dataset import Sample
from xclip_cli.dataset.sources import Findings
from xclip_cli.errors import StoreError, UsageError
from xclip_cli.finetune.clipsets import Splits, find_clips
from xclip_cli.finetune.learner import Front, Learner, choose_front
from xclip_cli.finetune.regimes import NOTHING, Regime, Schedule, choose_regime
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.finetune.store import ClipStore
from xclip_cli.labels import from_names
from xclip_cli.model.xclip import Xclip
from xclip_cli.tagger.encoder import precision, resolve_device
from xclip_cli.video.pool import DecodePool

_EVALUATED_AT_ONCE = 8
_START = timedelta(minutes=5)  # for all processes to begin
_PATIENCE = timedelta(hours=12)  # the others wait while the first reads the clips

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Ranks:
    """Which process this is (``rank``, from 0) of how many (``count``)."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def gather(self, value: Any) -> list:
        """Every process's value, in all of them."""
        if self.count == 1:
            return [value]
        box = [None] * self.count
        dist.all_gather_object(box, value)
        return box

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return value


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that `torchrun` started (NCCL on CUDA, else gloo), or this one alone.

    Raises UsageError where the environment is not what `torchrun` makes, or the other processes do not come.
    """
    given = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE") if name in os.environ}
    if not given:
        yield Ranks()
        return
    given |= {name: os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT")}
    hint = "start with: torchrun --nproc-per-node N -m xclip_cli finetune ...; or unset RANK and WORLD_SIZE"
    said = ", ".join(f"{name}={value!r:.40}" for name, value in given.items())
    rank, count, port = (_number(given.get(name)) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not (0 <= rank < count and 1 <= port <= 65535 and given["MASTER_ADDR"]):
        raise UsageError(f"{said} do not describe one of several processes", hint)
    try:
        socket.getaddrinfo(given["MASTER_ADDR"], port)
        store, rank, count = next(dist.rendezvous("env://", timeout=_START))
        store.set_timeout(_PATIENCE)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"the processes that train together cannot meet ({said}): {reason}", hint) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _number(text: str | None) -> int:
    """Return a whole number from 0 to 65535; -1 for any other text."""
    return int(text) if text and re.fullmatch("[0-9]{1,5}", text) else -1


def _own_device(name: str) -> torch.device:
    """Return the device of this process: of several on one machine, each has a GPU of its own."""
    device, local = resolve_device(name), _number(os.environ.get("LOCAL_RANK"))
    if device.type == "cuda" and device.index is None and local >= 0:
        device = resolve_device(f"cuda:{local}")
        torch.cuda.set_device(device)
    return device


@dataclass(frozen=True)
class Job:
    """What is trained on what, and how: the clips, read, and the network, loaded on its device.

    ``front`` is made from ``model``; ``store`` keeps what it gives.
    """

    settings: FinetuneSettings
    checkpoint: Checkpoint
    model: Xclip
    regime: Regime
    front: Front
    store: ClipStore
    splits: Splits
    findings: Findings
    device: torch.device
    ranks: Ranks

    @cached_property
    def names(self) -> list[str]:
        """The classes, in order."""
        return self.splits.names

    @property
    def schedule(self) -> Schedule:
        """The regime's, but for what was asked for."""
        settings = self.settings
        asked = {"epochs": settings.epochs, "batch_size": settings.batch_size, "rate": settings.lr}
        given = {name: value for name, value in asked.items() if value is not None}
        return replace(self.regime.schedule(self.model), **given)

    @property
    def clips_per_step(self) -> int:
        """Of all processes: the batch size is each one's."""
        return self.schedule.batch_size * self.ranks.count

    @property
    def steps(self) -> int:
        """Of an epoch; the last one may be smaller, none is left out."""
        return -(-len(self.splits.train) // self.clips_per_step)


def check(
    data: str, settings: FinetuneSettings, checkpoint: Checkpoint, on_progress: OnProgress
) -> tuple[Splits, Findings]:
    """Reads every clip and learns nothing. Raises UsageError where the lists themselves are wrong."""
    splits = find_clips(data, settings)
    in_turn = choose_regime(settings).validates_in_turn
    with DecodePool(settings.reader, settings.workers, settings.decode_timeout_seconds) as pool:
        store = ClipStore(checkpoint.preprocessing, checkpoint.num_frames, pool)
        findings = read(store, splits, True, on_progress)
    return splits.held_out(settings, findings, in_turn), findings


@contextmanager
def opened(
    data: str, settings: FinetuneSettings, checkpoint: Checkpoint, on_progress: OnProgress, ablates: bool = False
) -> Iterator[Job]:
    """The clips, read, and the model, loaded. Raises UsageError, ModelError and OutputError."""
    device = _own_device(settings.device)
    if settings.dtype == "auto":
        settings = replace(settings, dtype="bfloat16" if device.type == "cuda" else "float32")
    regime, splits = choose_regime(settings, ablates), find_clips(data, settings)
    model = checkpoint.full_model().to(device)
    front = choose_front(model, regime)
    with (
        joined(device) as ranks,
        DecodePool(settings.reader, settings.workers, settings.decode_timeout_seconds) as pool,
    ):
        store = store_of(checkpoint, front, device, pool)
        findings = ranks.share(read(store, splits, regime.augments, on_progress) if ranks.first else None)
        splits = splits.without(findings.unreadable).held_out(settings, findings, regime.validates_in_turn)
        _check_validation(splits, settings, ablates)
        yield Job(settings, checkpoint, model, regime, front, store, splits, findings, device, ranks)


def store_of(checkpoint: Checkpoint, front: Front, device: torch.device, pool: DecodePool) -> ClipStore:
    """Where what the front gives of clips is kept."""

    def encode(frames: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.cpu() for tensor in front(frames.to(device)))

    made_by = f"{checkpoint.fingerprint} {front.name}"
    return ClipStore(checkpoint.preprocessing, checkpoint.num_frames, pool, None if front.is_empty else encode, made_by)


def read(store: ClipStore, splits: Splits, varied: bool, on_progress: OnProgress) -> Findings:
    """Reads all clips but the test's, those to learn from ``varied`` if that is asked for."""
    total, findings = len(splits.train) + len(splits.val) + len(splits.others), Findings()
    for part, varies in ((splits.train, varied), (splits.val, False), (splits.others, False)):
        before = findings.count
        findings.add(store.prepare(part, varies, lambda done, _, before=before: on_progress(before + done, total)))
    return findings


def _check_validation(splits: Splits, settings: FinetuneSettings, ablates: bool) -> None:
    """UsageError for an option that compares accuracies on validation clips where there are none."""
    asked = {"--patience": settings.patience is not None, "--ablate": ablates, "--keep auto": settings.keep == "auto"}
    for option in (option for option, wanted in asked.items() if wanted and not splits.validated):
        raise UsageError(
            f"{option} needs validation clips: there are none",
            "name some with --val PATH, or have two clips or more of each class"
            + ("; --keep 0 takes what was learned unseen" if option == "--keep auto" else ""),
        )


@torch.inference_mode()
def evaluate(job: Job, outputs: Callable[[list[Tensor]], Tensor], samples: Sequence[Sample]) -> Tensor:
    """Float32 (len(samples), K) on the CPU, in order: the outputs (B, K), as of a Learner, of what the front gives.

    The clips are seen as tagging would see them, each once.
    """
    job.model.eval()
    mine, rows = list(range(job.ranks.rank, len(samples), job.ranks.count)), {}
    for start in range(0, len(mine), _EVALUATED_AT_ONCE):
        part = mine[start : start + _EVALUATED_AT_ONCE]
        inputs = stacked([job.store.evaluation(samples[i]) for i in part], job.device)
        with precision(job.device, job.settings.dtype):
            rows |= dict(zip(part, outputs(inputs).float().cpu().numpy(), strict=True))
    all_rows = {i: row for rows in job.ranks.gather(rows) for i, row in rows.items()}
    return torch.stack([torch.from_numpy(all_rows[i]) for i in range(len(samples))])


def stacked(clips: Sequence[tuple[Tensor, ...]], device: torch.device) -> list[Tensor]:
    """The tensors of clips, as batches on the device. Raises StoreError where those of the cache differ in kind."""
    try:
        return [torch.stack(tensors).to(device) for tensors in zip(*clips, strict=True)]
    except (ValueError, RuntimeError) as error:
        if len({tuple(tensor.shape for tensor in clip) for clip in clips}) == 1:
            raise
        raise StoreError("a training clip in the cache is damaged", "delete it: xclip cache --clear") from error


def prompts(names: Sequence[str]) -> list[str]:
    """The text that stands for each name, as when tagging."""
    return [label.prompts[0] for label in from_names(list(names)).labels]


def by_name(job: Job, names: Sequence[str], own: Tensor | None = None) -> Learner:
    """The model as it is, its classes by their names; ``own`` (N, E), if given, stand for the texts of the job's."""
    texts = prompts(names)
    learner = Learner(job.front, texts, NOTHING).to(job.device)
    if own is None:
        return learner
    known = dict(zip(prompts(job.names), own.to(job.device), strict=True))
    features = [known.get(text, row) for text, row in zip(texts, learner.text(), strict=True)]
    return Learner(job.front, texts, NOTHING, features=torch.stack(features)).to(job.device)


def class_indices(samples: Sequence[Sample], names: Sequence[str]) -> Tensor:
    """The index in ``names`` of each sample's label, int64 (n,)."""
    index = {name: i for i, name in enumerate(names)}
    return torch.tensor([index[sample.label] for sample in samples], dtype=torch.int64)
