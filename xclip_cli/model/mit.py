"""Multi-frame integration transformer: frame features into one video feature (paper, section 3.2)."""

from torch import Tensor, nn

from xclip_cli.model.block import Block, parameter
from xclip_cli.model.config import XclipConfig


class FrameIntegration(nn.Module):
    """(B, T, E) -> (B, E). T is fixed by the learned position of every frame."""

    def __init__(self, config: XclipConfig):
        super().__init__()
        self.position_embedding = parameter(1, config.num_frames, config.embed_dim)
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.mit_heads, config.activation) for _ in range(config.mit_layers)
        )

    def forward(self, frame_features: Tensor) -> Tensor:
        x = frame_features + self.position_embedding
        for block in self.blocks:
            x = block(x)
        return (frame_features + x).mean(dim=1)
