"""BERT's text tower against transformers' BertModel."""

import pytest
import torch
import torch.nn.functional as F

from xclip_cli.model.bert import BertTower
from xclip_cli.model.config import SPECIAL_TOKENS, TextConfig

WORDS = (*SPECIAL_TOKENS, "running", "dunk", "a", "dog", "on", "##ing")
LENGTHS = (2, 12, 7)


def text_config(**changes):
    sizes = {"context_length": 12, "vocab_size": len(WORDS), "width": 24, "layers": 3, "heads": 4}
    return TextConfig(**{**sizes, "kind": "bert", "vocabulary": WORDS, **changes})


def tokens():
    generator, rows = torch.Generator().manual_seed(1), torch.zeros(3, 12, dtype=torch.long)
    for row, length in zip(rows, LENGTHS, strict=True):
        row[:length] = torch.randint(1, len(WORDS), (length,), generator=generator)
    return rows


@pytest.fixture
def reference(kit):
    from transformers import BertConfig, BertModel

    text = text_config()
    config = BertConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.width,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        intermediate_size=4 * text.width,
        max_position_embeddings=15,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.logit_scale = torch.nn.Parameter(torch.zeros(1))  # which the kit sets
    return kit.randomise(model)


@pytest.fixture
def tower(reference, load_recipe):
    tower = BertTower(text_config(), 24).eval()
    tower.load_state_dict(load_recipe("minilm").tower_state(reference.state_dict(), 12))
    return tower


def test_features_are_the_mean_over_berts_tokens(reference, tower):
    ids = tokens()
    mask = (ids != 0).long()
    with torch.inference_mode():
        states = reference(ids, mask).last_hidden_state * mask.unsqueeze(-1)
        expected = F.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=-1)
        found = tower(ids)
    assert (found - expected).abs().max() < 1e-6
    assert (found[0] - found[1]).abs().max() > 0.05
