"""The training material: photos, sentences and label lists of one data folder."""

import csv
import gzip
import json
import random
import re
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import yaml

TEMPLATES = (
    "a video of {}",
    "a photo of {}",
    "{}.",
    "a person {}",
    "someone is {}",
    "people {}",
    "a video of a person {}",
    "this is {}",
    "a picture of a {}",
    "the action of {}",
)
DESCRIBED = ("hmdb", "imagenet", "k400", "ssv1", "sun397", "ucf")
LONGEST_WORDS = 24
FIGHTS = {"fighting": "fighting", "no fighting": "walking"}  # folder -> what is seen
PHRASES = Path(__file__).with_name("phrases.yaml")
PHRASE_FORMS = ("{} {}", "{} a {}", "{} the {}", "{} with a {}", "{} in a {}", "a person {} a {}")


@dataclass(frozen=True)
class Photo:
    """One row of photos.csv; ``label`` is empty where there are captions."""

    member: str
    source: str
    split: str
    label: str
    captions: tuple[str, ...]


def photos(data: Path) -> list[Photo]:
    """Every row of photos.csv, in order: a photo's number is its row in every cache."""
    with (data / "photos.csv").open(newline="") as file:
        return [
            Photo(r["member"], r["source"], r["split"], r["label"], _split_captions(r["captions"]))
            for r in csv.DictReader(file)
        ]


def _split_captions(captions: str) -> tuple[str, ...]:
    return tuple(c.strip() for c in captions.split(" | ") if c.strip())


def clips(data: Path) -> list[Photo]:
    """The real clips, in the order of the caches: those of actions.csv, then the fights of both parts."""
    with (data / "actions" / "actions.csv").open(newline="") as file:
        rows = [Photo(f"actions/{r['video']}", "actions", r["split"], r["label"], ()) for r in csv.DictReader(file)]
    for path in sorted((data / "fights").glob("*/*/*.mp4")):
        split, label = path.parent.parent.name, FIGHTS[path.parent.name]
        rows.append(Photo(str(path.relative_to(data)), "fights", "train" if split == "train" else "val", label, ()))
    return rows


class Archive:
    """Pictures by their member name, read from all ``*.tar`` of a folder without unpacking them."""

    def __init__(self, data: Path):
        self.places, self.files = {}, {}
        for path in sorted(data.glob("*.tar")):
            with tarfile.open(path) as tar:
                self.places |= {i.name.removeprefix("./"): (path, i.offset_data, i.size) for i in tar if i.isfile()}

    def read(self, member: str) -> np.ndarray:
        """RGB uint8 (H, W, 3)."""
        path, offset, size = self.places[member]
        file = self.files.setdefault(path, path.open("rb"))
        file.seek(offset)
        return cv2.imdecode(np.frombuffer(file.read(size), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def label_names(data: Path) -> list[str]:
    """Every class name of every benchmark list and of the photos, in plain lower-case words."""
    names = {spaced(line) for path in (data / "labels").glob("*.txt") for line in path.open() if line.strip()}
    for group in json.loads((data / "labels" / "hvu.json").read_text()).values():
        names |= {spaced(name) for name in group}
    return sorted(names | {p.label for p in photos(data) if p.label})


def spaced(name: str) -> str:
    """``ApplyEyeMakeup`` and ``ride_bike`` as a person writes them."""
    return re.sub(r"[_\s]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip().lower()


def some_sentences(data: Path, rng: random.Random, count: int) -> list[str]:
    """Captions, narrations and descriptions of at most ``LONGEST_WORDS``, every source alike."""
    by_source = _by_source(data)
    short = {s: sorted(t for t in texts if len(t.split()) <= LONGEST_WORDS) for s, texts in by_source.items()}
    each = count // len(short)
    return [t for source in sorted(short) for t in rng.sample(short[source], min(each, len(short[source])))]


def some_nouns(data: Path, rng: random.Random, count: int) -> list[str]:
    """Names of things from WordNet."""
    return rng.sample(sorted(_by_source(data)["wordnet_name"]), count)


def descriptions(data: Path) -> list[str]:
    """Sentences about the actions, places and things of public benchmarks: what is seen of each."""
    by_source = _by_source(data)
    return sorted(set().union(*(by_source[f"described_{name}"] for name in DESCRIBED)))


def _by_source(data: Path) -> dict[str, set[str]]:
    by_source = {}
    with gzip.open(data / "sentences.tsv.gz", "rt") as file:
        for line in file:
            source, sentence = line.rstrip("\n").split("\t", 1)
            by_source.setdefault(source, set()).add(sentence.strip())
    return by_source


def made_phrases(names: list[str], rng: random.Random, count: int) -> list[str]:
    """Verbs and things of the names in new pairs: short phrases as names of labels are."""
    verbs = sorted({n.split()[0] for n in names if n.split()[0].endswith("ing")})
    things = sorted({n for n in names if "ing" not in n} | {" ".join(n.split()[1:]) for n in names if " " in n})
    return [rng.choice(PHRASE_FORMS).format(rng.choice(verbs), rng.choice(things)) for _ in range(count)]


@cache
def phrases() -> dict[str, dict[str, list[str]]]:
    """phrases.yaml: for ``photos``, ``exercises`` and ``imagenet``, class name (or word of it) -> other names."""
    return yaml.safe_load(PHRASES.read_text())


def every_phrase() -> list[str]:
    """All texts of phrases.yaml."""
    return [p for group in phrases().values() for some in group.values() for p in some]


def names_of(photo: Photo) -> list[str]:
    """The class name of a labelled photo and what else it goes by; exercises of one kind share theirs."""
    if photo.source == "exercises":
        label = photo.label.lower()
        return next(some for word, some in phrases()["exercises"].items() if re.search(rf"\b({word})\b", label))
    group = phrases()["imagenet" if photo.source == "imagenet" else "photos"]
    return [photo.label, *group.get(photo.label, [])]


def captions_of(photo: Photo) -> tuple[str, ...]:
    """What is said of this one photo: its captions; of an exercise its whole name."""
    return (photo.label.lower(),) if photo.source == "exercises" else photo.captions
