"""Teaches the causal text tower to give MiniLM's sentence embeddings (cosine, ranking and pairwise similarities)."""

import argparse
import itertools
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from xclip_cli.model.block import initialise
from xclip_cli.model.config import TextConfig
from xclip_cli.model.text import TextTower, tokenize, trim

EMBED_DIM, BATCH, HELD_BACK, LONGEST_TOKENS = 384, 256, 3_000, 22
ACTIVATION = "quick_gelu"


def text_config() -> TextConfig:
    """The sizes of mini's text tower."""
    return TextConfig(width=EMBED_DIM, layers=4, heads=6, token_width=192)


def new_tower(words: Tensor | None = None) -> TextTower:
    """A tower with random weights; with ``words`` (vocab, 384) it starts as the mean of its words' embeddings."""
    tower = TextTower(text_config(), EMBED_DIM, ACTIVATION)
    tower.apply(initialise)
    if words is not None:
        _start_from_words(tower, words)
    return tower


@torch.no_grad()
def _start_from_words(tower: TextTower, words: Tensor) -> None:
    # First block: near-uniform attention over identity values, so the end token gets the mean of the words before it.
    mean, special = words[:-2].mean(0), 2
    centred = words - mean
    centred[-special:] = 0
    basis = torch.linalg.svd(centred[:-special], full_matrices=False)[2][: tower.token_embedding.shape[1]]
    tower.token_embedding.copy_(centred @ basis.T * 3)
    tower.token_proj.weight.copy_(basis.T)
    tower.position_embedding.mul_(0.2)
    for linear in (tower.blocks[0].attn.v, tower.blocks[0].attn.out, tower):
        weight = linear.proj.weight if linear is tower else linear.weight
        weight.copy_(torch.eye(EMBED_DIM))
    for block in tower.blocks:
        block.mlp.down.weight.mul_(0.3)
    for block in tower.blocks[1:]:
        block.attn.out.weight.mul_(0.3)
    tower.ln_final.bias.copy_(mean * 12)


@torch.no_grad()
def embed(tower: TextTower, texts: list[str]) -> Tensor:
    """Unit text features (N, 384) float32."""
    tokens = tokenize(texts)
    order = tokens.argmax(1).argsort()
    features = torch.empty(len(texts), EMBED_DIM)
    for rows in order.split(256):
        features[rows] = F.normalize(tower(trim(tokens[rows])), dim=-1)
    return features


class Lesson:
    """Sentences as tokens, the teacher's embeddings of them, and which are held back."""

    def __init__(self, work: Path):
        self.texts = json.loads((work / "teacher.json").read_text())
        self.teacher = torch.from_numpy(np.load(work / "teacher.npy"))
        self.tokens = torch.cat([tokenize(self.texts[i : i + 4096]).int() for i in range(0, len(self.texts), 4096)])
        self.lengths = self.tokens.argmax(1) + 1
        order = torch.randperm(len(self.texts), generator=torch.Generator().manual_seed(5))
        self.held_back, rest = order[:HELD_BACK], order[HELD_BACK:]
        self.train = rest[self.lengths[rest] <= LONGEST_TOKENS]

    def batches(self, epoch: int) -> list[Tensor]:
        """One epoch of row numbers, texts of like length together so that little is padding."""
        generator, batches = torch.Generator().manual_seed(epoch), []
        for part in self.train[torch.randperm(len(self.train), generator=generator)].split(32 * BATCH):
            batches += part[self.lengths[part].argsort()].split(BATCH)
        random.Random(epoch).shuffle(batches)
        return batches

    def read(self, rows: Tensor) -> Tensor:
        """Tokens of the rows, (B, longest)."""
        return trim(self.tokens[rows].long())


def distil(tower: TextTower, lesson: Lesson, epochs: float, rate: float, unfinished: Path) -> dict[str, Tensor]:
    """The mean of the weights over the run; what ``unfinished`` holds of a broken run is not done again."""
    optimiser = _optimiser(tower, rate)
    mean = {name: value.clone() for name, value in tower.state_dict().items()}
    steps, first, begun = int(epochs * len(lesson.train) / BATCH), 0, time.time()
    if unfinished.exists():
        first, weights, mean, state = torch.load(unfinished)
        tower.load_state_dict(weights)
        optimiser.load_state_dict(state)
    order = itertools.chain.from_iterable(lesson.batches(epoch) for epoch in itertools.count())
    for step, rows in enumerate(itertools.islice(order, steps)):
        if step < first:
            continue
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * max(0.02, 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = distance(tower, lesson.read(rows), lesson.teacher[rows].float())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimiser.step()
        for name, value in tower.state_dict().items():
            mean[name].lerp_(value, 1 - min(0.995, (step + 1) / (step + 11)))
        if step % 100 == 99:
            print(f"text {step + 1}/{steps} loss {loss.item():.3f} {time.time() - begun:.0f} s", flush=True)
            torch.save((step + 1, tower.state_dict(), mean, optimiser.state_dict()), unfinished)
    unfinished.unlink(missing_ok=True)
    return mean


def _optimiser(tower: TextTower, rate: float) -> torch.optim.Optimizer:
    parameters = dict(tower.named_parameters())
    plain = [p for n, p in parameters.items() if p.ndim < 2 or "embedding" in n]
    decayed = [p for n, p in parameters.items() if p.ndim >= 2 and "embedding" not in n]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def distance(tower: TextTower, tokens: Tensor, teacher: Tensor) -> Tensor:
    """How far the tower is from the teacher: each text, its rank among the batch, all pairwise similarities."""
    # On a CPU the plain attention is much the fastest for such short rows.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        ours = tower(tokens)
    ours = F.normalize(ours.float(), dim=-1)
    ranking = F.cross_entropy(ours @ teacher.T / 0.05, torch.arange(len(ours)))
    pairs = F.mse_loss(ours @ ours.T, teacher @ teacher.T)
    return 4 * (1 - (ours * teacher).sum(-1)).mean() + 0.25 * ranking + 20 * pairs


def report(tower: TextTower, lesson: Lesson, label_file: Path) -> str:
    """Cosine to the teacher on held-back sentences; Spearman agreement of label-to-label similarities."""
    place = {text: i for i, text in enumerate(lesson.texts)}
    names = [line.strip() for line in label_file.open() if line.strip() in place]
    teacher = lesson.teacher[[place[name] for name in names]].float()
    held_back = embed(tower, [lesson.texts[i] for i in lesson.held_back])
    cosine = (held_back * lesson.teacher[lesson.held_back]).sum(-1).mean().item()
    ours, upper = embed(tower, names), torch.ones(len(names), len(names)).triu(1).bool()
    ranks = torch.stack([(x @ x.T)[upper].argsort().argsort().double() for x in (ours, teacher)])
    agreement, names_cosine = torch.corrcoef(ranks)[0, 1].item(), (ours * teacher).sum(-1).mean().item()
    return f"held-back cosine {cosine:.3f}, label cosine {names_cosine:.3f}, label Spearman {agreement:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    lesson = Lesson(args.work)
    tower = new_tower(torch.from_numpy(np.load(args.work / "words.npy")))
    mean = distil(tower, lesson, args.epochs, args.rate, args.work / "text-unfinished.pt")
    tower.load_state_dict(mean)
    torch.save(mean, args.work / "text.pt")
    print(report(tower.eval(), lesson, args.data / "labels" / "kinetics400.txt"))


if __name__ == "__main__":
    main()
