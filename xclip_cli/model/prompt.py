"""Video-specific prompting: text features conditioned on the video (paper, section 3.3)."""

import torch
from torch import Tensor, nn

from xclip_cli.model.block import Attention, Mlp
from xclip_cli.model.config import Activation, XclipConfig


class PromptLayer(nn.Module):
    """Text (1 or B, N, E) attends to the video's patches (B, P, E) -> (B, N, E)."""

    def __init__(self, width: int, heads: int, activation: Activation):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, qkv_bias=False)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, activation)

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        text = text + self.attn(self.ln_1(text), patches)
        return text + self.mlp(self.ln_2(text))


class VideoPrompts(nn.Module):
    """Text features -> text features for each video: ``text + alpha * decoder(text, patches)``."""

    def __init__(self, config: XclipConfig):
        super().__init__()
        self.visual_ln = nn.LayerNorm(config.vision.width)
        self.visual_proj = nn.Linear(config.vision.width, config.embed_dim, bias=False)
        self.ln = nn.LayerNorm(config.embed_dim)
        self.layers = nn.ModuleList(
            PromptLayer(config.embed_dim, config.prompt_heads, config.activation) for _ in range(config.prompt_layers)
        )
        self.alpha = nn.Parameter(torch.full((config.embed_dim,), config.prompt_alpha))

    def project(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, T, P, width) -> the video's patches (B, P, E).

        The mean over frames comes before the projection, which is linear: T times cheaper.
        """
        return self.visual_proj(self.visual_ln(patches).mean(dim=1))

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        """(N, E) and (B, P, E) -> (B, N, E)."""
        patches = self.ln(patches)
        prompted = text[None]
        for layer in self.layers:
            prompted = layer(prompted, patches)
        return text + self.alpha * prompted
