"""Measures rules of where a timeline's segments begin: F of the time rightly labelled, on clips joined to videos.

Five clips of different names, ten seconds each, make a video of 50 s. It is tagged with these names and others beside
them, and with others alone, where every second that gets a label is wrong. A rule is chosen by `--set choose` (clips
and stills of the data folder) and reported on `--set report` (the 26 clips).
"""

import argparse
import csv
import random
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from xclip_cli.labels import from_names
from xclip_cli.tagger.encoder import Encoder
from xclip_cli.tagger.textcache import text_features
from xclip_cli.tagger.timeline import Found, Rules, Scored, segments
from xclip_cli.video.stream import Windowing

SECONDS, AT_ONCE, COUNTS, SAME = 10, 5, (2, 5, 26, 92, 400, 700), 0.7
STILLS = {"har15": 1, "sports22": 1, "instruments10": 1}  # of each name
RULES: dict[str, Callable[[int], float]] = {
    "2/N, 1/4 to 1/2": lambda n: min(max(0.25, 2 / n), 0.5),
    "40 % of squares": lambda n: np.nan,  # see timeline.Rules
    "1/sqrt(N)": lambda n: min(n**-0.5, 0.5),
    "0.5": lambda n: 0.5,
}
Clips = list[tuple[Path, str]]


def chosen_clips(data: Path, work: Path) -> Clips:
    """Up to six clips and one still of each name."""
    clips, count = [], {}
    with open(data / "actions/actions.csv") as file:
        for row in csv.DictReader(file):
            count[row["label"]] = count.get(row["label"], 0) + 1
            clips += [(data / "actions" / row["video"], row["label"])] if count[row["label"]] <= 6 else []
    for folder in [*sorted((data / "interactions/test").iterdir()), data / "fights/test/fighting"]:
        clips += [(path, folder.name) for path in sorted(folder.glob("*.mp4"))[:3]]
    with open(data / "photos.csv") as file:
        rows = list(csv.DictReader(file))
    for source, count_of_name in STILLS.items():
        members: dict[str, list[str]] = {}
        for row in rows:
            if row["source"] == source:
                members.setdefault(row["label"], []).append(row["member"])
        with tarfile.open(data / f"{source}.tar") as archive:
            for name in sorted(members):
                for member in random.Random(1).sample(sorted(members[name]), count_of_name):
                    archive.extract(member, work, filter="data")
                    clips.append((work / member, name))
    return clips


def reported_clips(folder: Path) -> Clips:
    """The 26 clips."""
    with open(folder / "clips.csv") as file:
        return [(folder / row["file"], row["label"]) for row in csv.DictReader(file)]


def segment(path: Path, target: Path) -> Path:
    """Write ten seconds of a clip, repeated where it is shorter, or of a still."""
    still = ["-loop", "1"] if path.suffix in (".webp", ".jpg", ".png") else []
    shape = "fps=10,scale=288:288:force_original_aspect_ratio=increase,crop=288:288,setsar=1"
    coding = ["-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p", "-an"]
    once, limit = target.with_suffix(".once.mp4"), ["-t", str(SECONDS)]
    command = ["ffmpeg", "-v", "error", "-y"]
    subprocess.run([*command, *still, "-i", path, *limit, "-vf", shape, *coding, once], check=True)
    subprocess.run([*command, "-stream_loop", "-1", "-i", once, *limit, "-c", "copy", target], check=True)
    return target


def groups(clips: Clips, draws: int) -> Iterator[Clips]:
    """Five clips of different names at a time; every draw takes each clip once, but for a rest."""
    generator = random.Random(0)
    for _ in range(draws):
        left = generator.sample(clips, len(clips))
        while left:
            some = list({name: (path, name) for path, name in reversed(left)}.values())[-AT_ONCE:]
            left = [clip for clip in left if clip not in some]
            if len(some) == AT_ONCE:
                yield some


def embed(clips: Clips, draws: int, work: Path, cache: Path) -> None:
    """Write the features of all windows, of joins and of clips alone, to an .npz."""
    parts = {path: segment(path, work / f"{number}.mp4") for number, (path, _) in enumerate(clips)}
    videos, names = [], []
    for number, group in enumerate(groups(clips, draws)):
        listing = work / f"join-{number}.txt"
        listing.write_text("".join(f"file '{parts[path].resolve()}'\n" for path, _ in group))
        videos.append(str(listing.with_suffix(".mp4")))
        names.append([name for _, name in group])
        command = ["ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", listing, "-c", "copy", videos[-1]]
        subprocess.run(command, check=True)
    arrays = {"joins": np.array(names), "names": np.array([name for _, name in clips])}
    encoder = Encoder("mini")
    windowing = Windowing.of(encoder.checkpoint.num_frames, 4, 2)
    alone = [str(path if path.suffix in (".mp4", ".avi", ".mkv") else parts[path]) for path, _ in clips]
    for kind, paths in (("join", videos), ("clip", alone)):
        for number, (_, found) in enumerate(encoder.embed_many(paths, windowing)):
            key = f"{kind}/{number}/"
            arrays |= {key + "win": found.windows, key + "spans": found.spans, key + "whole": found.whole[None]}
            arrays[key + "end"] = np.array(found.end_seconds)
    np.savez(cache, **arrays)


