"""Translation of other formats' weight names into ours, by table; an unknown name is an error.

Formats: ``microsoft`` (the official .pth files), ``huggingface`` (transformers' XCLIPModel) and ``open_clip`` (OpenAI's
CLIP and open_clip's native ViTs). In the tables ``N`` is a layer's number, and ``*`` on our side means that a fused
query-key-value tensor is cut into q, k and v.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from xclip_cli.errors import ModelError

Format = Literal["microsoft", "huggingface", "open_clip"]
T = TypeVar("T")


def _affine(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}


def _fused_attention(theirs: str, ours: str) -> dict[str, str]:
    fused = {f"{theirs}.in_proj_{part}": f"{ours}.*.{part}" for part in ("weight", "bias")}
    return fused | _affine(f"{theirs}.out_proj", f"{ours}.out")


def _split_attention(theirs: str, ours: str) -> dict[str, str]:
    parts = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "out"}
    return {k: v for name, part in parts.items() for k, v in _affine(f"{theirs}.{name}", f"{ours}.{part}").items()}


def _openai_block(theirs: str, ours: str) -> dict[str, str]:
    return {
        **_affine(f"{theirs}.ln_1", f"{ours}.ln_1"),
        **_fused_attention(f"{theirs}.attn", f"{ours}.attn"),
        **_affine(f"{theirs}.ln_2", f"{ours}.ln_2"),
        **_affine(f"{theirs}.mlp.c_fc", f"{ours}.mlp.up"),
        **_affine(f"{theirs}.mlp.c_proj", f"{ours}.mlp.down"),
    }


def _transformers_block(theirs: str, ours: str) -> dict[str, str]:
    return {
        **_affine(f"{theirs}.layer_norm1", f"{ours}.ln_1"),
        **_split_attention(f"{theirs}.self_attn", f"{ours}.attn"),
        **_affine(f"{theirs}.layer_norm2", f"{ours}.ln_2"),
        **_affine(f"{theirs}.mlp.fc1", f"{ours}.mlp.up"),
        **_affine(f"{theirs}.mlp.fc2", f"{ours}.mlp.down"),
    }


def _prompts(visual_ln: str, visual_proj: str, ln: str) -> dict[str, str]:
    layer, ours = "prompts_generator.decoder.N", "prompts.layers.N"
    return {
        **_affine(visual_ln, "prompts.visual_ln"),
        visual_proj: "prompts.visual_proj.weight",
        **_affine(f"prompts_generator.{ln}", "prompts.ln"),
        "prompts_generator.alpha": "prompts.alpha",
        **_affine(f"{layer}.norm1", f"{ours}.ln_1"),
        **{f"{layer}.cross_attn.{part}_proj.weight": f"{ours}.attn.{part}.weight" for part in "qkv"},
        **_affine(f"{layer}.cross_attn.proj", f"{ours}.attn.out"),
        **_affine(f"{layer}.norm3", f"{ours}.ln_2"),
        **_affine(f"{layer}.mlp.0", f"{ours}.mlp.up"),
        **_affine(f"{layer}.mlp.3", f"{ours}.mlp.down"),
    }


_OPEN_CLIP = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "visual.stem.class_embedding",
    "visual.conv1.weight": "visual.stem.conv.weight",
    "visual.positional_embedding": "visual.position_embedding",
    **_affine("visual.ln_pre", "visual.ln_pre"),
    **_openai_block("visual.transformer.resblocks.N", "visual.blocks.N"),
    **_affine("visual.ln_post", "visual.ln_post"),
    "visual.proj": "visual.proj.weight",
    "token_embedding.weight": "text.token_embedding",
    "positional_embedding": "text.position_embedding",
    **_openai_block("transformer.resblocks.N", "text.blocks.N"),
    **_affine("ln_final", "text.ln_final"),
    "text_projection": "text.proj.weight",
}

_MICROSOFT = {
    **_OPEN_CLIP,
    **_affine("visual.transformer.resblocks.N.message_fc", "visual.blocks.N.message.proj"),
    **_affine("visual.transformer.resblocks.N.message_ln", "visual.blocks.N.message.ln"),
    **_fused_attention("visual.transformer.resblocks.N.message_attn", "visual.blocks.N.message.attn"),
    "mit.positional_embedding": "mit.position_embedding",
    **_openai_block("mit.resblocks.N", "mit.blocks.N"),
    **_prompts("prompts_visual_ln", "prompts_visual_proj", "norm"),
}

_HUGGING_FACE = {
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.stem.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.stem.conv.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.position_embedding",
    **_affine("vision_model.pre_layernorm", "visual.ln_pre"),
    **_transformers_block("vision_model.encoder.layers.N", "visual.blocks.N"),
    **_affine("vision_model.encoder.layers.N.message_fc", "visual.blocks.N.message.proj"),
    **_affine("vision_model.encoder.layers.N.message_ln", "visual.blocks.N.message.ln"),
    **_split_attention("vision_model.encoder.layers.N.message_attn", "visual.blocks.N.message.attn"),
    **_affine("vision_model.post_layernorm", "visual.ln_post"),
    "visual_projection.weight": "visual.proj.weight",
    "mit.position_embedding": "mit.position_embedding",
    **_transformers_block("mit.encoder.layers.N", "mit.blocks.N"),
    **_prompts("prompts_visual_layernorm", "prompts_visual_projection", "layernorm"),
    "text_model.embeddings.token_embedding.weight": "text.token_embedding",
    "text_model.embeddings.position_embedding.weight": "text.position_embedding",
    **_transformers_block("text_model.encoder.layers.N", "text.blocks.N"),
    **_affine("text_model.final_layer_norm", "text.ln_final"),
    "text_projection.weight": "text.proj.weight",
}

TABLES: dict[Format, dict[str, str]] = {
    "microsoft": _MICROSOFT,
    "huggingface": _HUGGING_FACE,
    "open_clip": _OPEN_CLIP,
}

# Bare matrices (in, out), where ours are linear maps (out, in).
_TRANSPOSED = {"visual.proj", "text_projection", "prompts_visual_proj", "prompts_visual_projection"}

# Constants that some versions wrote beside the weights.
_CONSTANTS = {
    "input_resolution",
    "context_length",
    "vocab_size",
    "attn_mask",
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
}


# Prefixes of names that identify another network.
_FAMILIES = {
    "vision_model.": "a CLIP or X-CLIP of transformers: give its folder, with config.json",
    "cls_head.": "a model of MMAction2",
    "layer1.0.": "a ResNet",
    "blocks.0.attn.qkv": "a vision transformer of timm, such as VideoMAE or TimeSformer",
    "encoder.layer": "a BERT or ViT of transformers",
    "visual.trunk.": "an open_clip model: give it as open_clip:ARCHITECTURE=FILE",
    "logit_bias": "a SigLIP: give it as open_clip:ARCHITECTURE=FILE",
}


def translate(
    state: Mapping[str, T], format: Format, path: Path | str = "the file", complete: bool = False
) -> dict[str, T]:
    """Return the same tensors under our names: fused ones split, bare matrices transposed, others not copied.

    Raises ModelError naming keys that the format does not have; if ``complete``, those too that every CLIP has and
    ``state`` lacks. Else a strict load says what is missing.
    """
    table = TABLES[format]
    names = {key: re.sub(r"\.\d+\.", ".N.", key, count=1) for key in state if key not in _CONSTANTS}
    foreign = [key for key, name in names.items() if name not in table]
    missing = [key for key in _OPEN_CLIP if complete and "N" not in key and key not in state]
    if foreign or missing:
        raise _foreign(state, format, path, foreign, missing)
    translated: dict[str, Any] = {}
    for key, name in names.items():
        value, number = state[key], re.search(r"\.(\d+)\.", key)
        ours = table[name].replace("N", number[1]) if number else table[name]
        if "*" in ours:
            translated.update(
                (ours.replace("*", part), piece) for part, piece in zip("qkv", value.chunk(3), strict=True)
            )
        else:
            translated[ours] = value.t().contiguous() if key in _TRANSPOSED else value
    return translated


def _foreign(
    state: Mapping[str, T], format: Format, path: Path | str, foreign: list[str], missing: list[str]
) -> ModelError:
    def some(keys: list[str]) -> str:
        more = f" and {len(keys) - 2} more" if len(keys) > 2 else ""
        return ", ".join(f"{key!r:.80}" for key in keys[:2]) + more

    said = [f"{path} does not hold {format} X-CLIP weights"]
    said += [f"it has {some(foreign)}, which these do not have"] if foreign else []
    said += [f"it lacks {some(missing)}"] if missing else []
    family = next((what for start, what in _FAMILIES.items() if any(key.startswith(start) for key in state)), None)
    return ModelError("; ".join(said), f"it looks like {family}" if family else "Is it of another architecture?")
