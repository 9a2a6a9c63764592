"""Cross-frame communication transformer: the frame encoder with messages between frames (paper, section 3.2)."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xclip_cli.model.block import Attention, Block, parameter
from xclip_cli.model.config import Activation, XclipConfig
from xclip_cli.model.stem import make_stem


class Message(nn.Module):
    """Cross-frame fusion attention: class tokens (B, T, width) -> one message for each frame (B, T, width)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.proj = nn.Linear(width, width)
        self.ln = nn.LayerNorm(width)
        self.attn = Attention(width, heads)

    def forward(self, class_tokens: Tensor) -> Tensor:
        message = self.proj(class_tokens)
        return message + self.attn(self.ln(message))


class CrossFrameBlock(Block):
    """CLIP's block; tokens also attend to their frame's message (intra-frame diffusion attention).

    The message is a key and a value only: its own output would be dropped.
    """

    def __init__(self, width: int, heads: int, activation: Activation):
        super().__init__(width, heads, activation)
        self.message = Message(width, heads)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(B * T, N, width) -> the same."""
        message = self.message(x[:, 0].unflatten(0, (-1, num_frames))).flatten(0, 1)
        tokens = self.ln_1(torch.cat([x, message.unsqueeze(1)], dim=1))
        x = x + self.attn(tokens[:, :-1], tokens)
        return x + self.mlp(self.ln_2(x))


class FrameEncoder(nn.Module):
    """Frames -> one feature for each frame, and the patch tokens of the last block."""

    def __init__(self, config: XclipConfig):
        super().__init__()
        vision = config.vision
        make_block = CrossFrameBlock if config.cross_frame else Block
        self.cross_frame = config.cross_frame
        self.checkpointing = False
        self.stem = make_stem(vision)
        self.position_embedding = parameter(vision.num_patches + 1, vision.width)
        self.ln_pre = nn.LayerNorm(vision.width)
        self.blocks = nn.ModuleList(
            make_block(vision.width, vision.heads, config.activation) for _ in range(vision.layers)
        )
        self.ln_post = nn.LayerNorm(vision.width)
        self.proj = nn.Linear(vision.width, config.embed_dim, bias=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 3, S, S) -> (B, T, E) and (B, T, P, width)."""
        return self.encode(self.tokens(frames))

    def tokens(self, frames: Tensor) -> Tensor:
        """(B, T, 3, S, S) -> the stem's tokens (B, T, 1 + P, width)."""
        return self.stem(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def encode(self, tokens: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The stem's tokens (B, T, 1 + P, width) -> the same; of the patches only those ``kept`` (indices), if given.

        With ``checkpointing`` set, training stores only each block's input and recomputes the rest.
        """
        num_frames = tokens.shape[1]
        tokens = tokens + self.position_embedding
        if kept is not None:
            tokens = torch.cat([tokens[:, :, :1], tokens[:, :, 1 + kept]], dim=2)
        x = self.ln_pre(tokens.flatten(0, 1))
        for block in self.blocks:
            run = partial(block, num_frames=num_frames) if self.cross_frame else block
            x = checkpoint(run, x, use_reentrant=False) if self.checkpointing and self.training else run(x)
        x = x.unflatten(0, (-1, num_frames))
        return self.proj(self.ln_post(x[:, :, 0])), x[:, :, 1:]
