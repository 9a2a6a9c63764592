"""The training loop: flat, and the same whether one process runs it or many.

Everything random is drawn from generators seeded by (seed, epoch, index), so a step depends on nothing but the weights
before it: a run that was stopped anywhere goes on bit for bit, and several processes see what one would.
"""

import math
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.dataset import Sample
from xclip_cli.errors import Interrupted, OutputError, TrainingError, UsageError
from xclip_cli.files import checked, replacing
from xclip_cli.finetune.augment import mix
from xclip_cli.finetune.job import Job, class_indices, evaluate, stacked
from xclip_cli.finetune.keep import top
from xclip_cli.finetune.learner import Learner
from xclip_cli.finetune.regimes import LABEL_SMOOTHING, Schedule, parameter_groups
from xclip_cli.finetune.store import seeded
from xclip_cli.tagger.encoder import precision

_LOADERS, _BATCHES_AHEAD = 2, 2
_MAX_NORM = 1.0

Loaded = tuple[tuple[Tensor, ...], Sample, float]  # the network's input of a clip, the clip, its weight in the loss


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


class _Past(NamedTuple):
    """An entry of a State's history."""

    epoch: int
    loss: float
    accuracy: float | None
    val_loss: float | None


_PROGRESS = {"epoch": int, "step": int, "loss_sum": float, "best": Any}
_ANEW = "start anew: without --resume and with another -o, or after deleting the folder"


@dataclass
class State:
    """Where a run stands, all in one file that is whole or as it was: ``epoch`` and ``step`` are the next to be done.

    ``purpose`` says which run it is (data, model, options), ``processes`` how many train together, which decides what
    clips a step holds. ``history`` has one entry for each epoch; ``best`` the weights of the one with the best
    validation accuracy, kept where a patience asks for them.
    """

    path: Path
    purpose: str
    processes: int = 1
    keeps_best: bool = False
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    _saved: dict[str, Any] | None = None

    def load(self) -> "State":
        """What the file holds. Raises UsageError for one of another run, or one that cannot be read."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                if sum(file.file_size for file in archive.infolist()) > self.path.stat().st_size:
                    raise ValueError("it is larger than its file")
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            purpose, processes = checked(saved["purpose"], str), checked(saved["processes"], int, "of")
            progress = {name: checked(saved[name], kind, name) for name, kind in _PROGRESS.items()}
            progress["history"] = [checked(entry, _Past)._asdict() for entry in saved["history"]]
            if len(progress["history"]) != progress["epoch"]:
                raise ValueError(f"it is of epoch {progress['epoch']} and tells of {len(progress['history'])}")
        except FileNotFoundError:
            return self
        except Exception as error:  # torch raises many kinds for a damaged file
            raise self._damaged(error) from error
        if purpose != self.purpose:
            raise UsageError(f"{str(self.path)!r} is of another run: the clips, the model or an option changed", _ANEW)
        if processes != self.processes:
            torchrun = f"go on with: torchrun --nproc-per-node {processes} -m xclip_cli finetune ... --resume"
            raise UsageError(
                f"{str(self.path)!r} was begun by {processes} process(es) and cannot be gone on with by "
                f"{self.processes}: a step would hold other clips",
                torchrun if processes > 1 else "go on without torchrun",
            )
        vars(self).update(progress)
        self._saved = saved
        return self

    def restore(self, learner: Learner, optimiser: torch.optim.Optimizer, scaler) -> None:
        """Puts what was loaded, if anything, into the learner and its optimiser."""
        if self._saved is None:
            return
        try:
            _check_tensors(self._saved["trained"], learner.trained)
            if self.best is not None:
                _check_tensors(self.best, learner.trained)
            with torch.no_grad():
                for name, parameter in learner.trained.items():
                    parameter.copy_(self._saved["trained"][name])
            _restore_optimiser(optimiser, self._saved["optimiser"]["state"])
            scaler.load_state_dict(self._saved["scaler"])
            if scaler.is_enabled():
                checked(scaler.get_scale(), float, "scale")
        except Exception as error:  # what somebody made of it may be anything
            raise self._damaged(error) from error
        self._saved = None

    def _damaged(self, error: Exception) -> UsageError:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        return UsageError(f"{str(self.path)!r} cannot be read: {reason}", _ANEW)

    def finish_epoch(self, learner: Learner, loss: float, accuracy: float | None, val_loss: float | None) -> None:
        """Closes the epoch: later ones begin at step 0."""
        best = max((entry["accuracy"] or 0 for entry in self.history), default=-1.0)
        self.history.append({"epoch": self.epoch + 1, "loss": loss, "accuracy": accuracy, "val_loss": val_loss})
        if self.keeps_best and (accuracy or 0) > best:
            self.best = {name: p.detach().cpu().clone() for name, p in learner.trained.items()}
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0

    def recall_best(self, learner: Learner) -> None:
        """Puts the best epoch's weights, where they were kept, back."""
        with torch.no_grad():
            for name, tensor in (self.best or {}).items():
                learner.trained[name].copy_(tensor)

    def ran_out_of_patience(self, patience: int | None) -> bool:
        """Whether the best accuracy is more than ``patience`` epochs old."""
        if patience is None or not self.history:
            return False
        scores = [entry["accuracy"] or 0 for entry in self.history]
        return len(scores) - 1 - scores.index(max(scores)) >= patience

    def keep(self, learner: Learner, optimiser: torch.optim.Optimizer, scaler) -> None:
        """Writes the file. Raises OutputError and leaves the old file as it was."""
        kept = ("purpose", "processes", "epoch", "step", "loss_sum", "history", "best")
        content = {name: getattr(self, name) for name in kept}
        content["trained"] = {name: parameter.detach() for name, parameter in learner.trained.items()}
        content |= {"optimiser": optimiser.state_dict(), "scaler": scaler.state_dict()}
        try:
            with replacing(self.path) as draft, open(draft, "wb") as stream:
                torch.save(content, stream)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
            raise OutputError(
                f"{str(self.path)!r} cannot be written: {str(error).splitlines()[0][:120]}",
                f"free space and run the same command with --resume: it goes on after epoch {max(0, self.epoch - 1)}",
            ) from error


