"""BERT's tokenizer: words of an uncased text, then the longest pieces of them that a vocabulary has.

Ours and not `tokenizers`: that package would be a new dependency for this alone.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from xclip_cli.model.config import SPECIAL_TOKENS

_, UNKNOWN, START, END = SPECIAL_TOKENS
LONGEST_WORD = 100  # letters; a longer word is unknown
# The blocks of Chinese characters in BERT's tokenizer.
_CJK = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002b81f\U0002b820-\U0002ceaf"
    "\U0002f800-\U0002fa1f]"
)


class WordPiece:
    """The tokenizer of a vocabulary, in which a piece that goes on with a word begins with ``##``.

    Words like ``[SEP]`` in a text are text: only the tokenizer itself sets special tokens.
    """

    def __init__(self, vocabulary: Sequence[str], context_length: int):
        self.ids = {piece: i for i, piece in enumerate(vocabulary)}
        self.context_length = context_length

    def tokenize(self, texts: list[str]) -> Tensor:
        """Return ids (N, context_length) int64, padded with 0; long texts are cut, the end token is kept."""
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            ids = [self.ids[START], *self._encode(text)[: self.context_length - 2], self.ids[END]]
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def count_tokens(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text needs, start and end included, without truncation."""
        return [len(self._encode(text)) + 2 for text in texts]

    def _encode(self, text: str) -> list[int]:
        return [i for word in words(text) for i in self._pieces(word)]

    def _pieces(self, word: str) -> list[int]:
        """Return the ids of the longest pieces from left to right; one unknown token if any part has none."""
        pieces, start = [], 0
        while start < len(word) <= LONGEST_WORD:
            mark, stop = "##" if start else "", len(word)
            while stop > start and mark + word[start:stop] not in self.ids:
                stop -= 1
            if stop == start:
                break
            pieces.append(self.ids[mark + word[start:stop]])
            start = stop
        return pieces if start == len(word) else [self.ids[UNKNOWN]]


def words(text: str) -> list[str]:
    """Return lower-case words without accents; punctuation marks and Chinese characters stand alone."""
    spaced = "".join(map(_clean, text))
    return "".join(map(_lower, unicodedata.normalize("NFD", spaced))).split()


@lru_cache(4096)
def _clean(letter: str) -> str:
    if letter in "\t\n\r":
        return " "
    if letter == "\ufffd" or unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cs"):
        return ""
    return f" {letter} " if _CJK.match(letter) else letter


@lru_cache(4096)
def _lower(letter: str) -> str:
    category = unicodedata.category(letter)
    if category == "Mn":
        return ""
    symbol = letter.isascii() and category[0] == "S"  # $ + < = > ^ ` | ~ are punctuation too
    return f" {letter} " if symbol or category[0] == "P" else letter.lower()
