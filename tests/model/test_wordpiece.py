"""The WordPiece tokenizer against transformers' BertTokenizer."""

import gzip
import itertools
import random

import pytest
import torch

from xclip_cli.model.config import SPECIAL_TOKENS, TextConfig
from xclip_cli.model.text import make_tokenizer, trim
from xclip_cli.model.wordpiece import WordPiece, words

ODD = [
    "",
    "   ",
    "a dog's running-back, slam  DUNK!",
    "Naïve CAFÉ Ångström cafe\u0301 ａ",
    "跑步 the狗runs，豈",
    "🏃‍♂️ jogging 👍🏽 ❤️",
    "a\x00b\ufffdc\u200bd\ue000e\tf\u2028g\u3000h\x85i\x1cj",
    "ΑΣ ΟΔΟΣ İstanbul ﬁ ß ẞ œ",
    "$5+1=6 <b>a^2</b> `x`|~ «quoted» “dog” —",
    "a" * 100,
    "a" * 101,
    "é" * 100 + " dog",
    "x " * 200,
    "[ SEP ] #ing ##ing &amp;",
]
# Scripts whose characters have long been in Unicode, so that every table knows them; and some that have not one letter.
LETTERS = "".join(map(chr, [*range(1, 0x250), *range(0x300, 0x370), *range(0x391, 0x500), *range(0x5D0, 0x5EB)]))
LETTERS += "".join(map(chr, [*range(0x2000, 0x2070), *range(0x3000, 0x3020), *range(0x4E00, 0x4E40), 0xAC00, 0x1F600]))


def bert_tokenizer(vocabulary):
    from transformers import BertTokenizer

    return BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})


def theirs(vocabulary, texts, length):
    """Special tokens in a text are split there too, as ours always are."""
    options = {"padding": "max_length", "truncation": True, "max_length": length, "split_special_tokens": True}
    return bert_tokenizer(vocabulary)(texts, return_tensors="pt", **options).input_ids


@pytest.mark.parametrize("length", [5, 77])
def test_tokens_are_berts(vocabulary, length):
    rng = random.Random(0)
    made = ["".join(rng.choices(LETTERS, k=rng.randrange(1, 30))) for _ in range(3000)]
    texts = ODD + made + ["a" + letter + "b" for letter in LETTERS]
    ours = WordPiece(vocabulary, length).tokenize(texts)
    assert ours.dtype == torch.int64 and ours.shape == (len(texts), length)
    wrong = (ours != theirs(vocabulary, texts, length)).any(dim=1).nonzero().flatten().tolist()
    assert not wrong, [texts[i] for i in wrong[:3]]


def test_tokens_of_real_texts_are_berts(shared):
    with gzip.open(shared / "data" / "sentences.tsv.gz", "rt", encoding="utf-8") as sentences:
        texts = [line.rstrip("\n") for line in itertools.islice(sentences, 0, 400_000, 200)]
    for file in (shared / "data" / "labels").glob("*.txt"):
        texts += file.read_text("utf-8").splitlines()
    known = sorted({word for text in texts[::3] for word in words(text)})
    tails = sorted({f"##{word[at:]}" for word in known for at in (1, 3) if word[at:]})
    vocabulary = tuple(dict.fromkeys([*SPECIAL_TOKENS, *known, *tails]))
    ours = WordPiece(vocabulary, 77).tokenize(texts)
    assert len(texts) > 3000 and (ours == 1).any() and torch.equal(ours, theirs(vocabulary, texts, 77))


def test_tokens_are_counted_before_they_are_cut(vocabulary):
    tokenizer = WordPiece(vocabulary, 6)
    texts = ["", "a dog", "a dog running", "running dogs run back", "a" * 101]
    assert tokenizer.count_tokens(texts) == [2, 4, 5, 7, 3]
    names = [[vocabulary[i] for i in row] for row in tokenizer.tokenize(texts).tolist()]
    assert names[3] == ["[CLS]", "running", "dog", "##s", "run", "[SEP]"]
    assert names[4] == ["[CLS]", "[UNK]", "[SEP]", *["[PAD]"] * 3]
    assert tokenizer.count_tokens([]) == [] and tokenizer.tokenize([]).shape == (0, 6)


def test_a_text_cannot_set_special_tokens(vocabulary):
    [row] = WordPiece(vocabulary, 9).tokenize(["[SEP]"]).tolist()
    assert row.count(vocabulary.index("[SEP]")) == 1 and vocabulary.index("[") in row


def test_a_configuration_chooses_the_tokenizer(vocabulary):
    bert = TextConfig(kind="bert", vocab_size=len(vocabulary), vocabulary=vocabulary, context_length=9)
    assert make_tokenizer(bert).tokenize(["a dog"]).shape == (1, 9)
    assert make_tokenizer(bert).count_tokens(["dogs"]) == [4]
    assert make_tokenizer(TextConfig()).tokenize(["a dog"])[0, :4].tolist() == [49406, 320, 1929, 49407]
    assert make_tokenizer(TextConfig()).count_tokens(["dogs"]) == [3]


def test_only_padding_is_trimmed(vocabulary):
    tokens = WordPiece(vocabulary, 9).tokenize(["a dog", "a dog running"])
    assert torch.equal(trim(tokens), tokens[:, :5])
    assert trim(tokens[:0]).shape[0] == 0
    assert trim(torch.tensor([[5, 0, 3, 0], [5, 0, 0, 0]])).shape == (2, 3)
