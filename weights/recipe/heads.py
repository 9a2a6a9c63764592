"""Teaches what a frame shows: heads on pooled trunk features beside what the trunk's own classifier says.

A head learns names and captions; alone it forgets what it is not shown. The classifier's probabilities times the text
features of its class names (ConSE) know a little of everything. Their weighted sum is better than either.
"""

import argparse
import math
import random
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from data import Photo, captions_of, names_of, phrases
from evaluate import Pooled, score
from protocol import NUM_FRAMES, Caches, held_back
from torch import Tensor, nn
from tune_text import EMBED_DIM, Text

FORMS = ("{}", "a video of {}", "a photo of {}")  # of a concept's first name
BATCH, STEPS, RATE, SCALE, HIDDEN = 256, 200, 1e-3, 30.0, 768
OWN_NAME, CAPTIONED, OTHERS = (
    0.4,
    0.25,
    512,
)  # share of the first name among the texts drawn; of captioned photos; captions
NOISE, DROPPED, SMOOTHING, OPINION = 0.3, 0.2, 0.2, 2.0
CENTRING, CONSE = 0.6, 0.2  # how much of the mean picture is taken away; the classifier's weight beside the heads


class Texts:
    """Several texts of each of K concepts, of which one each is drawn."""

    def __init__(self, texts: list[list[str]], own: int, embed):
        flat = sorted({t for some in texts for t in some})
        place = {t: i for i, t in enumerate(flat)}
        features = embed(flat)
        self.own = own  # of each concept's texts so many, the first, are its own name
        self.all = torch.cat([features[[place[t] for t in some]] for some in texts])
        self.counts = torch.tensor([len(some) for some in texts])
        self.first = self.counts.cumsum(0) - self.counts
        self.mean = torch.stack([F.normalize(part.mean(0), dim=0) for part in self.all.split(self.counts.tolist())])

    def draw(self) -> Tensor:
        """(K, 384): the own name in ``OWN_NAME`` of the cases, else any text."""
        among = torch.where(torch.rand(len(self.counts)) < OWN_NAME, self.counts.clamp(max=self.own), self.counts)
        return self.all[self.first + (torch.rand(len(among)) * among).long()]


class Material:
    """Pooled features, the concepts and captions that go with them, and who may be learned from.

    A concept is drawn whatever the number of its pictures: else fifteen names of many pictures win every name.
    """

    def __init__(self, caches: Caches, embed, gone: set[int]):
        self.pooled = caches.pooled
        places = [*caches.photos, *(clip for clip in caches.clips for _ in range(NUM_FRAMES))]
        known = [i for i, p in enumerate(places) if i not in gone and p.split == "train"]
        texts, rows = {}, {}
        for i in known:
            if places[i].label:
                some = names_of(places[i])
                texts[some[0]] = some
                rows.setdefault(some[0], []).append(i)
        self.train = torch.tensor(known)
        self.rows = [torch.tensor(some) for some in rows.values()]
        self.target = {i: k for k, some in enumerate(rows.values()) for i in some}
        self.names = Texts([[form.format(n) for form in FORMS] + texts[n][1:] for n in rows], len(FORMS), embed)
        self.weights = torch.tensor([_weight(places[some[0]]) for some in rows.values()])
        own = {i: captions_of(places[i]) for i in known if captions_of(places[i])}
        captions = sorted({c for some in own.values() for c in some})
        place = {c: k for k, c in enumerate(captions)}
        self.captions, self.own = embed(captions), {i: [place[c] for c in some] for i, some in own.items()}
        self.captioned = torch.tensor([i for i in known if places[i].captions])
        imagenet = [[n, *phrases()["imagenet"].get(n, [])] for n in open_clip.IMAGENET_CLASSNAMES]
        self.imagenet = Texts(imagenet, 1, embed)

    def draw(self, count: int) -> list[int]:
        """Places: concepts alike and of each any picture; captioned photos."""
        captioned = round(count * CAPTIONED)
        concepts = torch.multinomial(self.weights, count - captioned, replacement=True).tolist()
        rows = [self.rows[k][random.randrange(len(self.rows[k]))].item() for k in concepts]
        return rows + self.captioned[torch.randint(len(self.captioned), (captioned,))].tolist()

    def name_loss(self, features: Tensor, rows: list[int]) -> Tensor:
        """Cross-entropy against one text of every concept."""
        named = [i for i, row in enumerate(rows) if row in self.target]
        target = torch.tensor([self.target[rows[i]] for i in named])
        return F.cross_entropy(_logits(features[named], self.names.draw()), target, label_smoothing=SMOOTHING)

    def caption_loss(self, features: Tensor, rows: list[int]) -> Tensor:
        """Each captioned picture finds one of its captions among others, and the caption its picture."""
        captioned = [i for i, row in enumerate(rows) if row in self.own]
        own = [random.choice(self.own[rows[i]]) for i in captioned]
        others = torch.randint(len(self.captions), (OTHERS,)).tolist()
        logits = _logits(features[captioned], self.captions[own + others])
        answer = torch.arange(len(captioned))
        return F.cross_entropy(logits, answer) + F.cross_entropy(logits[:, : len(captioned)].T, answer)


