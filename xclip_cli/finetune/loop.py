"""The training loop: flat, and the same whether one process runs it or many.

Everything random is drawn from generators seeded by (seed, epoch, place), so a step depends on nothing but the weights
before it: a run that was stopped anywhere goes on bit for bit, and several processes see what one would.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.device import precision
from xclip_cli.errors import Interrupted, TrainingError
from xclip_cli.samples import Sample
from xclip_cli.settings import FinetuneSettings

from .augment import mix
from .learner import Learner
from .regimes import LABEL_SMOOTHING, Schedule, parameter_groups
from .state import State
from .store import ClipStore, seeded

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
class Task:
    """What is trained on what: the learner on its device, the clips, their classes in order, and how."""

    learner: Learner
    store: ClipStore
    train: Sequence[Sample]
    val: Sequence[Sample]
    names: Sequence[str]
    schedule: Schedule
    settings: FinetuneSettings
    device: torch.device
    ranks: Ranks

    @property
    def at_once(self) -> int:
        """Clips per step: the batch size is each process's."""
        return self.schedule.batch_size * self.ranks.count

    @property
    def steps(self) -> int:
        """Of an epoch; the last one may be smaller, none is left out."""
        return -(-len(self.train) // self.at_once)


def train(task: Task, state: State, stopped: Callable[[], bool] = lambda: False) -> Iterator[Epoch]:
    """Trains until the schedule or the patience ends, one Epoch at a time; ``state`` is kept after each.

    Raises TrainingError when the loss is no number or the memory is too small, OutputError when the state cannot be
    written, Interrupted when ``stopped`` says so: the state kept is then that after the last step.
    """
    learner, schedule, settings, ranks = task.learner, task.schedule, task.settings, task.ranks
    optimiser = torch.optim.AdamW(parameter_groups(learner.trained, schedule.rate), betas=(0.9, 0.98))
    scaler = torch.amp.GradScaler(task.device.type, enabled=settings.dtype == "float16")
    state.restore(learner, optimiser, scaler)
    network = _distributed(task)
    begun, first_epoch = time.perf_counter(), state.epoch
    while state.epoch < schedule.epochs and not state.ran_out_of_patience(settings.patience):
        learner.train()
        for batch in _batches(task, state.epoch, state.step):
            rate = _set_rate(optimiser, state.epoch + state.step / task.steps, schedule)
            with _explained(task):
                state.loss_sum += _step(task, network, optimiser, scaler, batch, state)
            state.step += 1
            if any(ranks.gather(stopped())) and state.step < task.steps:
                if ranks.first:
                    state.keep(learner, optimiser, scaler)
                raise Interrupted(
                    f"stopped in epoch {state.epoch + 1} of {schedule.epochs}, after step {state.step} of {task.steps}",
                    "nothing is lost: the same command with --resume goes on from here",
                )
        loss, accuracy, val_loss = state.loss_sum / len(task.train), *_validate(task)
        seconds = time.perf_counter() - begun
        state.finish_epoch(learner, loss, accuracy, val_loss)
        if ranks.first:
            state.keep(learner, optimiser, scaler)
        left = seconds / (state.epoch - first_epoch) * (schedule.epochs - state.epoch)
        yield Epoch(state.epoch, schedule.epochs, loss, accuracy, val_loss, rate, seconds, left)


@torch.inference_mode()
def evaluate(task: Task, samples: Sequence[Sample]) -> Tensor:
    """Logits float32 (len(samples), N) on the CPU, as tagging would see the clips; each clip once, in its place."""
    task.learner.eval()
    mine, rows = list(range(task.ranks.rank, len(samples), task.ranks.count)), {}
    for start in range(0, len(mine), _EVALUATED_AT_ONCE):
        part = mine[start : start + _EVALUATED_AT_ONCE]
        inputs = _stack([task.store.evaluation(samples[i]) for i in part], task.device)
        with precision(task.device, task.settings.dtype):
            logits = task.learner(inputs)
        rows |= dict(zip(part, logits.float().cpu().numpy(), strict=True))
    all_rows = {i: row for rows in task.ranks.gather(rows) for i, row in rows.items()}
    return torch.stack([torch.from_numpy(all_rows[i]) for i in range(len(samples))])


def _validate(task: Task) -> tuple[float | None, float | None]:
    """Top-1 and loss on the validation clips."""
    if not task.val:
        return None, None
    logits = evaluate(task, task.val)
    loss = F.cross_entropy(logits, places(task.val, task.names)).item()
    return accuracy(logits, task.val, task.names), loss


def accuracy(logits: Tensor, samples: Sequence[Sample], names: Sequence[str]) -> float:
    """Top-1, 0 to 1."""
    return (logits.argmax(1) == places(samples, names)).float().mean().item()


def places(samples: Sequence[Sample], names: Sequence[str]) -> Tensor:
    """The class number of each, int64 (n,)."""
    place = {name: i for i, name in enumerate(names)}
    return torch.tensor([place[sample.label] for sample in samples])


def _batches(task: Task, epoch: int, first: int) -> Iterator[list[Loaded]]:
    """This process's part of each batch from step ``first`` on, loaded ahead; together they hold every clip once."""
    seed, ranks = task.settings.seed, task.ranks
    order = torch.randperm(len(task.train), generator=seeded(seed, epoch)).tolist()

    def load(i: int, weight: float) -> Loaded:
        return task.store.training(task.train[i], seeded(seed, epoch, i)), task.train[i], weight

    with ThreadPoolExecutor(_LOADERS) as loaders:
        waiting = []
        for step in range(first, task.steps):
            batch = order[step * task.at_once : (step + 1) * task.at_once]
            mine = batch[ranks.rank :: ranks.count]
            weight = ranks.count / len(batch)  # the mean over all processes' clips, whoever has how many
            picked = [(i, weight) for i in mine] or [(batch[0], 0.0)]
            waiting.append([loaders.submit(load, *clip) for clip in picked])
            if len(waiting) > _BATCHES_AHEAD:
                yield [future.result() for future in waiting.pop(0)]
        for futures in waiting:
            yield [future.result() for future in futures]


def _step(task: Task, network: nn.Module, optimiser, scaler, batch: list[Loaded], state: State) -> float:
    """One step of the optimiser; the sum of the loss over the clips of all processes."""
    parts = [batch[i :: task.settings.accumulate] for i in range(min(task.settings.accumulate, len(batch)))]
    total = torch.zeros((), device=task.device)
    for i, part in enumerate(parts):
        with network.no_sync() if task.ranks.count > 1 and i + 1 < len(parts) else nullcontext():
            loss = _loss(task, network, part, (state.epoch, state.step, i))
            scaler.scale(loss).backward()
        total += loss.detach()
    total = task.ranks.total(total).item() / task.ranks.count
    if not math.isfinite(total):
        raise TrainingError(
            f"the loss is {total} in epoch {state.epoch + 1}, step {state.step + 1}: it must be a number",
            f"the state after epoch {state.epoch} is kept; try a lower --lr than {task.schedule.rate:g}",
        )
    scaler.unscale_(optimiser)
    nn.utils.clip_grad_norm_(list(task.learner.trained.values()), _MAX_NORM)
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad()
    at = state.step * task.at_once
    return total * len(range(at, min(at + task.at_once, len(task.train))))


def _loss(task: Task, network: nn.Module, part: list[Loaded], place: tuple[int, ...]) -> Tensor:
    learner, seed = task.learner, task.settings.seed
    inputs = _stack([tensors for tensors, _, _ in part], task.device)
    weights = torch.tensor([weight for _, _, weight in part], device=task.device)
    answers = F.one_hot(places([sample for _, sample, _ in part], task.names), len(task.names)).float().to(task.device)
    if learner.front == "pixels":
        generator = seeded(seed, *place, "mix", task.ranks.rank)
        inputs[0], answers = mix(inputs[0], answers, learner.regime.mixup, learner.regime.cutmix, generator)
    with precision(task.device, task.settings.dtype):
        logits = network(inputs, learner.patches(seeded(seed, *place[:2])))
    losses = F.cross_entropy(logits.float(), answers, label_smoothing=LABEL_SMOOTHING, reduction="none")
    return (weights * losses).sum()


def _distributed(task: Task) -> nn.Module:
    if task.ranks.count == 1:
        return task.learner
    devices = [task.device] if task.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(task.learner, devices, broadcast_buffers=False)


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
def _explained(task: Task) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory on {task.device}: {task.schedule.batch_size} clips in {task.settings.accumulate} part(s)",
            f"try --accumulate {2 * task.settings.accumulate}, then --checkpointing, then a smaller --batch-size",
        ) from error
