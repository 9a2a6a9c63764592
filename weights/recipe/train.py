"""Puts the teachers of `heads.py` into the network, which starts as their equal.

The class token of every frame learns to be the teachers' answer, turned so that no layer norm takes anything away from
it. Messages begin so small that the video feature is the mean over frames of these answers, and beside it, where no
answer and no text is, MIT says how far frames lie from that mean: fine-tuning can tell labels apart by it. There are no
video-specific prompts: nothing here could teach them, so they would add noise.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from data import label_names
from evaluate import Network, score
from heads import BATCH, SCALE, Material, Teachers, mix
from prepare import IMAGE_SIZE, NUM_FRAMES
from protocol import Caches, held_back
from torch import Tensor, nn
from trunk import trunk_state_from_pretrained
from tune_text import EMBED_DIM, Text, text_config

from xclip_cli.model.config import VisionConfig, XclipConfig
from xclip_cli.model.xclip import Xclip

CLASS_HIDDEN, STEPS, RATE, ASKED = 1536, 300, 5e-4, 1024
QUIET = 0.02  # of the usual size of what a residual branch adds
MOVEMENT, STEEP = 0.05, 20.0  # deviation of what MIT adds to the unit features of real clips; slope of its hidden units


def config(minilm: Path) -> XclipConfig:
    """The sizes of ``mini``; the text tower is the folder's."""
    return XclipConfig(
        vision=VisionConfig(
            image_size=IMAGE_SIZE,
            width=EMBED_DIM,
            layers=2,
            heads=6,
            stem="efficientnet_lite2",
            class_hidden=CLASS_HIDDEN,
        ),
        text=text_config(minilm),
        embed_dim=EMBED_DIM,
        num_frames=NUM_FRAMES,
        mit_layers=1,
        prompt_layers=0,
    )


def turn(answers: Tensor) -> Tensor:
    """Orthogonal and symmetric (E, E): puts the direction of which unit ``answers`` (N, E) hold least along the ones.

    That is the direction which a layer norm takes away.
    """
    least = torch.linalg.eigh(answers.T @ answers)[1][:, 0]
    ones = torch.full_like(least, len(least) ** -0.5)
    mirror = F.normalize(least - ones, dim=0)
    return torch.eye(len(least)) - 2 * torch.outer(mirror, mirror)


