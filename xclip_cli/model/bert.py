"""BERT's text tower (Devlin et al., 2019), read as sentence embeddings are: the mean over all tokens."""

import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.model.block import Attention, Mlp, parameter
from xclip_cli.model.config import TextConfig

EPSILON = 1e-12  # of every layer norm


class PostNormBlock(nn.Module):
    """Transformer block that normalises after each sum, (N, L, width) -> the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width, EPSILON)
        self.mlp = Mlp(width, "gelu")
        self.ln_2 = nn.LayerNorm(width, EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.ln_1(x + self.attn(x, mask=mask))
        return self.ln_2(x + self.mlp(x))


class BertTower(nn.Module):
    """Tokens (N, L), 0 where a row is padded -> text features (N, E) of unit length.

    The embedding of token type 0, which all tokens have, is part of the positions'. The activation is always GELU.
    """

    def __init__(self, config: TextConfig, embed_dim: int):
        super().__init__()
        self.token_embedding = parameter(config.vocab_size, config.width)
        self.position_embedding = parameter(config.context_length, config.width)
        self.ln_embed = nn.LayerNorm(config.width, EPSILON)
        self.blocks = nn.ModuleList(PostNormBlock(config.width, config.heads) for _ in range(config.layers))
        own = config.width == embed_dim
        self.proj = nn.Identity() if own else nn.Linear(config.width, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x, mask = F.embedding(tokens, self.token_embedding), tokens != 0
        x = self.ln_embed(x + self.position_embedding[: x.shape[1]])
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        x = (x * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return F.normalize(self.proj(x), dim=-1)
