"""Tokens and the text tower."""

import json
import subprocess
import sys

import open_clip
import pytest
import torch

from xclip_cli.model.config import TextConfig
from xclip_cli.model.text import TextTower, count_tokens, tokenize, trim

END = 49407


def test_a_text_becomes_one_padded_row():
    tokens = tokenize(["a dog", "a dog pulling a sled"])
    assert tokens.shape == (2, 77)
    assert tokens.dtype == torch.int64
    assert tokens[0].tolist()[:5] == [49406, 320, 1929, END, 0]
    assert tokens.argmax(dim=-1).tolist() == [3, 6]


LENGTHS = [("", 2), ("a dog", 4), ("dog " * 75, 77), ("dog " * 76, 78), ("狗" * 200, None)]


@pytest.mark.parametrize("text, count", LENGTHS)
def test_tokens_are_counted_before_they_are_cut(text, count):
    (counted,) = count_tokens([text])
    assert counted == count if count else counted > 77
    assert (tokenize([text])[0] != 0).sum() == min(counted, 77)
    assert tokenize([text]).max() == END


def test_no_texts_are_no_rows():
    assert count_tokens([]) == []


@pytest.mark.parametrize("token_width", [None, 8])
def test_padding_never_reaches_a_feature(token_width):
    torch.manual_seed(0)
    config = TextConfig(context_length=12, vocab_size=30, width=16, layers=2, heads=2, token_width=token_width)
    tower = TextTower(config, 8, "gelu").eval()
    tokens = torch.randint(1, 29, (3, 12))
    tokens[:, 5] = 29
    zeros = tokens.clone()
    zeros[:, 6:] = 0
    with torch.inference_mode():
        expected = tower(tokens)
        assert torch.allclose(tower(zeros), expected, atol=1e-6)
        assert trim(zeros).shape == (3, 6)
        assert torch.allclose(tower(trim(zeros)), expected, atol=1e-6)
        assert not torch.allclose(expected[0], expected[1], atol=1e-3)


def test_a_factorised_token_table_is_smaller():
    def size(token_width):
        tower = TextTower(TextConfig(layers=0, token_width=token_width), 512, "gelu")
        return sum(p.numel() for p in tower.parameters())

    assert size(64) < size(None) / 5


def test_the_tokenizer_is_open_clips_without_the_time_to_import_all_of_it():
    texts = ["dogs pulling sled", "灌篮 &amp; DUNK", "", "a " * 100, "naïve café #1"]
    program = (
        "import json, sys; from xclip_cli.model.text import tokenize\n"
        "print(json.dumps([tokenize(json.loads(sys.argv[1])).tolist(), 'open_clip' in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", program, json.dumps(texts)], capture_output=True, text=True, check=True)
    ours, imported = json.loads(run.stdout)
    assert ours == open_clip.tokenize(texts).tolist() and not imported
