"""Writes the small sets that fine-tuning is measured on: folders with `train` and `test`, and in each one per class.

Stills of names that a run of fold 0 was not shown become clips of a second in which the camera comes nearer; real clips
of three actions are divided by their source; the fights are divided as they come.
"""

import argparse
import random
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
from data import Archive, Photo, clips, photos
from protocol import held_names

SETS = {"har8": ("har15", 1), "sports10": ("sports100", 2), "yoga3": ("yoga5", 1)}  # every so many names of a source
ACTIONS = ("baby crawling", "boxing", "push ups")
TEST, TRAIN, SHORT_SIDE, NUM_FRAMES, NEARER = 16, 32, 240, 10, 0.02


def write_zoom(still: np.ndarray, path: Path) -> None:
    """An RGB still (H, W, 3) as a clip that comes nearer by ``NEARER`` a frame."""
    scale = SHORT_SIDE / min(still.shape[:2])
    height, width = (round(side * scale) // 2 * 2 for side in still.shape[:2])
    still = cv2.resize(still[..., ::-1], (width, height), interpolation=cv2.INTER_AREA)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), NUM_FRAMES, (width, height))
    for number in range(NUM_FRAMES):
        seen_height, seen_width = (round(side / (1 + NEARER * number)) for side in (height, width))
        top, left = (height - seen_height) // 2, (width - seen_width) // 2
        writer.write(cv2.resize(still[top : top + seen_height, left : left + seen_width], (width, height)))
    writer.release()


def write_stills(rows: list[Photo], archive: Archive, label: str, out: Path) -> None:
    """The photos of one name, ``TEST`` and then up to ``TRAIN`` of them."""
    members = [row.member for row in rows if row.label == label]
    random.Random(label).shuffle(members)
    for number, member in enumerate(members[: TEST + TRAIN]):
        part = "test" if number < TEST else "train"
        name = f"{label} {member}".replace("/", "_").replace(" ", "")
        write_zoom(archive.read(member), out / part / label / f"{name}.mp4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    rows, archive = photos(asked.data), Archive(asked.data)
    held = held_names(rows, 0)
    for name, (source, every) in SETS.items():
        some = [row for row in rows if row.source == source]
        for label in sorted({row.label for row in some} & held)[::every]:
            write_stills(some, archive, label, asked.out / name)
    for clip in clips(asked.data):
        if clip.source == "actions" and clip.label in ACTIONS:
            source = int(re.search(r"(?:_g|correct)(\d+)", clip.member)[1])
            path = asked.out / "actions3" / ("train" if source % 3 else "test") / clip.label / Path(clip.member).name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(asked.data / clip.member, path)
    shutil.copytree(asked.data / "fights", asked.out / "fights", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