class Names:
    """The names of the clips and those of benchmarks, and what mini makes of each."""

    def __init__(self, own: list[str], folder: Path, encoder: Encoder):
        def read(name: str) -> list[str]:
            lines = (folder / f"{name}.txt").read_text().split("\n")
            return [re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", line).lower().strip() for line in lines if line.strip()]

        few, many = read("hmdb51") + read("ucf101"), [read("kinetics400"), read("kinetics700")]
        self.few, self.many = [own, few], [many[0], many[1], few, own]
        every = list(dict.fromkeys(chain(*self.few, *self.many)))
        features = text_features(from_names(every), encoder.checkpoint).numpy()
        self.features = dict(zip(every, features / np.linalg.norm(features, axis=1, keepdims=True), strict=True))

    def lists(self, true: list[str], count: int, generator: random.Random) -> tuple[list[str], list[str]]:
        """So many names, those that are true first, and as many without these; none means nearly the same as one."""
        others = []
        for part in self.few if count <= 92 else self.many:
            apart = (x for x in part if all(self.features[x] @ self.features[y] < SAME for y in true))
            some = [x for x in apart if x not in others]
            others += generator.sample(some, len(some))
        return [*true, *others][:count], others[:count]

    def similarity(self, features: np.ndarray, names: list[str]) -> np.ndarray:
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        return unit @ np.stack([self.features[name] for name in names]).T


class Measured:
    """Windows of joins and clips with their names, as `embed` wrote them, told among other names."""

    def __init__(self, cache: Path, folder: Path):
        self.arrays, encoder = np.load(cache), Encoder("mini")
        self.names = Names(sorted(set(self.arrays["names"].tolist())), folder, encoder)

    def found(self, key: str, names: list[str], rule: Callable[[int], float], scale: float) -> list[Found]:
        similarity = self.names.similarity(self.arrays[key + "win"], names)
        scores = np.exp(scale * (similarity - similarity.max(axis=1, keepdims=True)))
        scores /= scores.sum(axis=1, keepdims=True)
        spans, on = self.arrays[key + "spans"], np.full(len(names), rule(len(names)))
        scored = Scored(spans, np.zeros(len(spans), np.int64), scores, similarity)
        return segments(scored, Rules(on, on / 2, max_gap_seconds=2.0), float(self.arrays[key + "end"]))

    def joins(self, count: int, rule: Callable[[int], float], scale: float) -> tuple[float, float]:
        """F of the time rightly labelled, and the share of time with a label where none is right."""
        generator, told, right, true_seconds, wrong, seconds = random.Random(count), 0.0, 0.0, 0.0, 0.0, 0.0
        for number, group in enumerate(self.arrays["joins"].tolist()):
            true, key = group[:count], f"join/{number}/"
            names, others = self.names.lists(true, count, generator)
            end = float(len(true) * SECONDS)
            true_seconds += end
            for part in self.found(key, names, rule, scale):
                start = part.label * SECONDS
                told += max(0.0, min(part.end_seconds, end) - part.start_seconds)
                if part.label < len(true):
                    right += max(0.0, min(part.end_seconds, start + SECONDS) - max(part.start_seconds, start))
            wrong += covered(self.found(key, others, rule, scale))
            seconds += float(self.arrays[key + "end"])
        return 2 * right / (told + true_seconds), wrong / seconds

    def clips(self, count: int, rule: Callable[[int], float], scale: float) -> tuple[float, float]:
        """The share of clips that get no segment, and of these the share that are right as whole videos."""
        generator, unknown = random.Random(count), []
        names_of_clips = self.arrays["names"].tolist()
        for number, name in enumerate(names_of_clips):
            names, _ = self.names.lists([name], count, generator)
            if not self.found(f"clip/{number}/", names, rule, scale):
                whole = self.names.similarity(self.arrays[f"clip/{number}/whole"], names)
                unknown.append(whole.argmax() == 0)
        return len(unknown) / len(names_of_clips), float(np.mean(unknown)) if unknown else 0.0


def covered(parts: list[Found]) -> float:
    """Seconds in which at least one label holds; the parts are in order of their start."""
    total = end = 0.0
    for part in parts:
        total += max(0.0, part.end_seconds - max(part.start_seconds, end))
        end = max(end, part.end_seconds)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--set", choices=("choose", "report"), default="report")
    parser.add_argument("--scales", type=float, nargs="+", default=[18.0], help="mini's own is 18")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    cache = args.work / f"{args.set}.npz"
    if not cache.exists():
        chosen = args.set == "choose"
        clips = chosen_clips(args.shared / "data", args.work) if chosen else reported_clips(args.shared / "clips")
        embed(clips, 1 if chosen else 2, args.work, cache)
    measured = Measured(cache, args.shared / "data/labels")
    for scale in args.scales:
        print(f"scale {scale:g}; % for {COUNTS} names: F | wrong time | only unknown (of these right)")
        for name, rule in RULES.items():
            joined = [measured.joins(count, rule, scale) for count in COUNTS]
            alone = [measured.clips(count, rule, scale) for count in COUNTS]
            cells = (" ".join(f"{100 * row[i]:3.0f}" for row in joined) for i in (0, 1))
            unknown = " ".join(f"{100 * all_:3.0f} ({100 * right:3.0f})" for all_, right in alone)
            print(f"{name:18} {' | '.join(cells)} | {unknown}", flush=True)


if __name__ == "__main__":
    main()