@torch.no_grad()
def start_from(model: Xclip, teachers: Teachers, published: dict[str, Tensor], turned: Tensor) -> None:
    """The class token begins as the heads, as far as they are linear maps and MLPs; all else begins silent."""
    visual, stem = model.visual, model.visual.stem
    stem.trunk.load_state_dict(trunk_state_from_pretrained(published))
    stem.classifier.load_state_dict(teachers.classifier.state_dict())
    stem.concepts.weight.copy_(turned @ teachers.concepts.weight)
    heads = len(teachers.heads)
    stem.class_proj.weight.copy_(turned @ sum(head.straight.weight for head in teachers.heads) / heads)
    stem.class_proj.bias.copy_(turned @ sum(head.straight.bias + head.down.bias for head in teachers.heads) / heads)
    _, up, _, down = stem.class_mlp
    for part, head in zip(range(0, CLASS_HIDDEN, CLASS_HIDDEN // heads), teachers.heads, strict=True):
        rows = slice(part, part + CLASS_HIDDEN // heads)
        up.weight[rows] = head.up.weight * head.norm.weight
        up.bias[rows] = head.up.bias + head.up.weight @ head.norm.bias
        down.weight[:, rows] = turned @ head.down.weight / heads
    # Patches speak of the same things in the same directions.
    stem.patch_proj.load_state_dict(stem.class_proj.state_dict())
    visual.proj.weight.copy_(turned.T)
    visual.position_embedding.zero_()
    for name, parameter in model.named_parameters():
        if name.endswith(("attn.out.weight", "mlp.down.weight")) and ".message." not in name:
            parameter.mul_(QUIET)


@torch.no_grad()
def carry_movement(model: Xclip, caches: Caches) -> None:
    """MIT begins as how far frames lie from their mean, along the direction that the layer norm takes from them.

    Attention to all alike takes the mean away; positions as large as features keep the next layer norm from levelling
    what is left; and hidden units in pairs, GELU(z) + GELU(-z), are nearly its size. Of the real clips to learn from it
    has the mean nothing.
    """
    [block], positions = model.mit.blocks, torch.randn_like(model.mit.position_embedding)
    positions -= positions.mean(-2, keepdim=True)
    model.mit.position_embedding.copy_(positions)
    block.attn.q.weight.mul_(QUIET)
    block.attn.v.weight.copy_(torch.eye(EMBED_DIM))
    block.attn.out.weight.copy_(-(2**0.5) * torch.eye(EMBED_DIM))  # a feature and its position have twice the variance
    free = model.visual.proj.weight.sum(1) / EMBED_DIM**0.5
    basis = torch.linalg.qr(torch.cat([positions[0].T, torch.randn(EMBED_DIM, EMBED_DIM)], 1))[0]
    blind = basis[:, NUM_FRAMES:].T  # to positions
    units, down = slice(2 * len(blind)), block.mlp.down
    block.mlp.up.weight[units] = STEEP * torch.cat([blind, -blind])
    down.weight[:, units] = free[:, None]
    real = [caches.frames(k) for k, clip in enumerate(caches.clips) if clip.split == "train"]
    video = Network(model).features(caches, real).video
    moved = video @ free
    scale = MOVEMENT * (video - torch.outer(moved, free)).norm(dim=1).mean() / moved.std()
    down.weight[:, units] *= scale
    down.bias -= scale * moved.mean() * free


def fit(model: Xclip, teachers: Teachers, material: Material, asked: Tensor, turned: Tensor, steps: int) -> None:
    """The class token learns the teachers' answers to pictures and mixtures: direction, and ranking of texts."""
    stem = model.visual.stem
    trained = [*stem.class_proj.parameters(), *stem.class_mlp.parameters(), *stem.concepts.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    begun = time.time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * max(0.01, 0.5 * (1 + math.cos(math.pi * step / steps)))
        rows = material.draw(BATCH)
        pooled = torch.stack([random.choice(material.pooled)[row] for row in rows])
        pooled = torch.cat([pooled, mix(pooled)])
        with torch.no_grad():
            taught = teachers(pooled)
        with torch.autocast("cpu", torch.bfloat16):
            token = stem.class_token(pooled)
        ours = F.normalize(token.float() @ turned, dim=-1)
        texts = asked[torch.randint(len(asked), (ASKED,))]
        distance = 1 - (ours * taught).sum(-1).mean()
        loss = 8 * distance + F.cross_entropy(SCALE * ours @ texts.T, (SCALE * taught @ texts.T).softmax(1))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if step % 50 == 0:
            print(f"fit {step}/{steps} distance {distance.item():.4f} {time.time() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("trunk", type=Path, help="efficientnet-lite2-*.pth")
    parser.add_argument("minilm", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--fold", type=int, help="learn without the names of this fold, and score on them")
    parser.add_argument("--teachers", default="teachers")
    parser.add_argument("--name", default="video")
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    caches, embed = Caches(args.data, args.work), Text(args.minilm, args.work / "text.pt")
    plain = Text(args.minilm)
    gone = set() if args.fold is None else held_back(caches, args.fold, plain)
    material = Material(caches, embed, gone)
    teachers = Teachers()
    teachers.load_state_dict(torch.load(args.work / f"{args.teachers}.pt"))
    model = Xclip(config(args.minilm), text=False)
    asked = torch.cat([embed(label_names(args.data)), material.captions, material.imagenet.all, material.names.all])
    turned = turn(torch.cat([teachers(material.pooled[0][material.train]), asked]).detach())
    start_from(model, teachers, torch.load(args.trunk, weights_only=True), turned)
    fit(model, teachers, material, asked, turned, args.steps)
    carry_movement(model, caches)
    torch.save(model.state_dict(), args.work / f"{args.name}.pt")
    if args.fold is not None:
        scores = score(Network(model.eval()), embed, plain, args.data, caches, args.fold)
        scores.save(args.work / "scores" / f"{args.name}.npz")


if __name__ == "__main__":
    main()
