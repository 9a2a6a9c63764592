"""Teaches the teacher of the video side: small heads on pooled trunk features, and what the ImageNet classifier says.

A head learns class names and captions; alone it forgets what it is not shown. The classifier's probabilities times the
text features of its class names (ConSE) know a little of everything. Their weighted sum is better than either, and is
what `train.py` teaches the network.
"""

import argparse
import math
import random
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from data import held_out, names_of, photos, phrases
from distil_text import EMBED_DIM, embed, new_tower
from everyday import everyday
from prepare import Teacher
from torch import Tensor, nn

PROMPTS = ("{}", "a video of {}", "a photo of {}")
VARIANTS = 6  # of every name, one of which is drawn at each step
BATCH, NOISE, SCALE, HIDDEN = 512, 0.3, 30.0, 768
CENTRING, CONSE = 0.6, 0.2  # how much of the mean picture is taken away; the classifier's weight beside the heads


class Material:
    """Pooled features in several views, the texts that go with them, and who may be learned from."""

    def __init__(self, data: Path, work: Path, embed_texts, hold_out: bool):
        self.rows = photos(data)
        self.pooled = [torch.from_numpy(np.load(path)).float() for path in sorted(work.glob("pooled*.npy"))]
        kept_back = held_out(self.rows) if hold_out else set()
        unseen = everyday(self.rows) if hold_out else {}
        learned = enumerate(self.rows)
        self.train = [i for i, r in learned if r.split == "train" and r.label not in kept_back and i not in unseen]
        some = {self.rows[i].label: self.rows[i] for i in self.train if self.rows[i].label}
        self.names = sorted(some)
        place = {name: k for k, name in enumerate(self.names)}
        self.target = torch.tensor([place.get(row.label, -1) for row in self.rows])
        rng = random.Random(3)
        self.plain = [embed_texts([p.format(n) for n in self.names]) for p in PROMPTS]
        self.varied = [embed_texts(_variant([names_of(some[n]) for n in self.names], k, rng)) for k in range(VARIANTS)]
        imagenet = [[n, *phrases()["imagenet"].get(n, [])] for n in open_clip.IMAGENET_CLASSNAMES]
        self.imagenet = [embed_texts(_variant(imagenet, k, rng)) for k in range(VARIANTS)]
        captions = sorted({c for i in self.train for c in self.rows[i].captions})
        place = {c: k for k, c in enumerate(captions)}
        self.captions = embed_texts(captions)
        self.caption_rows = {i: [place[c] for c in self.rows[i].captions] for i in self.train if self.rows[i].captions}
        self.weights = torch.tensor([_weight(self.rows[i].source) for i in self.train])

    def draw(self, count: int) -> list[int]:
        """Row numbers, captioned photos oftener and exercises less often than they stand in the table."""
        return [self.train[k] for k in torch.multinomial(self.weights, count, replacement=True)]

    def name_loss(self, features: Tensor, rows: list[int], texts: list[Tensor], smoothing: float) -> Tensor:
        """Cross-entropy against every class name of every set at once."""
        target = self.target[rows]
        logits = SCALE * features[target >= 0] @ random.choice(texts).T
        return F.cross_entropy(logits, target[target >= 0], label_smoothing=smoothing)

    def caption_loss(self, features: Tensor, rows: list[int]) -> Tensor:
        """Each captioned picture finds one of its captions among others, and the caption its picture."""
        places = {row: i for i, row in enumerate(rows) if row in self.caption_rows}
        own = [random.choice(self.caption_rows[row]) for row in places]
        others = torch.randint(len(self.captions), (512,)).tolist()
        logits = SCALE * features[list(places.values())] @ self.captions[own + others].T
        answer = torch.arange(len(places))
        return F.cross_entropy(logits, answer) + F.cross_entropy(logits[:, : len(places)].T, answer)


def _variant(names: list[list[str]], k: int, rng: random.Random) -> list[str]:
    """One text for each class: its own name in the first, then any of the other names that it goes by."""
    return [PROMPTS[k % len(PROMPTS)].format(rng.choice(some[1:]) if k and some[1:] else some[0]) for some in names]


def _weight(source: str) -> float:
    return {"flickr8k": 8.0, "exercises": 0.5}.get(source, 1.0)


class Head(nn.Module):
    """Pooled trunk feature (B, 1280) -> unit text feature (B, 384)."""

    def __init__(self):
        super().__init__()
        self.straight = nn.Linear(1280, EMBED_DIM)
        self.norm, self.up, self.down = nn.LayerNorm(1280), nn.Linear(1280, HIDDEN), nn.Linear(HIDDEN, EMBED_DIM)

    def forward(self, pooled: Tensor) -> Tensor:
        return F.normalize(self.straight(pooled) + self.down(F.gelu(self.up(self.norm(pooled)))), dim=-1)


