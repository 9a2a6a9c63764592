"""Everything that a run needs to go on, in one file that is whole or as it was."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import replacing

from .learner import Learner


@dataclass
class State:
    """Where a run stands: ``epoch`` and ``step`` are the next to be done.

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
        hint = "start anew: without --resume and with another -o, or after deleting the folder"
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            purpose, processes = saved["purpose"], saved["processes"]
        except FileNotFoundError:
            return self
        except Exception as error:  # torch raises many kinds for a damaged file
            reason = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise UsageError(f"{str(self.path)!r} cannot be read: {reason}", hint) from error
        if purpose != self.purpose:
            raise UsageError(f"{str(self.path)!r} is of another run: the clips, the model or an option changed", hint)
        if processes != self.processes:
            torchrun = f"go on with: torchrun --nproc-per-node {processes} -m xclip_cli finetune ... --resume"
            raise UsageError(
                f"{str(self.path)!r} was begun by {processes} process(es) and cannot be gone on with by "
                f"{self.processes}: a step would hold other clips",
                torchrun if processes > 1 else "go on without torchrun",
            )
        for name in ("epoch", "step", "loss_sum", "history", "best"):
            setattr(self, name, saved[name])
        self._saved = saved
        return self

    def restore(self, learner: Learner, optimiser: torch.optim.Optimizer, scaler) -> None:
        """Puts what was loaded, if anything, into the learner and its optimiser."""
        if self._saved is None:
            return
        with torch.no_grad():
            for name, parameter in learner.trained.items():
                parameter.copy_(self._saved["trained"][name])
        optimiser.load_state_dict(self._saved["optimiser"])
        scaler.load_state_dict(self._saved["scaler"])
        self._saved = None

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