def _check_tensors(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises ValueError unless these are finite and of the same names and shapes."""
    if tensors.keys() != expected.keys():
        raise ValueError("it has weights of other names")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or not tensor.isfinite().all():
            raise ValueError(f"{name} has another shape, or is no finite number")


def _restore_optimiser(optimiser: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]]) -> None:
    """Gives an optimiser its moments; rates and the like are those that it has. Raises ValueError."""
    own = optimiser.state_dict()
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for i, state in moments.items():
        _check_tensors(state, dict.fromkeys(("exp_avg", "exp_avg_sq"), parameters[i]) | {"step": torch.zeros(())})
        if state["step"] < 0 or (state["exp_avg_sq"] < 0).any():
            raise ValueError("the optimiser's moments are below 0")
    optimiser.load_state_dict(own | {"state": moments})


def train(job: Job, learner: Learner, state: State, stopped: Callable[[], bool] = lambda: False) -> Iterator[Epoch]:
    """Trains the learner until the schedule or the patience ends, one Epoch at a time; ``state`` is kept after each.

    Raises TrainingError when the loss is no number or the memory is too small, OutputError when the state cannot be
    written, Interrupted when ``stopped`` says so: the state kept is then that after the last step.
    """
    schedule, settings, ranks = job.schedule, job.settings, job.ranks
    optimiser = torch.optim.AdamW(parameter_groups(learner.trained, schedule.rate), betas=(0.9, 0.98))
    scaler = torch.amp.GradScaler(job.device.type, enabled=settings.dtype == "float16")
    state.restore(learner, optimiser, scaler)
    if state.step >= job.steps:
        raise state._damaged(ValueError(f"it is of step {state.step} of {job.steps}"))
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
        loss, accuracy, val_loss = state.loss_sum / len(job.splits.train), *validate(job, learner)
        seconds = time.perf_counter() - begun
        state.finish_epoch(learner, loss, accuracy, val_loss)
        if ranks.first:
            state.keep(learner, optimiser, scaler)
        left = seconds / (state.epoch - first_epoch) * (schedule.epochs - state.epoch)
        yield Epoch(state.epoch, schedule.epochs, loss, accuracy, val_loss, rate, seconds, left)


def validate(job: Job, learner: Learner) -> tuple[float | None, float | None]:
    """Top-1 and loss on the validation clips; None without any."""
    clips = job.splits.val
    if not clips:
        return None, None
    logits, targets = evaluate(job, learner, clips), class_indices(clips, job.names)
    return top(logits, targets), F.cross_entropy(logits, targets).item()


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
    inputs = stacked([tensors for tensors, _, _ in part], job.device)
    weights = torch.tensor([weight for _, _, weight in part], device=job.device)
    indices = class_indices([sample for _, sample, _ in part], names)
    targets = F.one_hot(indices, len(names)).float().to(job.device)
    generator = seeded(seed, *position, "mix", job.ranks.rank)
    cutmix = learner.regime.cutmix if learner.front.is_empty else 0.0  # tokens are no pictures to cut
    inputs[0], targets = mix(inputs[0], targets, learner.regime.mixup, cutmix, generator)
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


@contextmanager
def _explained(job: Job) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory on {job.device}: {job.schedule.batch_size} clips in {job.settings.accumulate} part(s)",
            f"try --accumulate {2 * job.settings.accumulate}, then --checkpointing, then a smaller --batch-size",
        ) from error
