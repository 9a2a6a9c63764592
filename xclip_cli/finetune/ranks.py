"""One training process, or one of several that `torchrun` started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

_PATIENCE = timedelta(hours=12)  # the others wait while the first reads the clips


@dataclass(frozen=True)
class Ranks:
    """Which process this is (``rank``, from 0) of how many (``count``)."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            dist.barrier()

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
