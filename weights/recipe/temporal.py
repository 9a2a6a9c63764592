"""Is the temporal part real? Order of frames, fight clips and exercise pairs, with temporal modules on and off.

Order: a disc moves left or right over a photo, so that both classes have the same frames. After learning from 64 such
clips (all but the trunk) another 64 are told apart; "off" is the same network without messages, its frames averaged.
"""

import argparse
import copy
import random
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

CLASSES = ("a disc moving left", "a disc moving right")
CLIPS, BATCH, STEPS = 64, 16, 80
ROWS = torch.arange(GRID * GRID).view(GRID, GRID)[3:5].flatten()  # of patches: those that the disc crosses


def disc_clips(backgrounds: list[np.ndarray], seed: int) -> tuple[np.ndarray, Tensor]:
    """RGB float32 (N, T, S, S, 3) and the class of each: twins with the same frames in the opposite order."""
    rng, clips = random.Random(seed), []
    for background in backgrounds:
        colour = [rng.randint(0, 255) for _ in range(3)]
        start, radius = rng.randint(20, 80), rng.randint(14, 30)
        places = np.linspace(start, IMAGE_SIZE - start, NUM_FRAMES).round().astype(int)
        height = IMAGE_SIZE // 2 + rng.randint(-20, 20)
        frames = [cv2.circle(background.copy(), (int(x), height), radius, colour, -1) for x in places]
        clips += [frames[::-1], frames]
    return np.stack(clips), torch.tensor([0, 1] * len(backgrounds))


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
    model = encode.model
    learned = [p for n, p in model.named_parameters() if "trunk" not in n and "classifier" not in n]
    optimiser = torch.optim.AdamW(learned, lr=3e-4)
    for step in range(STEPS):
        picked = torch.randperm(len(train[0]))[:BATCH]
        cosines = F.normalize(encode(train[0][picked]), dim=-1) @ text.T
        loss = F.cross_entropy(SCALE * cosines, train[1][picked])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 20 == 0:
            print(f"  step {step} loss {loss.item():.3f}", flush=True)
    with torch.inference_mode():
        answers = torch.cat([(encode(part) @ text.T).argmax(1) for part in test[0].split(BATCH)])
    return (answers == test[1]).float().mean().item()


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
    scenes = [plain_view(archive.read(rows[i].member)) for i in range(0, len(rows), len(rows) // CLIPS)][:CLIPS]
    clips, answer = disc_clips(scenes, seed=0)
    features, text = features_of(model, clips), embed_texts(list(CLASSES))
    train, test = (features[:CLIPS], answer[:CLIPS]), (features[CLIPS:], answer[CLIPS:])
    for encode in (On, Off):
        torch.manual_seed(0)
        share = order_accuracy(encode(copy.deepcopy(model)), train, test, text)
        print(f"{encode.__name__.lower():3} order of frames {100 * share:.1f} %", flush=True)


if __name__ == "__main__":
    main()
