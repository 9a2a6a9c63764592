"""The whole X-CLIP network (paper, figure 2): frames and label texts in, one logit for each pair out."""

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xclip_cli.errors import ModelError
from xclip_cli.model.block import initialise
from xclip_cli.model.cct import FrameEncoder
from xclip_cli.model.config import XclipConfig
from xclip_cli.model.mit import FrameIntegration
from xclip_cli.model.prompt import VideoPrompts
from xclip_cli.model.text import make_tower, trim


class VideoFeatures(NamedTuple):
    """Features of B videos (B, E), not normalised, and patches (B, P, E) for the prompts; None without prompts."""

    video: Tensor
    patches: Tensor | None = None


def cosine(video: Tensor, text: Tensor) -> Tensor:
    """Return the cosines (B, N) of videos (B, E) with texts (N, E) or, for each video its own, (B, N, E).

    Always in float32: in half precision the best of some hundred labels would tie.
    """
    device = video.device.type
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        video, text = (F.normalize(features.float(), dim=-1) for features in (video, text))
        return video @ text.T if text.ndim == 2 else (text @ video.unsqueeze(-1)).squeeze(-1)


def at_temperature(similarity: Tensor, logit_scale: Tensor) -> Tensor:
    """Return the logits, float32, of cosines."""
    return logit_scale.float().exp() * similarity.float()


def mean_of_frames(features: Tensor) -> Tensor:
    """Frame features (B, T, E) -> video features (B, E), float32: normalised, then averaged over the frames."""
    return F.normalize(features.float(), dim=-1).mean(dim=1)


class Xclip(nn.Module):
    """The network of a configuration, with random weights; ``text=False`` leaves the text tower out."""

    def __init__(self, config: XclipConfig, text: bool = True):
        super().__init__()
        self.config = config
        self.visual = FrameEncoder(config)
        self.mit = FrameIntegration(config) if config.mit_layers else None
        self.prompts = VideoPrompts(config) if config.prompt_layers else None
        self.text = make_tower(config.text, config.embed_dim, config.activation) if text else None
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.apply(initialise)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) int64 -> features (N, E), before prompting, of the tower's own length.

        Raises ModelError where the network was built without its text tower.
        """
        if self.text is None:
            raise ModelError("the text tower was left out of this model", hint="Build it with text=True.")
        return self.text(trim(tokens))

    def encode_video(self, frames: Tensor) -> VideoFeatures:
        """Normalised frames (B, T, 3, S, S) -> features. T is num_frames, or any number where mit_layers is 0.

        Raises ModelError for frames of another number or size.
        """
        self._check(frames)
        return self.encode_tokens(self.frame_tokens(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))

    def frame_tokens(self, frames: Tensor) -> Tensor:
        """Normalised frames (N, 3, S, S) -> the stem's tokens (N, 1 + P, width), which windows may share."""
        return self.visual.stem(frames)

    def encode_tokens(self, tokens: Tensor) -> VideoFeatures:
        """The frames' stem tokens (B, T, 1 + P, width) -> features of B videos."""
        return self.integrate(*self.visual.encode(tokens))

    def integrate(self, frame_features: Tensor, patches: Tensor) -> VideoFeatures:
        """The frame encoder's outputs (B, T, E) and (B, T, P, width) -> features of B videos."""
        return VideoFeatures(
            video=mean_of_frames(frame_features) if self.mit is None else self.mit(frame_features),
            patches=None if self.prompts is None else self.prompts.project(patches),
        )

    def similarity(self, features: VideoFeatures, text: Tensor) -> Tensor:
        """Return the cosines (B, N), float32, of videos with texts (N, E), after video-specific prompting."""
        return cosine(features.video, text if self.prompts is None else self.prompts(text, features.patches))

    def logits(self, similarity: Tensor) -> Tensor:
        """Return the similarity at the learned temperature."""
        return at_temperature(similarity, self.logit_scale)

    def forward(self, frames: Tensor, tokens: Tensor) -> Tensor:
        """Frames (B, T, 3, S, S) and tokens (N, L) -> logits (B, N)."""
        return self.logits(self.similarity(self.encode_video(frames), self.encode_text(tokens)))

    def switched(self, **switches: bool | int) -> "Xclip":
        """Return a network with these switches of the configuration that shares the weights.

        Raises KeyError for a part that this network does not have.
        """
        with torch.device("meta"):
            smaller = Xclip(replace(self.config, **switches), text=self.text is not None)
        state = self.state_dict()
        smaller.load_state_dict({name: state[name] for name in smaller.state_dict()}, assign=True)
        return smaller.train(self.training)

    def _check(self, frames: Tensor) -> None:
        size, num_frames = self.config.vision.image_size, self.config.num_frames
        if frames.ndim != 5 or frames.shape[2:] != (3, size, size):
            raise ModelError(f"frames have the shape {tuple(frames.shape)}; this model takes (B, T, 3, {size}, {size})")
        if self.mit is not None and frames.shape[1] != num_frames:
            raise ModelError(
                f"a video has {frames.shape[1]} frames; this model takes exactly {num_frames}",
                hint=f"Sample {num_frames} frames, or take a model whose mit_layers is 0.",
            )
