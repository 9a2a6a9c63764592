"""BERT's text tower against transformers' BertModel."""

import pytest
import torch
import torch.nn.functional as F

from xclip_cli.model.bert import BertTower
from xclip_cli.model.config import SPECIAL_TOKENS, TextConfig, XclipConfig
from xclip_cli.model.text import make_tokenizer, trim
from xclip_cli.model.xclip import Xclip

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


def test_padding_never_reaches_a_feature(tower):
    ids = tokens()
    with torch.inference_mode():
        together = tower(ids)
        for row, length in enumerate(LENGTHS):
            assert (tower(ids[row : row + 1, :length])[0] - together[row]).abs().max() < 1e-6
        assert torch.allclose(tower(trim(ids[::2])), together[::2], atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_and_finite(tower, dtype):
    with torch.inference_mode():
        expected, found = tower(tokens()), tower.to(dtype)(tokens())
    assert found.dtype == dtype and F.cosine_similarity(found.float(), expected).min() > 0.99


def test_another_embedding_size_is_projected():
    tower = BertTower(text_config(), 16)
    assert tower(tokens()).shape == (3, 16) and tower.proj.weight.shape == (16, 24)


def test_the_network_takes_a_tower_of_berts_kind(bert_config, vocabulary):
    torch.manual_seed(0)
    model = Xclip(bert_config).eval()
    ids, frames = make_tokenizer(bert_config.text).tokenize(["a dog", "slam dunk!"]), torch.randn(1, 4, 3, 32, 32)
    plain = model.switched(cross_frame=False, mit_layers=0, prompt_layers=0)
    with torch.inference_mode():
        assert model(frames, ids).shape == (1, 2)
        assert torch.equal(plain.encode_text(ids), model.encode_text(ids))
        assert torch.equal(model.encode_text(ids), model.text(trim(ids)))
    with pytest.raises(RuntimeError, match="ln_final"):  # a state cannot say its vocabulary
        Xclip(XclipConfig.from_state(model.state_dict())).load_state_dict(model.state_dict())
    assert sum("text." in n for n in dict(model.named_parameters())) == 4 + 2 * 16
