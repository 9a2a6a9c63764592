"""The training material: photos, sentences and label lists of one data folder."""

import csv
import gzip
import json
import random
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

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
    "activitynet": 14_000,
    "cc3m_val": 8_000,
    "charades": 8_000,
    "described_imagenet": 5_000,
    "described_ssv1": 1_200,
    "described_sun397": 2_500,
    "didemo": 5_000,
    "epic": 8_000,
    "exercise_text": 600,
    "flickr30k": 20_000,
    "flickr8k": 6_000,
    "msvd": 16_000,
    "wordnet_name": 40_000,
}
LONGEST_WORDS = 24


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
    rng, by_source = random.Random(0), {}
    with gzip.open(data / "sentences.tsv.gz", "rt") as file:
        for line in file:
            source, sentence = line.rstrip("\n").split("\t", 1)
            by_source.setdefault(source, set()).add(sentence.strip())
    texts = set()
    for source in sorted(by_source):
        short = sorted(s for s in by_source[source] if len(s.split()) <= LONGEST_WORDS)
        rng.shuffle(short)
        short.sort(key=lambda s: len(s.split()) > 14)
        texts.update(short[: LIMITS.get(source)])
    names = label_names(data)
    texts.update(names, (c for p in photos(data) for c in p.captions))
    texts.update(t.format(n) for n in names for t in (*TEMPLATES[:4], *rng.sample(TEMPLATES[4:], 2)))
    nouns = rng.sample(sorted(by_source["wordnet_name"]), 10_000)
    texts.update(rng.choice(TEMPLATES).format(n) for n in nouns)
    return sorted(texts)
