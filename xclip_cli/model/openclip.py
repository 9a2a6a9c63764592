"""An open_clip model as a video model: the mean over frames of its normalised image features."""

from torch import Tensor, nn

from xclip_cli.errors import ModelError
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig
from xclip_cli.model.xclip import VideoFeatures, at_temperature, cosine, mean_of_frames

_TEXT_PARTS = ("text", "text_decoder", "transformer", "token_embedding", "ln_final", "positional_embedding")
_TEXT_PARTS += ("text_projection", "attn_mask")


class FrozenClip(nn.Module):
    """The methods of Xclip over a model of open_clip; ``text=False`` drops the model's text tower.

    Each frame's features are normalised, then averaged. An Xclip without MIT gives the same logits for a native ViT.
    The logit bias of SigLIP is added.
    """

    def __init__(self, model: nn.Module, text: bool = True):
        super().__init__()
        self.model = model
        self.has_text = text
        if not text:
            for part in _TEXT_PARTS:
                if hasattr(model, part):
                    delattr(model, part)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) int64 of the model's own tokenizer -> features (N, E), not normalised."""
        if not self.has_text:
            raise ModelError("the text tower was left out of this model", hint="Build it with text=True.")
        return self.model.encode_text(tokens)

    def encode_video(self, frames: Tensor) -> VideoFeatures:
        """Frames (B, T, 3, S, S), normalised as the model asks -> features; any T."""
        return self.encode_tokens(self.frame_tokens(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))

    def frame_tokens(self, frames: Tensor) -> Tensor:
        """Normalised frames (N, 3, S, S) -> their features (N, E)."""
        return self.model.encode_image(frames)

    def encode_tokens(self, tokens: Tensor) -> VideoFeatures:
        """Features of frames (B, T, E) -> of videos."""
        return VideoFeatures(mean_of_frames(tokens))

    def similarity(self, features: VideoFeatures, text: Tensor) -> Tensor:
        """Return the cosines (B, N), float32, of videos with texts (N, E)."""
        return cosine(features.video, text)

    def logits(self, similarity: Tensor) -> Tensor:
        """Return the similarity at the model's temperature, plus its bias if it has one."""
        bias = getattr(self.model, "logit_bias", None)
        return at_temperature(similarity, self.model.logit_scale) + (0 if bias is None else bias)

    def forward(self, frames: Tensor, tokens: Tensor) -> Tensor:
        """Frames (B, T, 3, S, S) and tokens (N, L) -> logits (B, N)."""
        return self.logits(self.similarity(self.encode_video(frames), self.encode_text(tokens)))


def native_config(model: nn.Module) -> XclipConfig:
    """Return the configuration, all three switches off, of an Xclip equal to this open_clip model.

    Raises ModelError unless the model is CLIP with a plain ViT: class-token pooling, MLP of 4 times the width, GELU or
    QuickGELU, end-token text pooling.
    """
    try:
        visual, block, text_block = model.visual, model.visual.transformer.resblocks[0], model.transformer.resblocks[0]
        config = XclipConfig(
            vision=VisionConfig(
                image_size=visual.image_size[0],
                patch_size=visual.patch_size[0],
                width=visual.conv1.out_channels,
                layers=len(visual.transformer.resblocks),
                heads=block.attn.num_heads,
            ),
            text=TextConfig(
                context_length=model.context_length,
                vocab_size=model.vocab_size,
                width=model.ln_final.normalized_shape[0],
                layers=len(model.transformer.resblocks),
                heads=text_block.attn.num_heads,
            ),
            embed_dim=visual.output_dim,
            cross_frame=False,
            mit_layers=0,
            prompt_layers=0,
            activation="quick_gelu" if type(block.mlp.gelu).__name__ == "QuickGELU" else "gelu",
        )
        plain = (
            (visual.pool_type, model.text_pool_type) == ("tok", "argmax")
            and visual.attn_pool is None
            and not visual.final_ln_after_pool
            and visual.image_size[0] == visual.image_size[1]
            and model.attn_mask is not None
            and type(block.mlp.gelu) is type(text_block.mlp.gelu)
            and block.mlp.c_fc.out_features == 4 * config.vision.width
            and block.ln_1.eps == 1e-5
        )
    except AttributeError as error:
        raise ModelError(f"this open_clip model is no plain ViT CLIP ({error})", hint=_AS_IT_IS) from error
    if not plain:
        raise ModelError("this open_clip model is a ViT CLIP with parts that X-CLIP does not have", hint=_AS_IT_IS)
    return config


_AS_IT_IS = "It can still tag frame by frame, as it is; it cannot be fine-tuned into an X-CLIP."
