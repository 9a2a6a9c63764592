"""Puts the two towers into one file, float16, with the temperature that fits the validation pictures."""

import argparse
import math
from pathlib import Path

import torch
from distil_text import new_tower
from prepare import IMAGE_SIZE, MEAN, STD
from train import config

from xclip_cli.checkpoint import save
from xclip_cli.model.xclip import Xclip
from xclip_cli.registry import Preprocessing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--video", nargs="+", default=["video.pt"], help="several are averaged, weight by weight")
    parser.add_argument("--scale", type=float, required=True, help="the temperature that evaluate.py found")
    args = parser.parse_args()
    model = Xclip(config())
    model.text = new_tower()
    model.text.load_state_dict(torch.load(args.work / "text.pt"))
    runs = [torch.load(args.work / name) for name in args.video]
    state = {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}
    state |= {f"text.{name}": value for name, value in model.text.state_dict().items()}
    state["logit_scale"] = torch.tensor(math.log(args.scale))
    model.load_state_dict(state)
    preprocessing = Preprocessing(IMAGE_SIZE, IMAGE_SIZE, (MEAN / 255,) * 3, (STD / 255,) * 3)
    save(model.half(), args.out, preprocessing=preprocessing, name="mini", made_by="weights/recipe")
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {sum(p.numel() for p in model.parameters()):,} parameters"
    )


if __name__ == "__main__":
    main()