def _logits(features: Tensor, texts: Tensor) -> Tensor:
    return SCALE * (features.bfloat16() @ texts.bfloat16().T).float()


def _weight(photo: Photo) -> float:
    """Exercises are few concepts of many movements; things without people are many concepts."""
    return {"exercises": 4.0, "imagenet": 0.4, "caltech101": 0.4}.get(photo.source, 1.0)


class Head(nn.Module):
    """Pooled trunk feature (B, 1280) -> text feature (B, 384)."""

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
def teachers_from(published: dict[str, Tensor], material: Material, heads: int) -> Teachers:
    """Heads that begin as the classifier put into text, beside the classifier itself."""
    teachers = Teachers(heads)
    teachers.classifier.weight.copy_(published["_fc.weight"])
    teachers.classifier.bias.copy_(published["_fc.bias"])
    pooled, imagenet = material.pooled[0][material.train], material.imagenet.mean
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


class Noise:
    """Noise and dropout masks, made once: to draw them anew costs more than a step of learning."""

    def __init__(self, spread: Tensor, rows: int = 8192):
        self.noise = NOISE * spread * torch.randn(rows, len(spread))
        self.mask = F.dropout(torch.ones(rows, len(spread)), DROPPED)

    def __call__(self, pooled: Tensor) -> Tensor:
        first, second = torch.randint(len(self.noise) - len(pooled), (2,)).tolist()
        return (pooled + self.noise[first : first + len(pooled)]) * self.mask[second : second + len(pooled)]


def learn_head(head: Head, teachers: Teachers, material: Material, steps: int) -> None:
    """Names, captions, and the classifier's opinion of mixed pictures; the mean of the weights over the run is kept."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.05)
    mean = [p.detach().clone() for p in head.parameters()]
    noise = Noise(material.pooled[0][material.train].std(0))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = material.draw(BATCH)
        pooled = torch.stack([random.choice(material.pooled)[row] for row in rows])
        mixed = mix(pooled)[::2]
        opinion = teachers.classifier(mixed).detach().softmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            plain, mixed = head(noise(torch.cat([pooled, mixed]))).float().split([len(pooled), len(mixed)])
        loss = material.name_loss(plain, rows) + material.caption_loss(plain, rows)
        loss = loss + OPINION * F.cross_entropy(_logits(mixed, material.imagenet.draw()), opinion)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        torch._foreach_lerp_(mean, list(head.parameters()), 1 - min(0.99, (step + 1) / (step + 10)))
        if step % 50 == 0:
            print(f"head {step}/{steps} loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(list(head.parameters()), mean)


def mix(pooled: Tensor) -> Tensor:
    """Each picture with up to half of another."""
    share = 1 - 0.5 * torch.rand(len(pooled), 1) * torch.rand(len(pooled), 1)
    return share * pooled + (1 - share) * pooled[torch.randperm(len(pooled))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("trunk", type=Path, help="efficientnet-lite2-*.pth")
    parser.add_argument("minilm", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--fold", type=int, help="learn without the names of this fold, and score on them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--name", default="teachers")
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    caches, embed = Caches(args.data, args.work), Text(args.minilm, args.work / "text.pt")
    plain = Text(args.minilm)
    gone = set() if args.fold is None else held_back(caches, args.fold, plain)
    material = Material(caches, embed, gone)
    teachers = teachers_from(torch.load(args.trunk, weights_only=True), material, args.heads)
    for k, head in enumerate(teachers.heads):
        learn_head(head, teachers, material, args.steps)
        with torch.no_grad():
            teachers.centres[k] = CENTRING * head(material.pooled[0][material.train]).mean(0)
    torch.save(teachers.state_dict(), args.work / f"{args.name}.pt")
    if args.fold is not None:
        score(Pooled(teachers), embed, plain, args.data, caches, args.fold).save(
            args.work / "scores" / f"{args.name}.npz"
        )


if __name__ == "__main__":
    main()
