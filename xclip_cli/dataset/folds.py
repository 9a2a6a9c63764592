"""Samples in parts that are alike, none of which shares a source with another."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from xclip_cli.dataset.sample import Sample


def deal(samples: Sequence[Sample], sources: Sequence[int | str], parts: int, seed: int) -> list[int]:
    """The part, from 0, of each sample: each class is dealt to all parts about evenly, clips of one source to one part.

    There are no more parts than sources.
    """
    groups = by_source(samples, sources)
    parts, part_of = min(parts, len(groups)), {}
    sizes = [Counter() for _ in range(parts)]
    for source in sorted(random.Random(seed).sample(sorted(groups), len(groups)), key=lambda s: groups[s][0].label):
        labels = Counter(sample.label for sample in groups[source])
        part = min(range(parts), key=lambda i: (sum(sizes[i][label] for label in labels), sizes[i].total()))
        part_of[source] = part
        sizes[part] += labels
    return [part_of[source] for source in sources]


def by_source(samples: Sequence[Sample], sources: Sequence[int | str]) -> dict[int | str, list[Sample]]:
    """The samples of each source."""
    groups = defaultdict(list)
    for sample, source in zip(samples, sources, strict=True):
        groups[source].append(sample)
    return groups
