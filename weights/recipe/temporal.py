"""Can the temporal parts learn the order of frames? Of the same weights, with these parts and without them.

The camera comes nearer to a still or moves away from it, or a disc moves left or right over a plain ground. Both
classes have the same frames. After learning from 64 such clips (all but the trunk) another 64 are told apart.
"""

import argparse
import copy
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from data import Archive, photos
from heads import SCALE
from prepare import GRID, IMAGE_SIZE, NUM_FRAMES, plain_view, trunk_maps
from torch import Tensor
from train import config
from tune_text import Text

from xclip_cli.model.xclip import Xclip

KINDS = {
    "zoom": ("the camera moves closer", "the camera moves away"),
    "disc": ("a disc moves to the right", "a disc moves to the left"),
}
CLIPS, BATCH, STEPS, RATE, NEW_RATE = 64, 16, 120, 1e-4, 1e-3
ROWS = torch.arange(GRID * GRID).view(GRID, GRID)[3:5].flatten()  # of patches: those that the disc crosses
DISC, EDGE = 36, 40  # radius and nearest distance to the border, pixels


def zoom(still: np.ndarray) -> list[np.ndarray]:
    """Frames (S, S, 3) that come nearer to the middle of a still."""
    sides = [round(IMAGE_SIZE * share) for share in np.linspace(1, 0.4, NUM_FRAMES)]
    parts = [still[(top := (IMAGE_SIZE - side) // 2) : top + side, top : top + side] for side in sides]
    return [cv2.resize(part, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR) for part in parts]


def disc(still: np.ndarray) -> list[np.ndarray]:
    """Frames (S, S, 3) of a disc that moves right; disc and ground have colours of the still."""
    ground, colour = still[0, 0].tolist(), still[IMAGE_SIZE // 2, IMAGE_SIZE // 2].tolist()
    places = np.linspace(EDGE, IMAGE_SIZE - EDGE, NUM_FRAMES).round().astype(int)
    empty = np.full_like(still, ground)
    return [cv2.circle(empty.copy(), (int(x), IMAGE_SIZE // 2), DISC, colour, -1) for x in places]


def twins(stills: list[np.ndarray], frames_of) -> tuple[np.ndarray, Tensor]:
    """Clips (2 N, T, S, S, 3) of stills, forwards and backwards in turn, and the class of each."""
    clips = [frames_of(still) for still in stills]
    both = [frames for clip in clips for frames in (clip, clip[::-1])]
    return np.stack([np.stack(frames) for frames in both]), torch.tensor([0, 1] * len(stills))


def order_accuracy(model: Xclip, train, test, text: Tensor) -> float:
    """Share of the test clips (tokens and answers) told right after learning from the others."""
    optimiser = torch.optim.AdamW(_groups(model))
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * min(1, (step + 1) / 10) * (1 - step / STEPS)
        picked = torch.randperm(len(train[0]))[:BATCH]
        loss = F.cross_entropy(SCALE * _cosines(model, train[0][picked], text), train[1][picked])
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimiser.step()
        if step % 20 == 0:
            print(f"  step {step} loss {loss.item():.3f}", flush=True)
    with torch.inference_mode():
        answers = torch.cat([_cosines(model, part, text).argmax(1) for part in test[0].split(BATCH)])
    return (answers == test[1]).float().mean().item()


def _cosines(model: Xclip, features: Tensor, text: Tensor) -> Tensor:
    tokens = model.visual.stem.tokens(features.flatten(0, 1)).unflatten(0, features.shape[:2])
    return model.similarity(model.integrate(*model.visual.encode(tokens, ROWS)), text)


def _groups(model: Xclip) -> list[dict]:
    """All but the trunk and its classifier; messages and MIT at ten times the rate of the rest."""
    learned = {n: p for n, p in model.named_parameters() if "trunk" not in n and "classifier" not in n}
    new = [p for n, p in learned.items() if ".message." in n or n.startswith("mit.")]
    old = [p for n, p in learned.items() if ".message." not in n and not n.startswith("mit.")]
    return [{"params": group, "peak": peak} for group, peak in ((old, RATE), (new, NEW_RATE)) if group]


@torch.no_grad()
def features_of(model: Xclip, clips: np.ndarray) -> Tensor:
    """(N, T, S, S, 3) -> maps (N, T, 1280, GRID, GRID)."""
    trunk = copy.deepcopy(model.visual.stem.trunk).bfloat16()
    maps = torch.stack([torch.from_numpy(trunk_maps(trunk, clip)).float() for clip in clips])
    head = model.visual.stem.trunk.head
    features = F.relu6(F.linear(maps, head.weight[:, :, 0, 0], head.bias))
    return features.transpose(2, 3).unflatten(3, (GRID, GRID))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("minilm", type=Path, help="folder of all-MiniLM-L6-v2")
    args = parser.parse_args()
    embed = Text(args.minilm, args.work / "text.pt")
    whole = Xclip(config(args.minilm), text=False).eval()
    whole.load_state_dict(torch.load(args.work / "video.pt"))
    rows, archive = photos(args.data), Archive(args.data)
    picked = range(0, len(rows), len(rows) // CLIPS)[:CLIPS]
    stills = [plain_view(archive.read(rows[i].member)) for i in picked]
    for kind, frames_of in (("zoom", zoom), ("disc", disc)):
        clips, answer = twins(stills, frames_of)
        features, text = features_of(whole, clips), embed(list(KINDS[kind]))
        train, test = (features[:CLIPS], answer[:CLIPS]), (features[CLIPS:], answer[CLIPS:])
        for name, model in (("on", whole), ("off", whole.switched(cross_frame=False, mit_layers=0))):
            torch.manual_seed(0)
            share = order_accuracy(copy.deepcopy(model), train, test, text)
            print(f"{name:3} order of frames, {kind}: {100 * share:.1f} %", flush=True)


if __name__ == "__main__":
    main()
