"""Teaches the video side on cached trunk maps: first single pictures, then pseudo-clips of eight frames.

The trunk and the text tower stay as they are. Pictures are pulled to the text features of their class names and
captions, and to what the pretrained ImageNet classifier says of them (its 1,000 class names are texts as well), so
that what the trunk knew is not lost. If NAME-pictures.pt exists, the first stage is not done again.
"""

import argparse
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from data import photos
from distil_text import ACTIVATION, EMBED_DIM, embed, new_tower, text_config
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from trunk import trunk_state_from_pretrained

from xclip_cli.model.config import VisionConfig, XclipConfig
from xclip_cli.model.text import TextTower
from xclip_cli.model.xclip import VideoFeatures, Xclip

PROMPTS = ("{}", "a video of {}", "a photo of {}")
GRID, IMAGE_SIZE = 8, 256
BATCH, PATCHES, NOISE, SCALE = 256, 8, 0.3, 30.0
CLIPS, NAMES = 8, 64
HELD_OUT_EVERY = 5  # of the sorted classes of sports100, for the zero-shot protocol


def config() -> XclipConfig:
    """The sizes of ``mini``."""
    return XclipConfig(
        vision=VisionConfig(image_size=IMAGE_SIZE, width=384, layers=2, heads=6, stem="efficientnet_lite2"),
        text=text_config(),
        embed_dim=EMBED_DIM,
        activation=ACTIVATION,
        num_frames=8,
        mit_layers=1,
        prompt_layers=1,
    )


@dataclass(frozen=True)
class Favour:
    """What counts how much: class names, captions, how often a captioned photo is drawn, label smoothing."""

    names: float
    captions: float
    captioned: float
    smoothing: float


FAVOURS = {"names": Favour(1.0, 0.5, 4.0, 0.1), "captions": Favour(0.6, 1.0, 8.0, 0.2)}


class Material:
    """Cached maps, the texts that go with them, and who may be learned from."""

    def __init__(self, data: Path, work: Path, tower: TextTower, hold_out: bool, favour: Favour, views: int):
        self.favour = favour
        self.rows = photos(data)
        self.maps = [np.load(path, mmap_mode="r") for path in sorted(work.glob("maps*.npy"))[:views]]
        names = sorted({r.label for r in self.rows if r.label})
        held = held_out(self.rows) if hold_out else set()
        self.train = [i for i, r in enumerate(self.rows) if r.split == "train" and r.label not in held]
        self.names = [n for n in names if n not in held and any(self.rows[i].label == n for i in self.train)]
        self.target = torch.tensor([self.names.index(r.label) if r.label in self.names else -1 for r in self.rows])
        captions = sorted({c for r in self.rows if r.split == "train" for c in r.captions})
        place = {c: i for i, c in enumerate(captions)}
        self.caption_rows = [[place[c] for c in r.captions if c in place] for r in self.rows]
        self.captions = embed(tower, captions)
        self.labels = [embed(tower, [p.format(n) for n in self.names]) for p in PROMPTS]
        self.imagenet = [embed(tower, [p.format(n) for n in open_clip.IMAGENET_CLASSNAMES]) for p in PROMPTS]
        self.weights = torch.tensor([self._weight(self.rows[i].source) for i in self.train])

    def _weight(self, source: str) -> float:
        return {"flickr8k": self.favour.captioned, "exercises": 0.5}.get(source, 1.0)

    def draw(self, count: int) -> list[int]:
        """Row numbers, captioned photos oftener and exercises less often than they stand in the table."""
        return [self.train[k] for k in torch.multinomial(self.weights, count, replacement=True)]

    def clip_features(self, rows: list[int], head: nn.Module) -> Tensor:
        """(B, 8, GRID * GRID, 1280): runs of a few views of each photo; the two photos of an exercise are two views."""
        views = torch.stack([self.features([self._partner(r) for r in rows], head) for _ in range(3)], dim=1)
        order = torch.randint(3, (8,)).sort().values
        return views[:, order]

    def _partner(self, row: int) -> int:
        if self.rows[row].source != "exercises":
            return row
        near = [
            i for i in (row - 1, row, row + 1) if self.rows[min(i, len(self.rows) - 1)].label == self.rows[row].label
        ]
        return random.choice(near)

    def features(self, rows: list[int], head: nn.Module) -> Tensor:
        """Trunk features (B, GRID * GRID, 1280) of one cached view of each row."""
        maps = np.stack([random.choice(self.maps)[i] for i in rows])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            features = F.relu6(F.linear(torch.from_numpy(maps).bfloat16(), head.weight[:, :, 0, 0], head.bias))
        return features.float().clone()


