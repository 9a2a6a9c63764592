"""Is the temporal part real? Order of frames, fight clips and exercise pairs, with temporal modules on and off.

Order: the camera comes nearer to a still or moves away from it, or a disc moves left or right over a plain ground. Both
classes have the same frames. After learning from 64 such clips (all but the trunk) another 64 are told apart;
"off" is the same network without messages, its frames averaged.
"""

import argparse
import copy
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from data import Archive, photos
from evaluate import Network, accuracy, fights
from heads import SCALE, text_embedder
from prepare import plain_view, trunk_maps
from torch import Tensor
from train import GRID, IMAGE_SIZE, NUM_FRAMES, Student, config

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


class Off:
    """The network without messages and with its frames averaged."""

    def __init__(self, model: Xclip):
        self.model, self.student = model, Student(model)

    def __call__(self, features: Tensor) -> Tensor:
        batch = features.flatten(0, 1).unsqueeze(1)
        frames, _ = self.student.encode(batch.mean(2), batch[:, :, ROWS], ROWS)
        return frames.unflatten(0, (-1, NUM_FRAMES)).flatten(1, 2).mean(1)


class On(Off):
    """The network as it is."""

    def __call__(self, features: Tensor) -> Tensor:
        frames, _ = self.student.encode(features.mean(2), features[:, :, ROWS], ROWS)
        return self.model.mit(frames)


def order_accuracy(encode: Off, train, test, text: Tensor) -> float:
    """Share of the test clips told right after learning from the others."""
    optimiser = torch.optim.AdamW(_groups(encode.model))
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * min(1, (step + 1) / 10) * (1 - step / STEPS)
        picked = torch.randperm(len(train[0]))[:BATCH]
        cosines = F.normalize(encode(train[0][picked]), dim=-1) @ text.T
        loss = F.cross_entropy(SCALE * cosines, train[1][picked])
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimiser.step()
        if step % 20 == 0:
            print(f"  step {step} loss {loss.item():.3f}", flush=True)
    with torch.inference_mode():
        answers = torch.cat([(encode(part) @ text.T).argmax(1) for part in test[0].split(BATCH)])
    return (answers == test[1]).float().mean().item()


def _groups(model: Xclip) -> list[dict]:
    """All but the trunk and its classifier; messages and MIT at ten times the rate of the rest."""
    learned = {n: p for n, p in model.named_parameters() if "trunk" not in n and "classifier" not in n}
    new = [p for n, p in learned.items() if ".message." in n or n.startswith("mit.")]
    old = [p for n, p in learned.items() if ".message." not in n and not n.startswith("mit.")]
    return [{"params": old, "peak": RATE}, {"params": new, "peak": NEW_RATE}]


@torch.inference_mode()
def features_of(model: Xclip, clips: np.ndarray) -> Tensor:
    """(N, T, S, S, 3) -> (N, T, GRID * GRID, 1280)."""
    trunk = copy.deepcopy(model.visual.stem.trunk).bfloat16()
    maps = torch.stack([torch.from_numpy(trunk_maps(trunk, clip)).float() for clip in clips])
    return F.relu6(F.linear(maps, model.visual.stem.trunk.head.weight[:, :, 0, 0], model.visual.stem.trunk.head.bias))


@torch.inference_mode()
def exercise_accuracy(network: Network, data: Path, work: Path, embed_texts) -> str:
    """Validation exercises, their two photos as one clip, among their own names."""
    rows, maps = photos(data), np.load(work / "maps0.npy", mmap_mode="r")
    places = {}
    for i, row in enumerate(rows):
        if row.source == "exercises" and row.split == "val":
            places.setdefault(row.label, []).append(i)
    pairs = {label: (some[0], some[-1]) for label, some in places.items()}
    clips = np.stack([np.stack([maps[a]] * 4 + [maps[b]] * 4) for a, b in pairs.values()])
    cosines = network.cosines(network.features(torch.from_numpy(clips).float()), embed_texts(list(pairs)))
    return accuracy(cosines, torch.arange(len(pairs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--video", default="video.pt")
    args = parser.parse_args()
    embed_texts = text_embedder(args.data, args.work, None)
    model = Xclip(config(), text=False).eval()
    model.load_state_dict(torch.load(args.work / args.video))
    for name, without in (("on", []), ("off", ["messages", "mit", "prompts"])):
        network = Network(model, without)
        with torch.inference_mode():
            print(f"{name:3} fights {fights(network, args.work, embed_texts)}", flush=True)
        print(f"{name:3} exercise pairs {exercise_accuracy(network, args.data, args.work, embed_texts)}", flush=True)
    rows, archive = photos(args.data), Archive(args.data)
    picked = range(0, len(rows), len(rows) // CLIPS)[:CLIPS]
    stills = [plain_view(archive.read(rows[i].member)) for i in picked]
    for kind, frames_of in (("zoom", zoom), ("disc", disc)):
        clips, answer = twins(stills, frames_of)
        features, text = features_of(model, clips), embed_texts(list(KINDS[kind]))
        train, test = (features[:CLIPS], answer[:CLIPS]), (features[CLIPS:], answer[CLIPS:])
        for encode in (On, Off):
            torch.manual_seed(0)
            share = order_accuracy(encode(copy.deepcopy(model)), train, test, text)
            print(f"{encode.__name__.lower():3} order of frames, {kind}: {100 * share:.1f} %", flush=True)


if __name__ == "__main__":
    main()
