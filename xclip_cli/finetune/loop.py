"""The training loop: flat, and the same whether one process runs it or many.

Everything random is drawn from generators seeded by (seed, epoch, index), so a step depends on nothing but the weights
before it: a run that was stopped anywhere goes on bit for bit, and several processes see what one would.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.checkpoint import Checkpoint
from xclip_cli.device import precision
from xclip_cli.errors import Interrupted, TrainingError
from xclip_cli.model.xclip import Xclip
from xclip_cli.samples import Sample
from xclip_cli.settings import FinetuneSettings

from .augment import mix
from .clipsets import Splits
from .learner import Front, Learner
from .regimes import LABEL_SMOOTHING, Regime, Schedule, parameter_groups
from .state import State
from .store import ClipStore, Findings, seeded

_LOADERS, _BATCHES_AHEAD, _EVALUATED_AT_ONCE = 2, 2, 8
_MAX_NORM = 1.0
_PATIENCE = timedelta(hours=12)  # the others wait while the first reads the clips

Loaded = tuple[tuple[Tensor, ...], Sample, float]  # the network's input of a clip, the clip, its weight in the loss


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
    """The processes that `torchrun` started (NCCL on CUDA, else gloo), or this one alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Epoch:
    """What one pass over the clips came to. ``accuracy`` and ``val_loss`` are of the validation clips, None without."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    val_loss: float | None
    rate: float
    seconds: float
    remaining_seconds: float


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


def train(job: Job, learner: Learner, state: State, stopped: Callable[[], bool] = lambda: False) -> Iterator[Epoch]:
    """Trains the learner until the schedule or the patience ends, one Epoch at a time; ``state`` is kept after each.

    Raises TrainingError when the loss is no number or the memory is too small, OutputError when the state cannot be
    written, Interrupted when ``stopped`` says so: the state kept is then that after the last step.
    """
    schedule, settings, ranks = job.schedule, job.settings, job.ranks
    optimiser = torch.optim.AdamW(parameter_groups(learner.trained, schedule.rate), betas=(0.9, 0.98))
    scaler = torch.amp.GradScaler(job.device.type, enabled=settings.dtype == "float16")
    state.restore(learner, optimiser, scaler)
    network = _distributed(job, learner)
    begun, first_epoch = time.perf_counter(), state.epoch
    while state.epoch < schedule.epochs and not state.ran_out_of_patience(settings.patience):
        learner.train()
        for batch in _batches(job, state.epoch, state.step):
            rate = _set_rate(optimiser, state.epoch + state.step / job.steps, schedule)
            with _explained(job):
                state.loss_sum += _step(job, learner, network, optimiser, scaler, batch, state)
            state.step += 1
            if any(ranks.gather(stopped())) and state.step < job.steps:
                if ranks.first:
                    state.keep(learner, optimiser, scaler)
                raise Interrupted(
                    f"stopped in epoch {state.epoch + 1} of {schedule.epochs}, after step {state.step} of {job.steps}",
                    "nothing is lost: the same command with --resume goes on from here",
                )
        loss, accuracy, val_loss = state.loss_sum / len(job.splits.train), *_validate(job, learner)
        seconds = time.perf_counter() - begun
        state.finish_epoch(learner, loss, accuracy, val_loss)
        if ranks.first:
            state.keep(learner, optimiser, scaler)
        left = seconds / (state.epoch - first_epoch) * (schedule.epochs - state.epoch)
        yield Epoch(state.epoch, schedule.epochs, loss, accuracy, val_loss, rate, seconds, left)


@torch.inference_mode()
def evaluate(job: Job, learner: Learner, samples: Sequence[Sample]) -> Tensor:
    """Logits float32 (len(samples), N) on the CPU, in order, as tagging would see the clips; each clip once."""
    learner.eval()
    mine, rows = list(range(job.ranks.rank, len(samples), job.ranks.count)), {}
    for start in range(0, len(mine), _EVALUATED_AT_ONCE):
        part = mine[start : start + _EVALUATED_AT_ONCE]
        inputs = _stack([job.store.evaluation(samples[i]) for i in part], job.device)
        with precision(job.device, job.settings.dtype):
            logits = learner(inputs)
        rows |= dict(zip(part, logits.float().cpu().numpy(), strict=True))
    all_rows = {i: row for rows in job.ranks.gather(rows) for i, row in rows.items()}
    return torch.stack([torch.from_numpy(all_rows[i]) for i in range(len(samples))])


def _validate(job: Job, learner: Learner) -> tuple[float | None, float | None]:
    """Top-1 and loss on the validation clips."""
    clips = job.splits.val
    if not clips:
        return None, None
    logits, targets = evaluate(job, learner, clips), class_indices(clips, job.names)
    return top(logits, targets), F.cross_entropy(logits, targets).item()


def class_indices(samples: Sequence[Sample], names: Sequence[str]) -> Tensor:
    """The index in ``names`` of each sample's label, int64 (n,)."""
    index = {name: i for i, name in enumerate(names)}
    return torch.tensor([index[sample.label] for sample in samples], dtype=torch.int64)


