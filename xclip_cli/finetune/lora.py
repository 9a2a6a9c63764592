"""Low-rank adaptation (LoRA, Hu et al., 2022) as a parametrisation of the blocks' linear maps.

Ours and not `peft`: torch's own parametrisations do all the work, a merged model is the plain network again, and no
dependency on transformers and accelerate comes along.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xclip_cli.model.block import Attention, Mlp

from .regimes import is_new


class LowRank(nn.Module):
    """W (out, in) -> W + up @ down; starts as W."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def adapt(module: nn.Module, rank: int, trained: set[str]) -> None:
    """Gives every linear map in attention and MLP whose weight is among ``trained`` (names) a low-rank change.

    Modules that image-text training never saw keep learning whole.
    """
    for name, part in list(module.named_modules()):
        if isinstance(part, Attention | Mlp) and not is_new(f"{name}."):
            for key, linear in part.named_children():
                if f"{name}.{key}.weight" in trained:
                    parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, rank))


def merge(module: nn.Module) -> None:
    """Adds every low-rank change into its weight; the module is then as it was built."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


def is_low_rank(name: str) -> bool:
    """Whether a parameter's name is that of a low-rank change."""
    return ".parametrizations.weight.0." in name
