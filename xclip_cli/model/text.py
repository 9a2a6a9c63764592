"""CLIP's text tower and its tokenizer; the choice of tower and tokenizer by configuration."""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.model.bert import BertTower
from xclip_cli.model.block import Block, parameter
from xclip_cli.model.config import Activation, TextConfig
from xclip_cli.model.wordpiece import WordPiece


class Tokenizer(NamedTuple):
    """Functions: texts -> token ids (N, L) int64, truncated; texts -> token counts before truncation."""

    tokenize: Callable[[list[str]], Tensor]
    count_tokens: Callable[[list[str]], list[int]]


def make_tokenizer(config: TextConfig) -> Tokenizer:
    """Return the tokenizer of the configuration's text tower."""
    if config.vocabulary is None:
        return Tokenizer(tokenize, count_tokens)
    pieces = WordPiece(config.vocabulary, config.context_length)
    return Tokenizer(pieces.tokenize, pieces.count_tokens)


def make_tower(config: TextConfig, embed_dim: int, activation: Activation) -> nn.Module:
    """Return the configuration's text tower: tokens (N, L) -> text features (N, E)."""
    return BertTower(config, embed_dim) if config.kind == "bert" else TextTower(config, embed_dim, activation)


class TextTower(nn.Module):
    """Tokens (N, L) -> text features (N, E), taken at the end token, the largest id of a row."""

    def __init__(self, config: TextConfig, embed_dim: int, activation: Activation):
        super().__init__()
        token_width = config.token_width or config.width
        self.token_embedding = parameter(config.vocab_size, token_width)
        self.token_proj = nn.Linear(token_width, config.width, bias=False) if config.token_width else nn.Identity()
        self.position_embedding = parameter(config.context_length, config.width, std=0.01)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, activation, causal=True) for _ in range(config.layers)
        )
        self.ln_final = nn.LayerNorm(config.width)
        self.proj = nn.Linear(config.width, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x, end = self.token_proj(F.embedding(tokens, self.token_embedding)), tokens.argmax(dim=-1)
        x = x + self.position_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.proj(self.ln_final(x[torch.arange(len(x), device=x.device), end]))


def trim(tokens: Tensor) -> Tensor:
    """(N, L) -> (N, longest): drop the padding columns that all rows share."""
    return tokens[:, : int(tokens.any(dim=0).nonzero().max()) + 1] if tokens.any() else tokens


def tokenize(texts: list[str]) -> Tensor:
    """Return ids (N, 77) int64 of CLIP's byte-pair encoding; long texts are cut, the end token is kept."""
    return _byte_pair_encoding()(texts)


def count_tokens(texts: list[str]) -> list[int]:
    """Return how many tokens each text needs, start and end included, without truncation."""
    # Cleaning may lengthen a text (unicode, lower case), and a token is at least one byte.
    room = 2 + 4 * max((len(text.encode()) for text in texts), default=0)
    return (_byte_pair_encoding()(texts, context_length=room).argmax(dim=-1) + 1).tolist()


@cache
def _byte_pair_encoding() -> Callable[..., Tensor]:
    """Return open_clip's tokenizer from its one file: importing the whole package takes seconds."""
    package = importlib.util.find_spec("open_clip")
    file = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("xclip_cli_bpe", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tokenize
