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
# Sentences taken of each source at most; of a source that is not named, all.
LIMITS = {
    "activitynet": 20_000,
    "cc3m_val": 8_000,
    "charades": 8_000,
    "described_imagenet": 5_000,
    "described_ssv1": 1_200,
    "described_sun397": 2_500,
    "didemo": 5_000,
    "epic": 8_000,
    "exercise_text": 600,
    "flickr30k": 30_000,
    "flickr8k": 6_000,
    "msvd": 30_000,
    "wordnet_name": 40_000,
}
DESCRIBED = ("hmdb", "imagenet", "k400", "ssv1", "sun397", "ucf")
LONGEST_WORDS = 24
HELD_OUT_EVERY = 5
PHRASES = Path(__file__).with_name("phrases.yaml")
# Names of labels are short phrases: as many are made of the verbs and nouns of the lists as there are captions.
MADE_PHRASES = 60_000
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


def sentences(data: Path) -> list[str]:
    """The texts that the text tower learns from: short sentences, captions, names alone and under templates."""
    rng, by_source, texts = random.Random(0), _by_source(data), set()
    for source in sorted(by_source):
        short = sorted(s for s in by_source[source] if len(s.split()) <= LONGEST_WORDS)
        rng.shuffle(short)
        short.sort(key=lambda s: len(s.split()) > 14)
        texts.update(short[: LIMITS.get(source)])
    names = label_names(data)
    texts.update(names, (c for p in photos(data) for c in p.captions))
    texts.update(t.format(n) for n in names for t in (*TEMPLATES[:4], *rng.sample(TEMPLATES[4:], 2)))
    texts.update(every_phrase())
    nouns = rng.sample(sorted(by_source["wordnet_name"]), 10_000)
    texts.update(rng.choice(TEMPLATES).format(n) for n in nouns)
    texts.update(_made_phrases(names, rng))
    return sorted(texts)


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


def held_out(rows: list[Photo]) -> set[str]:
    """The class names that the zero-shot protocol never shows: every fifth of sports100."""
    return set(sorted({r.label for r in rows if r.source == "sports100"})[::HELD_OUT_EVERY])


def _made_phrases(names: list[str], rng: random.Random) -> list[str]:
    verbs = sorted({n.split()[0] for n in names if n.split()[0].endswith("ing")})
    things = sorted({n for n in names if "ing" not in n} | {" ".join(n.split()[1:]) for n in names if " " in n})
    return [rng.choice(PHRASE_FORMS).format(rng.choice(verbs), rng.choice(things)) for _ in range(MADE_PHRASES)]


@cache
def phrases() -> dict[str, dict[str, list[str]]]:
    """phrases.yaml: for ``photos``, ``exercises`` and ``imagenet``, class name (or word of it) -> other names."""
    return yaml.safe_load(PHRASES.read_text())


def every_phrase() -> list[str]:
    """All texts of phrases.yaml."""
    return [p for group in phrases().values() for some in group.values() for p in some]


def names_of(photo: Photo) -> list[str]:
    """The class name of a labelled photo and the other names that it goes by."""
    if photo.source != "exercises":
        return [photo.label, *phrases()["photos"].get(photo.label, [])]
    label = photo.label.lower()
    return [photo.label, *next(some for word, some in phrases()["exercises"].items() if word in label)]
