"""The bundled model is the one that is described, and it recognises what real clips show."""

import csv
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.checkpoint.registry import MODELS


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


@torch.inference_mode()
def test_its_feature_says_how_far_frames_lie_from_their_mean():
    checkpoint = open_checkpoint("mini")
    model, draws = checkpoint.video_model(), torch.Generator().manual_seed(7)
    scene, others = (torch.randn(1, n, model.config.embed_dim, generator=draws) for n in (1, 8))
    free = model.visual.proj.weight.sum(1) / model.config.embed_dim**0.5
    shares = torch.linspace(0, 0.5, 6)[:, None, None]
    frames = torch.lerp(scene, others, shares)
    frames = F.layer_norm(frames - (frames @ free)[..., None] * free, frames.shape[2:])
    video = F.normalize(model.mit(frames), dim=1)
    assert (video @ free).diff().min() > 0.01 and (video @ free).abs().max() < 0.3
    mean = F.normalize(frames.mean(1), dim=1)
    assert ((video - (video @ free)[:, None] * free) * mean).sum(1).min() > 0.95
    texts = F.normalize(
        checkpoint.text_encoder()([f"a video of {word}" for word in ("running", "a dog", "sleeping")]), dim=1
    )
    assert (texts @ free).abs().max() < 0.01


@pytest.mark.slow
def test_tuning_tells_apart_what_only_movement_does(xclip, tmp_path):
    """A camera that jumps about and one that stands still, over grounds that no other clip has."""
    names = ("a quiet place", "a busy place")
    for number in range(40):
        part = "train" if number < 24 else "test"
        write_ground(tmp_path / part / names[number % 2] / f"{number}.mp4", number, jumps=number % 2)
    done = xclip("finetune", tmp_path / "train", "-o", tmp_path / "run")
    assert done.returncode == 0 and "by | movement alone" in (tmp_path / "run" / "report.md").read_text(), done.stderr
    right = []
    for model in ("mini", tmp_path / "run"):
        done = xclip("tag", "-r", tmp_path / "test", "--labels", ",".join(names), "--model", model, "--top-k", "1")
        rows = list(csv.DictReader(done.stdout.splitlines()))
        assert len(rows) == 16
        right.append(sum(os.path.basename(os.path.dirname(row["video"])) == row["label"] for row in rows))
    assert right[0] <= 12 and right[1] >= 15


def write_ground(path, seed, jumps):
    """Eight frames of a part of a blurred ground, drawn from the seed."""
    import cv2

    draws = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    blots = draws.integers(0, 255, (10, 16, 3), np.uint8)
    ground = cv2.resize(blots, (320, 200), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 8, (160, 120))
    for _ in range(8):
        x, y = draws.integers((161, 81)) if jumps else (80, 40)
        writer.write(np.ascontiguousarray(ground[y : y + 120, x : x + 160]))
    writer.release()
