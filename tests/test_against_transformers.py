"""The same job done with transformers as its documentation shows: every video with all its texts through XCLIPModel.

Only the pixels are the authors' (OpenCV), not those of transformers' processor, which resizes with antialiasing.
"""

import csv
import json
import os
import subprocess
import sys
import time

import pytest

STRAIGHTFORWARD = """
import bisect, json, sys
import cv2, torch
from transformers import XCLIPModel
from xclip_cli.model.text import tokenize

folder, labels, *videos = json.load(sys.stdin)
model = XCLIPModel.from_pretrained(folder).eval()
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
tokens = tokenize(labels)
tokens = tokens[:, : int(tokens.argmax(1).max()) + 1]

def frames(path, num_frames=8):
    capture = cv2.VideoCapture(path)
    rate = capture.get(cv2.CAP_PROP_FPS)
    every, stamps = [], []
    while True:
        got, frame = capture.read()
        if not got:
            break
        every.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    # Some files state a mean rate that is not the one of their time stamps, some have none for the last frame.
    seconds = max(len(every) / rate, max(stamps) - stamps[0] + 1 / rate)
    times = [(i + 0.5) * seconds / num_frames + stamps[0] + 0.0005 for i in range(num_frames)]
    return [every[bisect.bisect(stamps, time) - 1] for time in times]

def view(frame):
    height, width = frame.shape[:2]
    factor = 256 / min(height, width)
    frame = cv2.resize(frame, (int(width * factor + 0.5), int(height * factor + 0.5)))
    top, left = (frame.shape[0] - 224) // 2, (frame.shape[1] - 224) // 2
    pixels = torch.from_numpy(frame[top : top + 224, left : left + 224])
    return ((pixels / 255 - mean) / std).permute(2, 0, 1)

scores = {}
with torch.no_grad():
    for path in videos:
        pixels = torch.stack([view(frame) for frame in frames(path)])[None]
        out = model(input_ids=tokens, attention_mask=(tokens != 0).long(), pixel_values=pixels)
        scores[path] = out.logits_per_video.softmax(-1)[0].tolist()
json.dump(scores, sys.stdout)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """X-CLIP-B/32 with random weights, laid out as on the Hugging Face hub."""
    import torch
    from transformers import XCLIPConfig, XCLIPModel

    path = tmp_path_factory.mktemp("b32")
    torch.manual_seed(0)
    model = XCLIPModel(XCLIPConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "VideoMAEImageProcessor",
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "resample": 2,
            }
        )
    )
    return path


@pytest.fixture(scope="module")
def both(folder, shared, tmp_path_factory):
    """Scores by video and label, and seconds, of ours and of theirs."""
    from xclip_cli import labels

    names = [label.name for label in labels.builtin("kinetics400").labels]
    videos = sorted(str(path) for path in (shared / "clips").iterdir() if path.suffix in (".mp4", ".avi", ".mkv"))
    environment, output = os.environ | {"HF_HUB_OFFLINE": "1"}, tmp_path_factory.mktemp("ours") / "o.csv"

    started = time.perf_counter()
    command = [sys.executable, "-m", "xclip_cli", "tag", *videos, "--model", str(folder), "--labelset", "kinetics400"]
    subprocess.run([*command, "-k", "400", "-o", str(output)], check=True, env=environment)
    ours_seconds = time.perf_counter() - started

    started = time.perf_counter()
    request = json.dumps([str(folder), names, *videos])
    done = subprocess.run(
        [sys.executable, "-c", STRAIGHTFORWARD],
        input=request,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    theirs_seconds = time.perf_counter() - started

    answers = json.loads(done.stdout)
    theirs = {(video, name): s for video in videos for name, s in zip(names, answers[video], strict=True)}
    with open(output, newline="") as stream:
        ours = {(row["video"], row["label"]): float(row["score"]) for row in csv.DictReader(stream)}
    return (ours, ours_seconds), (theirs, theirs_seconds)


@pytest.mark.slow
def test_our_scores_are_the_same(both):
    (ours, _), (theirs, _) = both
    difference = max(abs(ours[key] - score) for key, score in theirs.items())
    print(f"\nscores within {difference:.5f}")
    assert difference < 0.0001


@pytest.mark.quiet
def test_our_wall_time_is_at_most_a_third(both):
    (_, ours), (_, theirs) = both
    print(f"\nours {ours:.1f} s, theirs {theirs:.1f} s")
    assert ours * 3 <= theirs
