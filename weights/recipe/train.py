"""Teaches the video side on cached trunk maps: first single pictures, then clips of eight frames.

The trunk and the text tower stay as they are. Pictures are taught by the teachers of `heads.py` on the same crop, by
class names and by captions. If NAME-pictures.pt exists, the first stage is not done again.
"""

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import label_names
from distil_text import ACTIVATION, EMBED_DIM, text_config
from heads import SCALE, Material, Teachers, text_embedder
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from trunk import trunk_state_from_pretrained

from xclip_cli.model.config import VisionConfig, XclipConfig
from xclip_cli.model.xclip import VideoFeatures, Xclip

GRID, IMAGE_SIZE, NUM_FRAMES = 8, 256, 8
BATCH, PATCHES, NOISE, ASKED, TOLD = 192, 6, 0.2, 1024, 0.3
CLIPS, NAMES = 8, 64
FIGHTS = {"fighting": ("fighting", "people fighting"), "no fighting": ("walking", "people walking")}


def config() -> XclipConfig:
    """The sizes of ``mini``."""
    return XclipConfig(
        vision=VisionConfig(image_size=IMAGE_SIZE, width=384, layers=2, heads=6, stem="efficientnet_lite2"),
        text=text_config(),
        embed_dim=EMBED_DIM,
        activation=ACTIVATION,
        num_frames=NUM_FRAMES,
        mit_layers=1,
        prompt_layers=1,
    )


class Maps:
    """Cached trunk maps of the photos, and of the fight clips frame by frame."""

    def __init__(self, work: Path, material: Material, head: nn.Module):
        self.views = [np.load(path, mmap_mode="r") for path in sorted(work.glob("maps*.npy"))]
        self.fights = np.load(work / "fights-train.npy")
        self.fight_labels = (work / "fights-train.txt").read_text().splitlines()
        self.rows, self.head = material.rows, head

    def pictures(self, rows: list[int]) -> Tensor:
        """Trunk features (B, GRID * GRID, 1280) of one cached view of each row."""
        return self._features(np.stack([random.choice(self.views)[i] for i in rows]))

    def clips(self, rows: list[int]) -> Tensor:
        """(B, T, GRID * GRID, 1280): runs of a few views of each photo; the two photos of an exercise are two views."""
        views = torch.stack([self.pictures([self._partner(r) for r in rows]) for _ in range(3)], dim=1)
        return views[:, torch.randint(3, (NUM_FRAMES,)).sort().values]

    def fight_clips(self, picked: list[int]) -> Tensor:
        """(B, T, GRID * GRID, 1280) of real clips."""
        return self._features(self.fights[picked])

    def _partner(self, row: int) -> int:
        if self.rows[row].source != "exercises":
            return row
        near = range(max(0, row - 1), min(row + 2, len(self.rows)))
        return random.choice([i for i in near if self.rows[i].label == self.rows[row].label])

    def _features(self, maps: np.ndarray) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            maps = torch.from_numpy(maps).bfloat16()
            features = F.relu6(F.linear(maps, self.head.weight[:, :, 0, 0], self.head.bias))
        return features.float().clone()


