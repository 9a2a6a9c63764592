"""The parts that every tower is made of: attention, MLP, pre-norm block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.model.config import Activation


def activate(x: Tensor, activation: Activation) -> Tensor:
    """GELU, or the sigmoid approximation of it that OpenAI trained CLIP with."""
    if activation == "gelu":
        return F.gelu(x)
    if torch.is_grad_enabled():
        return x * torch.sigmoid(1.702 * x)
    return (1.702 * x).sigmoid_().mul_(x)  # the same numbers with one tensor instead of three


class Attention(nn.Module):
    """Multi-head attention of queries (B or 1, N, width) on a memory (B, M, width), by default themselves."""

    def __init__(self, width: int, heads: int, qkv_bias: bool = True):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=qkv_bias)
        self.k = nn.Linear(width, width, bias=qkv_bias)
        self.v = nn.Linear(width, width, bias=qkv_bias)
        self.out = nn.Linear(width, width)

    def forward(
        self, query: Tensor, memory: Tensor | None = None, causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        """``mask``, if given, is true where a query may look, and broadcasts to (B, heads, N, M)."""
        memory = query if memory is None else memory
        q, k, v = (self._split(x) for x in (self.q(query), self.k(memory), self.v(memory)))
        q = q.expand(k.shape[0], -1, -1, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    """width -> 4 width -> width."""

    def __init__(self, width: int, activation: Activation):
        super().__init__()
        self.activation: Activation = activation
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(activate(self.up(x), self.activation))


class Block(nn.Module):
    """Pre-norm transformer block, (B, N, width) -> (B, N, width)."""

    def __init__(self, width: int, heads: int, activation: Activation, causal: bool = False):
        super().__init__()
        self.causal = causal
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal=self.causal)
        return x + self.mlp(self.ln_2(x))


def parameter(*shape: int, std: float = 0.02) -> nn.Parameter:
    """A learned tensor that starts small and normal."""
    return nn.Parameter(_fill(torch.empty(shape), std))


def initialise(module: nn.Module) -> None:
    """Small normal weights and zero biases for linear maps, for ``Module.apply``; the rest keeps what it has."""
    if isinstance(module, nn.Linear):
        with torch.no_grad():
            _fill(module.weight, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _fill(tensor: Tensor, std: float) -> Tensor:
    # Random numbers on the meta device import torch's compiler: 3 s, before weights from a file replace them.
    return tensor if tensor.is_meta else tensor.normal_(std=std)
