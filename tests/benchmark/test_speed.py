"""A whole run on a toy network: every figure is there and in its unit."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch

from xclip_cli.benchmark import speed
from xclip_cli.benchmark.networks import tagging
from xclip_cli.benchmark.rivals import rival
from xclip_cli.benchmark.settings import SpeedSettings
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.video.reader import open_reader, read_clip


@pytest.fixture(scope="module")
def found(toy_model, make_clip, tmp_path_factory):
    """Of a toy and of a rival that looks at clips of four small frames."""
    video = str(make_clip(tmp_path_factory.mktemp("speed") / "a.mp4"))
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "rival", lambda name: replace(rival(name), shape=(3, 4, 32, 32)))
        result = speed.run(
            SpeedSettings(models=(toy_model,), against="r3d_18", rounds=2, threads=1, video=video), said.append
        )
    assert any("round 2 of 2" in line for line in said)
    return result


def test_ours_has_every_part_and_a_rival_its_encoder(found):
    ours, rival = found.rows
    assert ours["ours"] and not rival["ours"] and rival["name"] == "r3d_18"
    for row in (ours, rival):
        assert 0 < row["latency_p50"] <= row["latency_p95"] and row["throughput"] > 0 and row["gigamacs"] > 0
        assert row["throughput"] >= 0.9 * 1000 / row["latency_p50"]  # the best batch is no worse than one
        share = 100 * row["gigamacs"] * row["throughput"] / found.machine["matrix_gigamacs_per_second"]
        assert row["of_matrix_percent"] == pytest.approx(share, rel=0.01)
    parts = ("decode", "preprocess", "text_10", "text_400", "scoring_10", "scoring_400", "gigamacs_with_text")
    assert all(ours[part] > 0 for part in parts)
    assert all(rival[part] is None for part in parts)
    assert rival["parameters"] == pytest.approx(33.37, abs=0.01) and rival["accuracy"] == 63.2


def test_a_batch_that_does_not_fit_into_memory_costs_nothing_but_itself(toy_model, monkeypatch):
    def small(name):
        network = tagging(name)

        def encode(module, clips):
            if len(clips) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return network.encode(module, clips)

        return replace(network, encode=encode)

    monkeypatch.setattr(speed, "tagging", small)
    said = []
    [row] = speed.run(SpeedSettings(models=(toy_model,), against="none", rounds=5, threads=1), said.append).rows
    assert row["batch"] == 1 and row["throughput"] == pytest.approx(1000 / row["latency_p50"]) and row["decode"] > 0
    assert any(line.endswith("2 clips at a time: out of memory") for line in said)


def test_the_machine_is_named_and_torchs_threads_are_as_before(found):
    assert found.machine["threads"] == 1 and found.machine["device"] and found.machine["dtype"] == "float32"
    before = torch.get_num_threads()
    with speed._threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_tables_and_the_picture_are_written(found, tmp_path):
    found.write(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    with open(folder / "speed.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [row["name"] for row in found.rows]
    assert all(math.isfinite(float(row["latency_p50"])) for row in rows)
    assert json.loads((folder / "speed.json").read_text())["machine"] == found.machine
    assert (folder / "speed.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write into"):
        found.write(tmp_path / "file")


def test_the_made_clip_is_the_same_every_time(tmp_path):
    a, b = (speed._made_clip(tmp_path / name, seconds=1) for name in ("a.mp4", "b.mp4"))
    frames = [read_clip(open_reader("opencv"), path, 4).frames for path in (a, b)]
    assert frames[0].shape == (4, 360, 640, 3) and (frames[0] == frames[1]).all()


@pytest.mark.parametrize("wrong", [{"models": ()}, {"rounds": 0}, {"dtype": "int4"}, {"device": "tpu"}, {"threads": 0}])
def test_a_wrong_setting_names_its_option(wrong):
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))} is"):
        SpeedSettings(**wrong)