def top(logits: Tensor, targets: Tensor, k: int = 1) -> float | None:
    """Share of rows (0 to 1) whose target is among the best k; None without rows, or with k > 1 classes or fewer."""
    if not len(logits) or (k > 1 and logits.shape[1] <= k):
        return None
    return (logits.topk(k).indices == targets[:, None]).any(1).float().mean().item()


def _batches(job: Job, epoch: int, first: int) -> Iterator[list[Loaded]]:
    """This process's part of each batch from step ``first`` on, loaded ahead; together they hold every clip once."""
    seed, ranks, clips = job.settings.seed, job.ranks, job.splits.train
    order = torch.randperm(len(clips), generator=seeded(seed, epoch)).tolist()

    def load(i: int, weight: float) -> Loaded:
        return job.store.training(clips[i], seeded(seed, epoch, i)), clips[i], weight

    with ThreadPoolExecutor(_LOADERS) as loaders:
        waiting = []
        for step in range(first, job.steps):
            batch = order[step * job.clips_per_step : (step + 1) * job.clips_per_step]
            mine = batch[ranks.rank :: ranks.count]
            weight = ranks.count / len(batch)  # the mean over all processes' clips, whoever has how many
            picked = [(i, weight) for i in mine] or [(batch[0], 0.0)]
            waiting.append([loaders.submit(load, *clip) for clip in picked])
            if len(waiting) > _BATCHES_AHEAD:
                yield [future.result() for future in waiting.pop(0)]
        for futures in waiting:
            yield [future.result() for future in futures]


def _step(
    job: Job, learner: Learner, network: nn.Module, optimiser, scaler, batch: list[Loaded], state: State
) -> float:
    """One step of the optimiser; the sum of the loss over the clips of all processes."""
    parts = [batch[i :: job.settings.accumulate] for i in range(min(job.settings.accumulate, len(batch)))]
    total = torch.zeros((), device=job.device)
    for i, part in enumerate(parts):
        with network.no_sync() if job.ranks.count > 1 and i + 1 < len(parts) else nullcontext():
            loss = _loss(job, learner, network, part, (state.epoch, state.step, i))
            scaler.scale(loss).backward()
        total += loss.detach()
    total = job.ranks.total(total).item() / job.ranks.count
    if not math.isfinite(total):
        raise TrainingError(
            f"the loss is {total} in epoch {state.epoch + 1}, step {state.step + 1}: it must be a number",
            f"the state after epoch {state.epoch} is kept; try a lower --lr than {job.schedule.rate:g}",
        )
    scaler.unscale_(optimiser)
    nn.utils.clip_grad_norm_(list(learner.trained.values()), _MAX_NORM)
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad()
    done = state.step * job.clips_per_step
    return total * min(job.clips_per_step, len(job.splits.train) - done)


def _loss(job: Job, learner: Learner, network: nn.Module, part: list[Loaded], position: tuple[int, int, int]) -> Tensor:
    """Of one part of a batch; ``position`` is its epoch, step and number."""
    seed, names = job.settings.seed, job.names
    inputs = _stack([tensors for tensors, _, _ in part], job.device)
    weights = torch.tensor([weight for _, _, weight in part], device=job.device)
    indices = class_indices([sample for _, sample, _ in part], names)
    targets = F.one_hot(indices, len(names)).float().to(job.device)
    if learner.front.is_empty:
        generator = seeded(seed, *position, "mix", job.ranks.rank)
        inputs[0], targets = mix(inputs[0], targets, learner.regime.mixup, learner.regime.cutmix, generator)
    with precision(job.device, job.settings.dtype):
        logits = network(inputs, learner.patches(seeded(seed, *position[:2])))
    losses = F.cross_entropy(logits.float(), targets, label_smoothing=LABEL_SMOOTHING, reduction="none")
    return (weights * losses).sum()


def _distributed(job: Job, learner: Learner) -> nn.Module:
    if job.ranks.count == 1:
        return learner
    devices = [job.device] if job.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(learner, devices, broadcast_buffers=False)


def _set_rate(optimiser: torch.optim.Optimizer, epoch: float, schedule: Schedule) -> float:
    """Linear warm-up, then cosine to nothing; ``epoch`` is a fraction. Gives the rate of weights that were there."""
    warm = min(schedule.warmup, schedule.epochs / 4)
    share = (
        (epoch + 1e-3) / warm
        if epoch < warm
        else (1 + math.cos(math.pi * (epoch - warm) / (schedule.epochs - warm))) / 2
    )
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
    return schedule.rate * share


def _stack(clips: Sequence[tuple[Tensor, ...]], device: torch.device) -> list[Tensor]:
    return [torch.stack(tensors).to(device) for tensors in zip(*clips, strict=True)]


@contextmanager
def _explained(job: Job) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory on {job.device}: {job.schedule.batch_size} clips in {job.settings.accumulate} part(s)",
            f"try --accumulate {2 * job.settings.accumulate}, then --checkpointing, then a smaller --batch-size",
        ) from error
