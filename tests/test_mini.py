"""The bundled model is the one that is described, and it recognises what real clips show."""

import csv
import os

import pytest

from xclip_cli import hub
from xclip_cli.checkpoint import open_checkpoint
from xclip_cli.registry import MODELS


def test_the_file_is_the_one_that_the_registry_describes():
    spec, checkpoint = MODELS["mini"], open_checkpoint("mini")
    assert [verdict for _, verdict in hub.verify(spec)] == ["ok"]
    assert checkpoint.path.stat().st_size == spec.size_bytes
    assert (checkpoint.num_frames, checkpoint.preprocessing) == (spec.num_frames, spec.preprocessing)


@pytest.mark.slow
def test_real_clips_get_their_own_label_far_more_often_than_by_chance(xclip, shared, tmp_path):
    clips, output = shared / "clips", tmp_path / "o.csv"
    done = xclip("tag", clips, "--labels-file", clips / "labels.txt", "-o", output)
    assert done.returncode == 0, done.stderr
    with open(clips / "clips.csv", newline="") as stream:
        truth = {row["file"]: row["label"] for row in csv.DictReader(stream)}
    with open(output, newline="") as stream:
        best = {os.path.basename(row["video"]): row["label"] for row in csv.DictReader(stream) if row["rank"] == "1"}
    assert best.keys() == truth.keys() and len(truth) == 26
    assert sum(best[file] == label for file, label in truth.items()) >= 12
