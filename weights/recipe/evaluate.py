"""Scores a learned video side on the validation halves.

A still is a clip of eight equal frames. Lines marked * mean something only for a network that was taught with
`--hold-out`. `--without` leaves parts of the network out; `--teachers` scores the teachers instead.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import Photo, held_out, photos
from everyday import PATTERNS, everyday
from heads import Teachers, text_embedder
from torch import Tensor
from train import FIGHTS, GRID, NUM_FRAMES, config

from xclip_cli.model.xclip import VideoFeatures, Xclip

MOST_NAMES = 150  # prompts on a thousand names take minutes
PARTS = ("messages", "mit", "prompts", "patches")


class Network:
    """The whole network on trunk maps, or what is left without some of its parts."""

    def __init__(self, model: Xclip, without: list[str]):
        self.model, self.without, self.kept = model, without, {}

    def features(self, maps: Tensor) -> VideoFeatures:
        """Maps (B, T, 64, 352) -> features; T = 1 stands for eight equal frames, among which messages are the same."""
        visual, num_frames = self.model.visual, maps.shape[1]
        grid = maps.flatten(0, 1).transpose(1, 2).unflatten(2, (GRID, GRID))
        x = visual.stem.tokens(F.relu6(visual.stem.trunk.head(grid))) + visual.position_embedding
        x = visual.ln_pre(x[:, :1] if "patches" in self.without else x)
        for block in visual.blocks:
            x = self._plain(block, x) if "messages" in self.without else block(x, num_frames)
        x = x.unflatten(0, (-1, num_frames))
        frames = visual.proj(visual.ln_post(x[:, :, 0]))
        prompted = "patches" not in self.without and "prompts" not in self.without
        return VideoFeatures(self._integrated(frames), self.model.prompts.project(x[:, :, 1:]) if prompted else None)

    def cosines(self, features: VideoFeatures, text: Tensor) -> Tensor:
        """(B, N); with a thousand names without prompts."""
        if features.patches is None or len(text) > MOST_NAMES:
            return F.normalize(features.video, dim=-1) @ text.T
        parts = zip(features.video.split(32), features.patches.split(32), strict=True)
        return torch.cat([self.model.similarity(VideoFeatures(v, p), text) for v, p in parts])

    def _plain(self, block, x: Tensor) -> Tensor:
        tokens = block.ln_1(x)
        x = x + block.attn(tokens, tokens)
        return x + block.mlp(block.ln_2(x))

    def _integrated(self, frames: Tensor) -> Tensor:
        if "mit" in self.without:
            return frames.mean(1)
        return self.model.mit(frames.expand(-1, NUM_FRAMES, -1) if frames.shape[1] == 1 else frames)

    def of_rows(self, maps: np.ndarray, rows: list[int]) -> VideoFeatures:
        """Features of photos, each encoded once."""
        new = [row for row in rows if row not in self.kept]
        for first in range(0, len(new), 64):
            picked = new[first : first + 64]
            features = self.features(torch.tensor(maps[picked]).float()[:, None])
            patches = [None] * len(picked) if features.patches is None else features.patches
            self.kept |= {row: (v, p) for row, v, p in zip(picked, features.video, patches, strict=True)}
        video, patches = zip(*(self.kept[row] for row in rows), strict=True)
        return VideoFeatures(torch.stack(video), None if patches[0] is None else torch.stack(patches))


class Taught:
    """The teachers in the network's place."""

    def __init__(self, teachers: Teachers, work: Path):
        self.teachers, self.pooled = teachers, torch.from_numpy(np.load(work / "pooled0.npy"))

    def of_rows(self, maps: np.ndarray, rows: list[int]) -> VideoFeatures:
        return VideoFeatures(self.teachers(self.pooled[rows].float()))

    def cosines(self, features: VideoFeatures, text: Tensor) -> Tensor:
        return F.normalize(features.video, dim=-1) @ text.T


