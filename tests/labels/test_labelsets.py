import re
import time

import pytest

from xclip_cli import labels
from xclip_cli.errors import LabelError

OWN = ("everyday", "sports", "security", "driving")
BENCHMARKS = {
    "kinetics400": 400,
    "kinetics600": 600,
    "kinetics700": 700,
    "ucf101": 101,
    "hmdb51": 51,
    "ssv2": 174,
    "activitynet200": 200,
    "moments": 339,
}


def names(label_set):
    return [label.name for label in label_set.labels]


def test_the_thirteen_sets_are_there():
    assert labels.builtin_names() == sorted((*OWN, *BENCHMARKS, "background"))
    assert {name: len(labels.builtin(name).labels) for name in BENCHMARKS} == BENCHMARKS
    with pytest.raises(LabelError, match="no built-in label set is called"):
        labels.builtin("../labelsets/everyday")
    with pytest.raises(LabelError) as failure:
        labels.builtin("my/labels.txt")
    assert failure.value.hint == "A file is given by --labels-file."


@pytest.mark.parametrize("name", (*OWN, *BENCHMARKS))
def test_the_outline_says_what_parsing_finds(name):
    label_set = labels.builtin(name)
    assert labels.builtin_outline(name) == (len(label_set.labels), label_set.languages, label_set.about)
    assert label_set.name == name and f"({len(label_set.labels)} " in label_set.about and not label_set.warnings()


@pytest.mark.parametrize("name", OWN)
def test_our_own_sets_are_complete(name):
    label_set = labels.builtin(name)
    known = set(names(label_set))
    assert 60 <= len(known) <= 150 and len(label_set.background) >= 5
    for label in label_set.labels:
        assert 2 <= len(label.prompts) <= 4 and all(" " in prompt for prompt in label.prompts), label
        assert re.search("[\u4e00-\u9fff]", label.names["zh"]) and (label.parent is None or label.parent in known), (
            label
        )
    assert len({label.names["zh"] for label in label_set.labels}) == len(known)


def test_our_own_sets_name_the_classic_examples():
    sports, driving = labels.builtin("sports"), labels.builtin("driving")
    prompts = {label.name: " | ".join(label.prompts) for label in (*sports.labels, *driving.labels)}
    assert "mushing" in prompts["dogs pulling sled"] and "basketball dunk" in prompts["dunking"]
    assert next(label.parent for label in sports.labels if label.name == "dunking") == "basketball"
    assert driving.display("car wheel", "zh") == "车轮"


def test_all_built_in_sets_combine():
    together = labels.combine([labels.builtin(name) for name in labels.builtin_names()])
    assert len(together.labels) > 1500 and next(x for x in together.labels if x.name == "archery").names["zh"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_readable_names_are_the_benchmark_classes(name, shared):
    source = (shared / "tools" / "score.py").read_text().split("p = argparse", 1)[0]  # below, the script runs
    score = {}
    exec(source, score)
    original = (shared / "data/labels" / f"{'moments_in_time' if name == 'moments' else name}.txt").read_text()
    expected = [score["norm"](line.replace("+", " ")) for line in original.splitlines() if line]
    assert [score["norm"](label) for label in names(labels.builtin(name))] == expected


def test_the_largest_set_loads_in_a_moment():
    labels.builtin("kinetics700")

    def seconds():
        start = time.process_time()
        labels.builtin("kinetics700")
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.06