def held_out(rows) -> set[str]:
    """The class names that the zero-shot protocol never shows."""
    return set(sorted({r.label for r in rows if r.source == "sports100"})[::HELD_OUT_EVERY])


class Student:
    """The network's video side run on trunk features instead of pixels, a few patches at a time."""

    def __init__(self, model: Xclip, spread: Tensor):
        self.visual, self.spread = model.visual, spread

    def crop(self, features: Tensor, patches: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features (..., GRID * GRID, 1280) -> pooled (..., 1280), a few patches (..., P, 1280), and which they are.

        All pictures of a batch share one crop of the map and one choice of patches: cheap variety.
        """
        high, wide = random.randint(5, GRID), random.randint(5, GRID)
        top, left = random.randint(0, GRID - high), random.randint(0, GRID - wide)
        cells = torch.arange(GRID * GRID).view(GRID, GRID)[top : top + high, left : left + wide].flatten()
        kept = cells[torch.randperm(len(cells))[:patches]]
        return features[..., cells, :].mean(-2), features[..., kept, :], kept

    def encode(self, pooled: Tensor, patches: Tensor, kept: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        """Pooled (B, T, 1280) and patches (B, T, P, 1280) -> frame features (B, T, E) and patch tokens."""
        num_frames = pooled.shape[1]
        if noise:
            pooled = F.dropout(pooled + noise * self.spread * torch.randn_like(pooled), 0.2)
        stem, positions = self.visual.stem, self.visual.position_embedding
        tokens = torch.cat([stem.class_proj(pooled).unsqueeze(2), stem.patch_proj(patches)], dim=2).flatten(0, 1)
        x = self.visual.ln_pre(tokens + torch.cat([positions[:1], positions[1 + kept]]))
        for block in self.visual.blocks:
            x = block(x, num_frames)
        x = x.unflatten(0, (-1, num_frames))
        return self.visual.proj(self.visual.ln_post(x[:, :, 0])), x[:, :, 1:]


@torch.no_grad()
def start_from_imagenet(model: Xclip, classifier: Tensor, imagenet: Tensor, pooled: Tensor) -> None:
    """The class token begins as what the linear ImageNet classifier says, put into text; all else begins quiet."""
    gram = imagenet.T @ imagenet
    ridge = gram.diagonal().mean() * torch.eye(EMBED_DIM)
    start = torch.linalg.solve(gram + ridge, imagenet.T @ (classifier - classifier.mean(0)))
    start = start / (start @ (pooled - pooled.mean(0)).T).std()
    model.visual.stem.class_proj.weight.copy_(start)
    model.visual.stem.class_proj.bias.copy_(-start @ pooled.mean(0))
    model.visual.proj.weight.copy_(torch.eye(EMBED_DIM))
    model.mit.position_embedding.mul_(0.1)
    for name, parameter in model.named_parameters():
        if name.endswith(("attn.out.weight", "mlp.down.weight")):
            parameter.mul_(0.3 if name.startswith("visual.") else 0.1)


def learn_pictures(model: Xclip, student: Student, material: Material, classifier, steps: int, rate: float) -> None:
    """Stage 1: single pictures, mean of the weights kept. MIT and prompts are not touched."""
    trained = [p for n, p in model.visual.named_parameters() if not n.startswith("stem.trunk")]
    for parameter in model.visual.stem.trunk.parameters():
        parameter.requires_grad_(False)
    optimiser = torch.optim.AdamW(_groups(trained), lr=rate, betas=(0.9, 0.98), fused=True)
    mean, begun = [p.detach().clone() for p in trained], time.time()
    for step in range(steps):
        _set_rate(optimiser, rate, step, steps)
        rows = material.draw(BATCH)
        pooled, patches, kept = student.crop(material.features(rows, model.visual.stem.trunk.head), PATCHES)
        lam = 1 - 0.5 * torch.rand(BATCH, 1) * torch.rand(BATCH, 1)
        mixed = lam * pooled + (1 - lam) * pooled.flip(0)
        lam = lam.unsqueeze(1)
        patches = torch.cat([patches, lam * patches + (1 - lam) * patches.flip(0)])
        opinion = F.linear(mixed, *classifier).softmax(1)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            frames, _ = student.encode(torch.cat([pooled, mixed]).unsqueeze(1), patches.unsqueeze(1), kept, NOISE)
        plain, mixed = F.normalize(frames[:, 0].float(), dim=-1).chunk(2)
        prompt, favour = random.randrange(len(PROMPTS)), material.favour
        named = favour.names * name_loss(plain, material, rows, prompt)
        named = named + favour.captions * caption_loss(plain, material, rows)
        loss = named + 2 * F.cross_entropy(SCALE * mixed @ material.imagenet[prompt].T, opinion)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        torch._foreach_lerp_(mean, trained, 1 - min(0.995, (step + 1) / (step + 10)))
        if step % 20 == 0:
            print(
                f"pictures {step}/{steps} loss {loss.item():.3f} names {named.item():.3f} {time.time() - begun:.0f} s",
                flush=True,
            )
    with torch.no_grad():
        torch._foreach_copy_(trained, mean)


def name_loss(features: Tensor, material: Material, rows: list[int], prompt: int) -> Tensor:
    """Cross-entropy against every class name of every set at once."""
    target = material.target[rows]
    named = target >= 0
    logits = SCALE * features[named] @ material.labels[prompt].T
    return F.cross_entropy(logits, target[named], label_smoothing=material.favour.smoothing)


def caption_loss(features: Tensor, material: Material, rows: list[int]) -> Tensor:
    """Each captioned picture finds one of its captions among others, and the caption its picture."""
    places = list({row: i for i, row in enumerate(rows) if material.caption_rows[row]}.values())
    own = [random.choice(material.caption_rows[rows[i]]) for i in places]
    others = torch.randint(len(material.captions), (512,)).tolist()
    logits = SCALE * features[places] @ material.captions[own + others].T
    answer = torch.arange(len(places))
    return F.cross_entropy(logits, answer) + F.cross_entropy(logits[:, : len(places)].T, answer)


def learn_clips(model: Xclip, student: Student, material: Material, steps: int, rate: float) -> None:
    """Stage 2: pseudo-clips; only messages, MIT, prompts and the temperature learn, the rest is their teacher."""
    new = [p for n, p in model.named_parameters() if ".message." in n or n.startswith(("mit.", "prompts."))]
    optimiser = torch.optim.AdamW(_groups(new), lr=rate, betas=(0.9, 0.98), fused=True)
    for step in range(steps):
        _set_rate(optimiser, rate, step, steps)
        rows = [row for row in material.draw(4 * CLIPS) if material.target[row] >= 0][:CLIPS]
        features = material.clip_features(rows, model.visual.stem.trunk.head)
        frames, patches = student.encode(*student.crop(features, PATCHES), 0.0)
        names = torch.cat([material.target[rows], torch.randint(len(material.names), (NAMES - CLIPS,))]).unique()
        text = material.labels[random.randrange(len(PROMPTS))][names]
        video = VideoFeatures(model.mit(frames), model.prompts.project(patches))
        logits = SCALE * model.similarity(video, text)
        with torch.no_grad():
            calm = SCALE * F.normalize(frames.mean(1), dim=-1) @ text.T
        answer = (names == material.target[rows].unsqueeze(1)).float().argmax(1)
        loss = F.cross_entropy(logits, answer, label_smoothing=0.1) + F.cross_entropy(logits, calm.softmax(1))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(new, 1.0)
        optimiser.step()
        if step % 20 == 0:
            print(f"clips {step}/{steps} loss {loss.item():.3f}", flush=True)


def _groups(parameters: list[Tensor]) -> list[dict]:
    matrices = [p for p in parameters if p.ndim == 2]
    return [
        {"params": matrices, "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.0},
    ]


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("trunk", type=Path, help="efficientnet-lite2-*.pth")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clip-steps", type=int, default=100)
    parser.add_argument("--hold-out", action="store_true", help="learn without the 20 zero-shot classes")
    parser.add_argument("--favour", choices=FAVOURS, default="captions")
    parser.add_argument("--views", type=int, help="use only the first views")
    parser.add_argument("--name", default="video")
    parser.add_argument("--text", default="text.pt")
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    tower = new_tower()
    tower.load_state_dict(torch.load(args.work / args.text))
    material = Material(args.data, args.work, tower.eval(), args.hold_out, FAVOURS[args.favour], args.views)
    published = torch.load(args.trunk, weights_only=True)
    model = Xclip(config(), text=False)
    model.visual.stem.trunk.load_state_dict(trunk_state_from_pretrained(published))
    pooled = material.features(material.draw(1024), model.visual.stem.trunk.head).mean(1)
    start_from_imagenet(model, published["_fc.weight"], material.imagenet[0], pooled)
    student = Student(model, pooled.std(0))
    classifier = (published["_fc.weight"], published["_fc.bias"])
    pictures = args.work / f"{args.name}-pictures.pt"
    if pictures.exists():
        model.load_state_dict(torch.load(pictures))
    else:
        learn_pictures(model, student, material, classifier, args.steps, 1e-3)
        torch.save(model.state_dict(), pictures)
    learn_clips(model, student, material, args.clip_steps, 3e-4)
    torch.save(model.state_dict(), args.work / f"{args.name}.pt")


if __name__ == "__main__":
    main()