def tasks(rows: list[Photo]) -> dict[str, tuple[list[int], list[str], list[str]]]:
    """Of each protocol: photos, their labels, and the names they are told apart among."""
    val = [i for i, r in enumerate(rows) if r.split == "val"]
    held = held_out(rows)
    sports = sorted({r.label for r in rows if r.source == "sports100"})
    unseen = [i for i, r in enumerate(rows) if r.source == "sports100" and r.label in held][::2]
    of = {s: [i for i in val if rows[i].source == s] for s in ("bar", "imagenet", "sports100", "sports22")}
    names = {s: sorted({r.label for r in rows if r.source == s}) for s in of}
    shown = everyday(rows)
    labels = {i: row.label for i, row in enumerate(rows)} | shown
    chosen = {
        "unseen sports among 20 *": (unseen, sorted(held)),
        "unseen sports among 100 *": (unseen, sports),
        "BAR, unusual places": (of["bar"], names["bar"]),
        "BAR among 106": (of["bar"], sorted({*sports, *names["bar"]})),
        "sports100": (of["sports100"], sports),
        "sports22": (of["sports22"], names["sports22"]),
        "ImageNet, second set": (of["imagenet"], sorted({rows[i].label for i in of["imagenet"]})),
        "everyday among 45 *": (sorted(shown), sorted(PATTERNS)),
        "everyday among 145 *": (sorted(shown), sorted({*PATTERNS, *sports})),
    }
    return {task: (picked, [labels[i] for i in picked], among) for task, (picked, among) in chosen.items()}


def accuracy(cosines: Tensor, answer: Tensor) -> str:
    """Top-1 and top-5 in percent."""
    hits = cosines.topk(min(5, cosines.shape[1])).indices == answer.unsqueeze(1)
    return f"{100 * hits[:, 0].float().mean():5.1f} / {100 * hits.any(1).float().mean():5.1f}"


def best_scale(cosines: Tensor, answer: Tensor) -> float:
    """The softmax scale of least surprise."""
    return min(range(5, 101), key=lambda scale: F.cross_entropy(scale * cosines, answer).item())


def fights(network: Network, work: Path, embed_texts) -> str:
    """Fight clips of other incidents than were learned from, among two names."""
    maps, labels = np.load(work / "fights-test.npy"), (work / "fights-test.txt").read_text().splitlines()
    text = embed_texts([texts[0] for texts in FIGHTS.values()])
    cosines = network.cosines(network.features(torch.from_numpy(maps).float()), text)
    return accuracy(cosines, torch.tensor([list(FIGHTS).index(label) for label in labels]))


def report(network: Network | Taught, data: Path, work: Path, embed_texts) -> None:
    """One line a protocol."""
    rows, maps = photos(data), np.load(work / "maps0.npy", mmap_mode="r")
    for task, (picked, labels, among) in tasks(rows).items():
        cosines = network.cosines(network.of_rows(maps, picked), embed_texts(among))
        answer = torch.tensor([among.index(label) for label in labels])
        scale = best_scale(cosines, answer)
        print(f"{task:26} {len(picked):5} photos: {accuracy(cosines, answer)}   scale {scale}", flush=True)
    picked = [i for i, row in enumerate(rows) if row.captions and (row.split == "val" or i in everyday(rows))]
    owner = torch.tensor([k for k, i in enumerate(picked) for _ in rows[i].captions])
    text = embed_texts([c for i in picked for c in rows[i].captions])
    found = owner[network.cosines(network.of_rows(maps, picked), text).topk(5).indices]
    hits = found == torch.arange(len(picked)).unsqueeze(1)
    top1, top5 = 100 * hits[:, 0].float().mean(), 100 * hits.any(1).float().mean()
    print(f"{'own caption *':26} {len(picked):5} photos: {top1:5.1f} / {top5:5.1f}")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--video", nargs="+", default=["video.pt"], help="several are averaged, weight by weight")
    parser.add_argument("--without", nargs="+", choices=PARTS, default=[])
    parser.add_argument("--teachers", help="score these teachers, not a network")
    parser.add_argument("--uncentred", action="store_true", help="teachers that keep their mean picture")
    parser.add_argument("--minilm", type=Path, help="MiniLM's text features instead of our tower's")
    args = parser.parse_args()
    embed_texts = text_embedder(args.data, args.work, args.minilm)
    if args.teachers:
        teachers = Teachers()
        teachers.load_state_dict(torch.load(args.work / args.teachers))
        teachers.centres.mul_(0 if args.uncentred else 1)
        return report(Taught(teachers, args.work), args.data, args.work, embed_texts)
    model = Xclip(config(), text=False).eval()
    runs = [torch.load(args.work / name) for name in args.video]
    model.load_state_dict({name: sum(run[name] for run in runs) / len(runs) for name in runs[0]})
    network = Network(model, args.without)
    report(network, args.data, args.work, embed_texts)
    print(f"fights: {fights(network, args.work, embed_texts)}")


if __name__ == "__main__":
    main()
