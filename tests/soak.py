"""Thousands of videos in one run of the program: do memory, open files and the rate stay level? Run by hand, on Linux.

python tests/soak.py --clips 5000 --broken 1000 --plot soak.png [--model mini]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "video"))

import fuzz
from numbered_clips import packaged_clips

_EVERY_SECONDS = 0.5
_MB = 2**20


class Sample(NamedTuple):
    """What a run holds at a moment, memory in bytes and open files, and how many videos are done."""

    seconds: float
    parent_bytes: int
    worker_bytes: int
    parent_files: int
    worker_files: int
    done: int


def videos(folder: Path, num_clips: int, num_broken: int) -> None:
    """Hard links to a few real clips and small ones in every container, and files that were damaged, mixed."""
    whole = fuzz.whole_clips(next(path for path in packaged_clips() if path.name == "bikes.mp4"))
    sources = []
    for suffix, content in whole.items():
        sources.append(folder / f"source.{suffix}")
        sources[-1].write_bytes(content)
    for path in packaged_clips():
        sources.append(folder / f"real-{path.name}")
        sources[-1].write_bytes(path.read_bytes())
    for number in range(num_clips):
        source = sources[number % len(sources)]
        os.link(source, folder / f"{number:06}{''.join(source.suffixes)}")
    for number in range(num_broken):
        name, content = fuzz.mutant(number, 0, whole)
        (folder / f"{number * num_clips // num_broken:06}-broken-{name}").write_bytes(content)
    for source in sources:
        source.unlink()


def toy(path: Path) -> str:
    """A small model with random weights: decoding and the program itself are what a run of it shows."""
    from xclip_cli.checkpoint.ours import save
    from xclip_cli.checkpoint.registry import Preprocessing
    from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig
    from xclip_cli.model.xclip import Xclip

    vision = VisionConfig(image_size=32, patch_size=16, width=64, layers=2, heads=2)
    config = XclipConfig(vision, TextConfig(width=64, layers=2, heads=2), embed_dim=64, num_frames=8)
    save(Xclip(config), path, preprocessing=Preprocessing(resize=36, crop=32), name="toy")
    return str(path)


def _held(pid: int) -> tuple[int, int]:
    """Resident bytes and open files of a process; nothing of one that is gone."""
    with suppress(OSError):
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        return resident, len(os.listdir(f"/proc/{pid}/fd"))
    return 0, 0


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    return []


def watch(process: subprocess.Popen, journal: Path) -> Iterator[Sample]:
    """Looks at the run until it ends."""
    began, done, read = time.monotonic(), 0, 0
    while process.poll() is None:
        time.sleep(_EVERY_SECONDS)
        if journal.exists():
            with journal.open("rb") as file:
                file.seek(read)
                new = file.read()
            done, read = done + new.count(b"\n"), read + len(new)
        parent = _held(process.pid)
        workers = [_held(pid) for pid in _children(process.pid)]
        memory, files = (sum(column) for column in zip(*workers, strict=True)) if workers else (0, 0)
        yield Sample(time.monotonic() - began, parent[0], memory, parent[1], files, done)


def report(samples: list[Sample], plot: Path) -> None:
    """Prints the figures of the second and the last fifth of the videos, and draws all."""
    from matplotlib import pyplot

    table = np.array([sample for sample in samples if sample.done], float)
    total = table[-1, 5]
    table = table[: int((table[:, 5] < total).sum()) + 1]  # afterwards rows are written, and the workers are gone
    for name, low, high in (("second fifth", 0.2, 0.4), ("last fifth", 0.8, 1.0)):
        part = table[(table[:, 5] >= low * total) & (table[:, 5] <= high * total)]
        rate = (part[-1, 5] - part[0, 5]) / (part[-1, 0] - part[0, 0])
        mean, most = part.mean(axis=0), part.max(axis=0)
        print(
            f"{name}: {rate:.1f} videos/s; program {mean[1] / _MB:.0f} MB (at most {most[1] / _MB:.0f}), {mean[3]:.1f} "
            f"open files; workers {mean[2] / _MB:.0f} MB (at most {most[2] / _MB:.0f}), {mean[4]:.1f} open files"
        )
    print(f"{total:.0f} videos in {table[-1, 0]:.0f} s; most: program {table[:, 1].max() / _MB:.0f} MB")
    figure, axes = pyplot.subplots(3, 1, figsize=(9, 9), sharex=True)
    axes[0].plot(table[:, 5], table[:, 1] / _MB, label="program")
    axes[0].plot(table[:, 5], table[:, 2] / _MB, label="workers together")
    axes[0].set_ylabel("resident memory, MB")
    axes[1].plot(table[:, 5], table[:, 3], label="program")
    axes[1].plot(table[:, 5], table[:, 4], label="workers together")
    axes[1].set_ylabel("open files")
    step = max(1, round(10 / _EVERY_SECONDS))
    axes[2].plot(table[step:, 5], (table[step:, 5] - table[:-step, 5]) / (table[step:, 0] - table[:-step, 0]))
    axes[2].set_ylabel("videos/s over ten seconds")
    axes[2].set_xlabel("videos done")
    for axis in axes:
        axis.set_ylim(bottom=0)
    axes[0].legend()
    axes[1].legend()
    figure.savefig(plot, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--broken", type=int, default=1000)
    parser.add_argument("--model", default="toy")
    parser.add_argument("--plot", type=Path, default=Path("soak.png"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs, output = Path(folder, "videos"), Path(folder, "tags.csv")
        inputs.mkdir()
        videos(inputs, asked.clips, asked.broken)
        model = toy(Path(folder, "toy.safetensors")) if asked.model == "toy" else asked.model
        command = [sys.executable, "-m", "xclip_cli", "tag", str(inputs), "-o", str(output)]
        command += ["--labels", "a dog,a cat", "--top-k", "1", "--model", model]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            samples = list(watch(process, output.with_name("tags.csv.journal")))
        print(f"exit code {process.returncode}, {output.read_text().count(chr(10)) - 1} rows")
    report(samples, asked.plot)


if __name__ == "__main__":
    main()
