"""Scores a learned video side on the validation halves.

A still is a clip of eight equal frames. Each line: the whole network, then with MIT and prompts left out. The two
`unseen` lines mean something only for a network that was taught with `train.py --hold-out`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import Photo, photos
from distil_text import embed, new_tower
from torch import Tensor
from train import GRID, config, held_out

from xclip_cli.model.text import TextTower
from xclip_cli.model.xclip import VideoFeatures, Xclip

MOST_NAMES = 150  # prompts on a thousand names take minutes


class Stills:
    """Features of validation photos, by the network and by its frame encoder alone."""

    def __init__(self, model: Xclip, maps: np.ndarray, rows: list[int]):
        self.model, features, patches = model, [], []
        for first in range(0, len(rows), 64):
            picked = torch.from_numpy(maps[rows[first : first + 64]]).float()
            frames, tokens = encode(model, picked)
            features.append(frames)
            patches.append(model.prompts.project(tokens))
        self.frames, self.patches = torch.cat(features), torch.cat(patches)

    def whole(self, text: Tensor) -> Tensor:
        """Cosines (B, N) with MIT and prompts."""
        clips = self.frames.expand(-1, self.model.config.num_frames, -1)
        parts = zip(clips.split(32), self.patches.split(32), strict=True)
        return torch.cat([self.model.similarity(VideoFeatures(self.model.mit(c), p), text) for c, p in parts])

    def alone(self, text: Tensor) -> Tensor:
        """Cosines (B, N) of the frame feature with the text as it is."""
        return F.normalize(self.frames[:, 0], dim=-1) @ text.T


def encode(model: Xclip, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, 64, 352) -> (B, 1, E) and (B, 1, 64, width): among equal frames, messages say what one frame says."""
    visual = model.visual
    grid = maps.transpose(1, 2).unflatten(2, (GRID, GRID))
    x = visual.stem.tokens(F.relu6(visual.stem.trunk.head(grid)))
    x = visual.ln_pre(x + visual.position_embedding)
    for block in visual.blocks:
        x = block(x, 1)
    return visual.proj(visual.ln_post(x[:, 0])).unsqueeze(1), x[:, 1:].unsqueeze(1)


def tasks(rows: list[Photo]) -> dict[str, tuple[list[int], list[str]]]:
    """Of each protocol: photos and the names they are told apart among."""
    val = [i for i, r in enumerate(rows) if r.split == "val"]
    held = held_out(rows)
    sports = sorted({r.label for r in rows if r.source == "sports100"})
    unseen = [i for i, r in enumerate(rows) if r.source == "sports100" and r.label in held][::2]
    of = {s: [i for i in val if rows[i].source == s] for s in ("bar", "imagenet", "sports100", "sports22")}
    names = {s: sorted({r.label for r in rows if r.source == s}) for s in of}
    return {
        "unseen sports among 20": (unseen, sorted(held)),
        "unseen sports among 100": (unseen, sports),
        "BAR, unusual places": (of["bar"], names["bar"]),
        "BAR among 106": (of["bar"], sorted({*sports, *names["bar"]})),
        "sports100": (of["sports100"], sports),
        "sports22": (of["sports22"], names["sports22"]),
        "ImageNet, second set": (of["imagenet"], sorted({rows[i].label for i in of["imagenet"]})),
    }


def accuracy(cosines: Tensor, answer: Tensor) -> str:
    """Top-1 and top-5 in percent."""
    hits = cosines.topk(min(5, cosines.shape[1])).indices == answer.unsqueeze(1)
    return f"{100 * hits[:, 0].float().mean():5.1f} / {100 * hits.any(1).float().mean():5.1f}"


def best_scale(cosines: Tensor, answer: Tensor) -> float:
    """The softmax scale of least surprise."""
    return min(range(5, 101), key=lambda scale: F.cross_entropy(scale * cosines, answer).item())


def captions(model: Xclip, maps: np.ndarray, rows: list[Photo], tower: TextTower) -> None:
    """Prints how often a photo's best captions are its own, among those of all validation photos."""
    picked = [i for i, r in enumerate(rows) if r.source == "flickr8k" and r.split == "val"]
    stills = Stills(model, maps, picked)
    text = embed(tower, [c for i in picked for c in rows[i].captions])
    owner = torch.tensor([k for k, i in enumerate(picked) for _ in rows[i].captions])
    for name, cosines in (("whole", stills.whole(text)), ("alone", stills.alone(text))):
        hits = owner[cosines.topk(5).indices] == torch.arange(len(picked)).unsqueeze(1)
        print(f"captions ({name}): {100 * hits[:, 0].float().mean():.1f} / {100 * hits.any(1).float().mean():.1f}")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--text", default="text.pt")
    parser.add_argument("--video", nargs="+", default=["video.pt"], help="several are averaged, weight by weight")
    args = parser.parse_args()
    tower = new_tower()
    tower.load_state_dict(torch.load(args.work / args.text))
    model = Xclip(config(), text=False).eval()
    runs = [torch.load(args.work / name) for name in args.video]
    model.load_state_dict({name: sum(run[name] for run in runs) / len(runs) for name in runs[0]})
    rows, maps = photos(args.data), np.load(args.work / "maps0.npy", mmap_mode="r")
    for task, (picked, names) in tasks(rows).items():
        stills, text = Stills(model, maps, picked), embed(tower.eval(), names)
        answer = torch.tensor([names.index(rows[i].label) for i in picked])
        alone = stills.alone(text)
        whole = stills.whole(text) if len(names) <= MOST_NAMES else None
        shown = "-" if whole is None else accuracy(whole, answer)
        scale = best_scale(alone if whole is None else whole, answer)
        print(
            f"{task:24} {len(picked):5} photos: {shown}   alone {accuracy(alone, answer)}   scale {scale}", flush=True
        )
    captions(model, maps, rows, tower)


if __name__ == "__main__":
    main()
