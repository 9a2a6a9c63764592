"""all-MiniLM-L6-v2 as a text tower of ours: its sizes, its vocabulary and its weights under our names."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from xclip_cli.model.config import TextConfig

# BERT's names of a layer's parts, and ours.
PARTS = {
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.k",
    "attention.self.value": "attn.v",
    "attention.output.dense": "attn.out",
    "attention.output.LayerNorm": "ln_1",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "ln_2",
}


def text_config(folder: Path, context_length: int = 77) -> TextConfig:
    """The text tower of the folder's config.json and vocab.txt."""
    bert = json.loads((folder / "config.json").read_text("utf-8"))
    vocabulary = (folder / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")
    return TextConfig(
        context_length=context_length,
        vocab_size=len(vocabulary),
        width=bert["hidden_size"],
        layers=bert["num_hidden_layers"],
        heads=bert["num_attention_heads"],
        kind="bert",
        vocabulary=tuple(vocabulary),
    )


def tower_state(state: Mapping[str, Tensor], context_length: int = 77) -> dict[str, Tensor]:
    """The tensors of transformers' BertModel under the names of our tower; the pooler, which nothing reads, is left."""
    positions = state["embeddings.position_embeddings.weight"][:context_length]
    ours = {
        "token_embedding": state["embeddings.word_embeddings.weight"],
        "position_embedding": positions + state["embeddings.token_type_embeddings.weight"][0],
    }
    for end in ("weight", "bias"):
        ours[f"ln_embed.{end}"] = state[f"embeddings.LayerNorm.{end}"]
    for name, value in state.items():
        if name.startswith("encoder.layer."):
            _, _, number, part = name.split(".", 3)
            part, _, end = part.rpartition(".")
            ours[f"blocks.{number}.{PARTS[part]}.{end}"] = value
    return ours
