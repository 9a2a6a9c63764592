"""Puts the two towers into one file, float16, with the temperature that fits names which were never shown."""

import argparse
import math
from pathlib import Path

import torch
from prepare import IMAGE_SIZE, MEAN, STD
from train import config

from xclip_cli.checkpoint.ours import save
from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.model.xclip import Xclip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("minilm", type=Path, help="folder of all-MiniLM-L6-v2, for its vocabulary")
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="video", help="of the run that train.py wrote")
    parser.add_argument("--scale", type=float, required=True, help="the temperature that evaluate.py found")
    args = parser.parse_args()
    model = Xclip(config(args.minilm))
    state = torch.load(args.work / f"{args.name}.pt")
    state |= {f"text.{name}": value for name, value in torch.load(args.work / "text.pt").items()}
    state["logit_scale"] = torch.tensor(math.log(args.scale))
    model.load_state_dict(state)
    preprocessing = Preprocessing(IMAGE_SIZE, IMAGE_SIZE, (MEAN / 255,) * 3, (STD / 255,) * 3)
    save(model.half(), args.out, preprocessing=preprocessing, name="mini", made_by="weights/recipe")
    count = sum(p.numel() for p in model.parameters())
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {count:,} parameters")


if __name__ == "__main__":
    main()
