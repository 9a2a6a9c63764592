"""Everyday actions for validation: which captioned photos show one of everyday.yaml's."""

import re
from pathlib import Path

import yaml
from data import Photo

PATTERNS = yaml.safe_load(Path(__file__).with_name("everyday.yaml").read_text())


def everyday(rows: list[Photo]) -> dict[int, str]:
    """Row number -> action, where two captions or more speak of it and of no other."""
    shown = {}
    for number, row in enumerate(rows):
        hits = {name: sum(bool(re.search(p, c, re.I)) for c in row.captions) for name, p in PATTERNS.items()}
        found = [name for name, count in hits.items() if count >= 2]
        if len(found) == 1:
            shown[number] = found[0]
    return shown
