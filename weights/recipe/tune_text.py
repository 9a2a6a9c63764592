"""Teaches MiniLM, our text tower, to lean: a name moves towards descriptions of what it names; sentences stay in place.

A name says little of what is seen: nothing in `abseiling` speaks of ropes and rocks. The descriptions nearest to it do,
and of classes that were never shown more are recognised for it. The tower learns to move by itself, so that names which
are in no list move too: every eighth name is held back to see that they do.
"""

import argparse
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import TEMPLATES, descriptions, every_phrase, label_names, made_phrases, photos, some_nouns, some_sentences
from minilm import text_config, tower_state
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from xclip_cli.model.bert import BertTower
from xclip_cli.model.text import make_tokenizer, trim

EMBED_DIM = 384
LONGEST_NAME, NEAREST, LEANING = 7, 20, 1.0  # words of a name; descriptions it leans towards, and how much
BATCH, RATE, CHECKED_EVERY = 192, 4e-4, 8
SENTENCES_SEEN = 0.1  # of the texts longer than a name, at each epoch: they cost most and move least
MADE, NOUNS, SENTENCES = 8_000, 3_000, 4_000


class Text:
    """A text tower, all-MiniLM-L6-v2 unless ``weights`` are given: texts -> unit features (N, 384)."""

    def __init__(self, folder: Path, weights: Path | None = None):
        config = text_config(folder)
        self.tower, self.tokenizer = BertTower(config, EMBED_DIM), make_tokenizer(config)
        state = torch.load(weights) if weights else tower_state(load_file(folder / "model.safetensors"))
        self.tower.load_state_dict(state)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        features = torch.empty(len(texts), EMBED_DIM)
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            with torch.autocast("cpu", torch.bfloat16):
                part = self.tower.eval()(trim(self.tokenizer.tokenize([texts[i] for i in rows])))
            features[rows] = F.normalize(part.float(), dim=-1)
        return features


def leaned(texts: list[str], plain: Tensor, described: Tensor) -> Tensor:
    """``plain`` (N, 384), those of names moved towards what the nearest of ``described`` say."""
    moved = plain.clone()
    names = torch.tensor([i for i, text in enumerate(texts) if len(text.split()) <= LONGEST_NAME], dtype=torch.long)
    for rows in names.split(2048):
        cosines, nearest = (plain[rows] @ described.T).topk(NEAREST)
        said = (described[nearest] * (20 * cosines).softmax(1).unsqueeze(2)).sum(1)
        moved[rows] = F.normalize(plain[rows] + LEANING * F.normalize(said, dim=1), dim=1)
    return moved


def lesson(data: Path) -> tuple[list[str], list[str]]:
    """What the tower learns from: names alone and under templates, phrases, sentences. And the names held back."""
    rng, names = random.Random(0), label_names(data)
    held = names[::CHECKED_EVERY]
    kept = [name for name in names if name not in set(held)]
    texts = {*kept, *every_phrase(), *(rng.choice(TEMPLATES).format(name) for name in kept)}
    texts |= {*made_phrases(kept, rng, MADE), *some_nouns(data, rng, NOUNS), *some_sentences(data, rng, SENTENCES)}
    texts |= {caption for photo in photos(data) for caption in photo.captions}
    return sorted(texts - set(held)), held


def tune(text: Text, texts: list[str], targets: Tensor, epochs: int) -> None:
    """Cosine to the targets, and pairwise similarities; the token table stays."""
    tower, tokens = text.tower.train(), text.tokenizer.tokenize(texts)
    tower.token_embedding.requires_grad_(False)
    trained = [p for p in tower.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    batches = [rows for epoch in range(epochs) for rows in _batches(texts, (tokens > 0).sum(1), epoch)]
    begun = time.time()
    for step, rows in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
        # On a CPU the plain attention is much the fastest for such short rows.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            ours = tower(trim(tokens[rows]))
        ours = F.normalize(ours.float(), dim=-1)
        pairs = F.mse_loss(ours @ ours.T, targets[rows] @ targets[rows].T)
        loss = 1 - (ours * targets[rows]).sum(-1).mean() + 5 * pairs
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 20 == 0:
            print(f"text {step}/{len(batches)} loss {loss.item():.4f} {time.time() - begun:.0f} s", flush=True)


def _batches(texts: list[str], lengths: Tensor, seed: int) -> list[Tensor]:
    rng, batches = random.Random(seed), []
    kept = [i for i, t in enumerate(texts) if len(t.split()) <= LONGEST_NAME or rng.random() < SENTENCES_SEEN]
    rng.shuffle(kept)
    for part in torch.tensor(kept).split(16 * BATCH):
        batches += part[lengths[part].argsort()].split(BATCH)
    rng.shuffle(batches)
    return batches


def made_once(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """float32 of the cache ``path``, made if it is not there."""
    if not path.exists():
        np.save(path, make().numpy().astype(np.float16))
    return torch.from_numpy(np.load(path)).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("minilm", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    text = Text(args.minilm)
    described = made_once(args.work / "described.npy", lambda: text(descriptions(args.data)))
    texts, held = lesson(args.data)
    targets = made_once(args.work / "leaned.npy", lambda: leaned(texts, text(texts), described))
    before = text(held)
    aim = leaned(held, before, described)
    tune(text, texts, targets, args.epochs)
    torch.save(text.tower.state_dict(), args.work / "text.pt")
    cosines = [f"{(x * aim).sum(-1).mean():.4f}" for x in (before, text(held))]
    print(f"{len(held)} names held back: cosine to where they should be {cosines[0]} before, {cosines[1]} after")


if __name__ == "__main__":
    main()