class Teachers(nn.Module):
    """The heads, centred, and ConSE: pooled feature (B, 1280) -> unit text feature (B, 384)."""

    def __init__(self, heads: int = 2):
        super().__init__()
        self.heads = nn.ModuleList(Head() for _ in range(heads))
        self.classifier, self.concepts = nn.Linear(1280, 1000), nn.Linear(1000, EMBED_DIM)
        self.register_buffer("centres", torch.zeros(heads, EMBED_DIM))

    def forward(self, pooled: Tensor) -> Tensor:
        pairs = zip(self.heads, self.centres, strict=True)
        learned = sum(F.normalize(head(pooled) - centre, dim=-1) for head, centre in pairs) / len(self.heads)
        conse = F.normalize(self.concepts(self.classifier(pooled).softmax(-1)), dim=-1)
        return F.normalize(learned + CONSE * conse, dim=-1)


@torch.no_grad()
def teachers_from(published: dict[str, Tensor], material: Material) -> Teachers:
    """Heads that begin as the classifier put into text, beside the classifier itself."""
    teachers = Teachers()
    teachers.classifier.weight.copy_(published["_fc.weight"])
    teachers.classifier.bias.copy_(published["_fc.bias"])
    pooled, imagenet = material.pooled[0][material.train], F.normalize(sum(material.imagenet), dim=-1)
    teachers.concepts.weight.copy_(imagenet.T)
    says = teachers.classifier(pooled).softmax(-1) @ imagenet
    teachers.concepts.bias.copy_(-0.5 * says.mean(0))
    gram = imagenet.T @ imagenet
    start = torch.linalg.solve(gram + gram.diagonal().mean() * torch.eye(EMBED_DIM), imagenet.T)
    start = start @ (teachers.classifier.weight - teachers.classifier.weight.mean(0))
    start *= 0.05 / (start @ (pooled - pooled.mean(0)).T).std()
    for head in teachers.heads:
        head.straight.weight.copy_(start)
        head.straight.bias.copy_(-start @ pooled.mean(0))
        head.down.weight.mul_(0.3)
    return teachers


def learn_head(head: Head, teachers: Teachers, material: Material, texts: list[Tensor], steps: int) -> None:
    """Names (``texts``: how they are written), captions, and the classifier's opinion of mixed pictures."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    mean = [p.detach().clone() for p in head.parameters()]
    spread = material.pooled[0][material.train].std(0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = material.draw(BATCH)
        pooled = torch.stack([random.choice(material.pooled)[row] for row in rows])
        share = 1 - 0.5 * torch.rand(BATCH, 1) * torch.rand(BATCH, 1)
        mixed = share * pooled + (1 - share) * pooled.flip(0)
        opinion = teachers.classifier(mixed).detach().softmax(1)
        noisy = [F.dropout(x + NOISE * spread * torch.randn_like(x), 0.2) for x in (pooled, mixed)]
        plain, mixed = head(torch.cat(noisy)).chunk(2)
        loss = material.name_loss(plain, rows, texts, 0.2) + material.caption_loss(plain, rows)
        loss = loss + 2 * F.cross_entropy(SCALE * mixed @ random.choice(material.imagenet).T, opinion)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        torch._foreach_lerp_(mean, list(head.parameters()), 1 - min(0.99, (step + 1) / (step + 10)))
        if step % 50 == 0:
            print(f"head {step}/{steps} loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(list(head.parameters()), mean)


def learn(teachers: Teachers, material: Material, steps: int) -> None:
    """One head learns the classes by their names alone, the other by all that they go by."""
    for k, texts in enumerate((material.plain, material.varied)):
        head = teachers.heads[k]
        learn_head(head, teachers, material, texts, steps)
        with torch.no_grad():
            teachers.centres[k] = CENTRING * head(material.pooled[0][material.train]).mean(0)


def text_embedder(data: Path, work: Path, minilm: Path | None):
    """Texts -> unit features, by our tower or, to compare, by the tower's teacher itself."""
    if minilm:
        teacher = Teacher(minilm, data)
        return lambda texts: torch.from_numpy(teacher(texts))
    tower = new_tower()
    tower.load_state_dict(torch.load(work / "text.pt"))
    return lambda texts: embed(tower.eval(), texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("trunk", type=Path, help="efficientnet-lite2-*.pth")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--hold-out", action="store_true", help="learn without the zero-shot classes")
    parser.add_argument("--minilm", type=Path, help="learn MiniLM's text features instead of our tower's")
    parser.add_argument("--name", default="teachers")
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    material = Material(args.data, args.work, text_embedder(args.data, args.work, args.minilm), args.hold_out)
    teachers = teachers_from(torch.load(args.trunk, weights_only=True), material)
    learn(teachers, material, args.steps)
    torch.save(teachers.state_dict(), args.work / f"{args.name}.pt")


if __name__ == "__main__":
    main()
