"""Label sets of one's own on real pictures turned into clips: the rank of what each clip shows among twenty others."""

import argparse
from pathlib import Path

import cv2
import numpy as np
import yaml
from data import Archive

from xclip_cli.tagger.tagger import Tagger

EXAMPLES = yaml.safe_load(Path(__file__).with_name("examples.yaml").read_text())
SIDE, FPS, NUM_FRAMES = 320, 25, 75


def write_clip(image: np.ndarray, path: Path) -> None:
    """Three seconds over a still, RGB (H, W, 3): the camera moves from left to right and comes a quarter nearer."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (SIDE, SIDE))
    side = min(image.shape[:2])
    for share in np.linspace(0, 1, NUM_FRAMES):
        part = round(side * (1 - 0.25 * share))
        top, left = (image.shape[0] - part) // 2, round((image.shape[1] - part) * (0.4 + 0.2 * share))
        frame = cv2.resize(image[top : top + part, left : left + part], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="mini")
    args = parser.parse_args()
    archive, folder = Archive(args.data), args.work / "examples"
    folder.mkdir(exist_ok=True)
    tagger = Tagger(args.model, top_k=21)
    for name, example in EXAMPLES.items():
        for member in example["pictures"]:
            clip = folder / f"{Path(member).parent}-{Path(member).stem}.mp4"
            write_clip(archive.read(member), clip)
            [segment] = tagger.tag(str(clip), [example["right"], *example["others"]]).segments
            rank = [tag.label for tag in segment.tags].index(example["right"]) + 1
            best = ", ".join(f"{tag.label} {tag.score:.2f}" for tag in segment.tags[:3])
            print(f"{name:16} {member:22} rank {rank} of {len(segment.tags)}: {best}")


if __name__ == "__main__":
    main()