class Student:
    """The network's video side run on trunk features instead of pixels, a few patches at a time."""

    def __init__(self, model: Xclip):
        self.visual = model.visual

    def crop(self, features: Tensor, patches: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features (..., GRID * GRID, 1280) -> pooled (..., 1280), a few patches (..., P, 1280), and which they are.

        All pictures of a batch share one crop of the map and one choice of patches: cheap variety.
        """
        high, wide = random.randint(5, GRID), random.randint(5, GRID)
        top, left = random.randint(0, GRID - high), random.randint(0, GRID - wide)
        cells = torch.arange(GRID * GRID).view(GRID, GRID)[top : top + high, left : left + wide].flatten()
        kept = cells[torch.randperm(len(cells))[:patches]]
        return features[..., cells, :].mean(-2), features[..., kept, :], kept

    def encode(self, pooled: Tensor, patches: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, T, 1280) and patches (B, T, P, 1280) -> frame features (B, T, E) and patch tokens."""
        num_frames = pooled.shape[1]
        stem, positions = self.visual.stem, self.visual.position_embedding
        tokens = torch.cat([stem.class_token(pooled).unsqueeze(2), stem.patch_proj(patches)], dim=2).flatten(0, 1)
        x = self.visual.ln_pre(tokens + torch.cat([positions[:1], positions[1 + kept]]))
        for block in self.visual.blocks:
            x = block(x, num_frames)
        x = x.unflatten(0, (-1, num_frames))
        return self.visual.proj(self.visual.ln_post(x[:, :, 0])), x[:, :, 1:]


@torch.no_grad()
def start_from(model: Xclip, teachers: Teachers, published: dict[str, Tensor]) -> None:
    """The class token begins as what the classifier says, put into text; all else begins quiet."""
    stem = model.visual.stem
    stem.trunk.load_state_dict(trunk_state_from_pretrained(published))
    stem.classifier.load_state_dict(teachers.classifier.state_dict())
    stem.concepts.weight.copy_(teachers.concepts.weight)
    stem.class_proj.weight.copy_(sum(head.straight.weight for head in teachers.heads) / len(teachers.heads))
    stem.class_proj.bias.copy_(teachers.concepts.bias)
    model.visual.proj.weight.copy_(torch.eye(EMBED_DIM))
    # Positions of frames that can be told from the features (whose deviation is 1), and that cancel in their mean.
    positions = 0.3 * torch.randn_like(model.mit.position_embedding)
    model.mit.position_embedding.copy_(positions - positions.mean(-2, keepdim=True))
    for name, parameter in model.named_parameters():
        if name.endswith(("attn.out.weight", "mlp.down.weight")):
            parameter.mul_(0.3 if name.startswith("visual.") else 0.1)
    for parameter in (*stem.trunk.parameters(), *stem.classifier.parameters()):
        parameter.requires_grad_(False)


def learn_pictures(model: Xclip, maps: Maps, material: Material, teachers: Teachers, asked: Tensor, steps: int) -> None:
    """Stage 1: single pictures, mean of the weights kept. ``asked``: texts whose ranking the teachers teach."""
    student, spread = Student(model), material.pooled[0][material.train].std(0)
    trained = [p for p in model.visual.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(_groups(trained), lr=1e-3, betas=(0.9, 0.98), fused=True)
    mean, begun = [p.detach().clone() for p in trained], time.time()
    for step in range(steps):
        _set_rate(optimiser, 1e-3, step, steps)
        rows = material.draw(BATCH)
        pooled, patches, kept = student.crop(maps.pictures(rows), PATCHES)
        pooled = pooled + NOISE * spread * torch.randn_like(pooled)
        share = 1 - 0.5 * torch.rand(BATCH, 1, 1) * torch.rand(BATCH, 1, 1)
        share[: BATCH // 2] = 1  # the first half stays as it is, the second is mixed
        patches = share * patches + (1 - share) * patches.flip(0)
        pooled = share[:, 0] * pooled + (1 - share[:, 0]) * pooled.flip(0)
        with torch.no_grad():
            taught = teachers(pooled)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            frames, _ = student.encode(pooled.unsqueeze(1), patches.unsqueeze(1), kept)
        ours = F.normalize(frames[:, 0].float(), dim=-1)
        plain, known = ours[: BATCH // 2], rows[: BATCH // 2]
        distance = 1 - (ours * taught).sum(-1).mean()
        told = material.name_loss(plain, known, material.varied, 0.1) + material.caption_loss(plain, known)
        loss = 8 * distance + ranking(ours, taught, asked) + TOLD * told
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        torch._foreach_lerp_(mean, trained, 1 - min(0.995, (step + 1) / (step + 10)))
        if step % 50 == 0:
            figures = f"distance {distance.item():.3f} told {told.item():.2f} {time.time() - begun:.0f} s"
            print(f"pictures {step}/{steps} {figures}", flush=True)
    with torch.no_grad():
        torch._foreach_copy_(trained, mean)


def ranking(ours: Tensor, taught: Tensor, asked: Tensor) -> Tensor:
    """How far our order of some texts (N, E), drawn anew each time, is from the teachers'."""
    texts = asked[torch.randint(len(asked), (ASKED,))]
    return F.cross_entropy(SCALE * ours @ texts.T, (SCALE * taught @ texts.T).softmax(1))


def learn_clips(model: Xclip, maps: Maps, material: Material, fights: dict[str, Tensor], steps: int) -> None:
    """Stage 2: clips of stills and of fights; only messages, MIT and prompts learn, the rest is their teacher."""
    student = Student(model)
    new = [p for n, p in model.named_parameters() if ".message." in n or n.startswith(("mit.", "prompts."))]
    optimiser = torch.optim.AdamW(_groups(new), lr=3e-4, betas=(0.9, 0.98), fused=True)
    for step in range(steps):
        _set_rate(optimiser, 3e-4, step, steps)
        features, text, answer = _real_clips(maps, material, fights) if step % 4 == 3 else _still_clips(maps, material)
        frames, patches = student.encode(*student.crop(features, PATCHES))
        video = VideoFeatures(model.mit(frames), model.prompts.project(patches))
        logits = SCALE * model.similarity(video, text)
        with torch.no_grad():
            calm = SCALE * F.normalize(frames.mean(1), dim=-1) @ text.T
        loss = F.cross_entropy(logits, answer, label_smoothing=0.1) + F.cross_entropy(logits, calm.softmax(1))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(new, 1.0)
        optimiser.step()
        if step % 20 == 0:
            print(f"clips {step}/{steps} loss {loss.item():.3f}", flush=True)


def _still_clips(maps: Maps, material: Material) -> tuple[Tensor, Tensor, Tensor]:
    rows = [row for row in material.draw(4 * CLIPS) if material.target[row] >= 0][:CLIPS]
    names = torch.cat([material.target[rows], torch.randint(len(material.names), (NAMES - CLIPS,))]).unique()
    answer = (names == material.target[rows].unsqueeze(1)).float().argmax(1)
    return maps.clips(rows), random.choice(material.varied)[names], answer


def _real_clips(maps: Maps, material: Material, fights: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    picked = random.sample(range(len(maps.fights)), CLIPS)
    texts = torch.stack([random.choice(fights[label]) for label in FIGHTS])
    others = random.choice(material.varied)[torch.randint(len(material.names), (NAMES - len(FIGHTS),))]
    answer = torch.tensor([list(FIGHTS).index(maps.fight_labels[i]) for i in picked])
    return maps.fight_clips(picked), torch.cat([texts, others]), answer


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
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--clip-steps", type=int, default=120)
    parser.add_argument("--hold-out", action="store_true", help="learn without the zero-shot classes")
    parser.add_argument("--minilm", type=Path, help="learn MiniLM's text features instead of our tower's")
    parser.add_argument("--teachers", default="teachers")
    parser.add_argument("--name", default="video")
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    embed_texts = text_embedder(args.data, args.work, args.minilm)
    material = Material(args.data, args.work, embed_texts, args.hold_out)
    teachers, model = Teachers(), Xclip(config(), text=False)
    teachers.load_state_dict(torch.load(args.work / f"{args.teachers}.pt"))
    start_from(model, teachers, torch.load(args.trunk, weights_only=True))
    maps = Maps(args.work, material, model.visual.stem.trunk.head)
    pictures = args.work / f"{args.name}-pictures.pt"
    if pictures.exists():
        model.load_state_dict(torch.load(pictures))
    else:
        asked = torch.cat([embed_texts(label_names(args.data)), material.captions, *material.imagenet])
        learn_pictures(model, maps, material, teachers, asked, args.steps)
        torch.save(model.state_dict(), pictures)
    fights = {label: embed_texts(list(texts)) for label, texts in FIGHTS.items()}
    learn_clips(model, maps, material, fights, args.clip_steps)
    torch.save(model.state_dict(), args.work / f"{args.name}.pt")


if __name__ == "__main__":
    main()
