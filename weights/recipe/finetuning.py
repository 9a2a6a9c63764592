"""What fine-tuning gains on small sets: top-1 on clips that nothing was chosen by, before and after, as a table.

    python weights/recipe/finetuning.py DATA... [--model mini] [--regimes linear few-shot] [--shots 4 16] [--seeds 3]

Each DATA is a folder with `train` and `test` in it, and in each a folder per class. All options of tuning but the
regime are the defaults: what is kept of the original is chosen by clips of `train` alone.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.dataset import read_samples
from xclip_cli.finetune.clipsets import choose_shots
from xclip_cli.finetune.run import run
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.outputs.markdown import table
from xclip_cli.tagger.tagger import Tagger


def quiet(done, total):
    pass


def top1(model, samples):
    tagger = Tagger(model, sorted({sample.label for sample in samples}))
    found = {result.video: result.segments[0].tags[0].label for result in tagger.tag_many(s.path for s in samples)}
    right = [found[sample.path] == sample.label for sample in samples]
    return 100 * sum(right) / len(right)


def after(model, regime, train, test, seed):
    """Top-1 on `test` of what is tuned on `train`, and what was kept of the original."""
    with tempfile.TemporaryDirectory() as folder:
        rows = (f'"{sample.path}",{sample.label}\n' for sample in train)
        data = Path(folder) / "train.csv"
        data.write_text("video,label\n" + "".join(rows))
        settings = FinetuneSettings(model=model, regime=regime, seed=seed)
        out = Path(folder) / "run"
        *_, report = run(str(data), out, settings, open_checkpoint(model), quiet, lambda: False, "")
        return top1(str(out), test), report.kept


def cell(values):
    return f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--regimes", nargs="+", default=["linear", "few-shot"])
    parser.add_argument("--shots", nargs="+", type=int, default=[4, 16])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    rows = []
    for folder in asked.data:
        train, test = (read_samples(folder.resolve() / name) for name in ("train", "test"))
        before = top1(asked.model, test)
        for shots in asked.shots:
            row = [f"{folder.name}, {shots} clips a class", f"{before:.1f}"]
            for regime in asked.regimes:
                draws = [(choose_shots(train, shots, seed), seed) for seed in range(asked.seeds)]
                found = [after(asked.model, regime, drawn, test, seed) for drawn, seed in draws]
                unchanged = sum(kept == 1 for _, kept in found)
                row.append(cell([right for right, _ in found]) + (f" ({unchanged} unchanged)" if unchanged else ""))
            rows.append(row)
            print(row, flush=True)
    print(table(("set", "before", *asked.regimes), rows))


if __name__ == "__main__":
    main()
