"""Every clip is measured once by every variant, as tagging would; what failed is counted apart; a run goes on."""

import csv
import json
import os
import shutil
import sys

import pytest
import torch

from xclip_cli import Tagger, labels
from xclip_cli.benchmark import accuracy, report
from xclip_cli.benchmark.accuracy import ENSEMBLE, Scores, prompted, variants
from xclip_cli.benchmark.settings import AccuracySettings
from xclip_cli.errors import UsageError
from xclip_cli.results import Segment, Tag, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.video.pool import DecodePool


def quiet(done, total):
    pass


@pytest.fixture
def data(tmp_path, make_clip):
    for shade, name in enumerate(("a dog", "a cat", "a car")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            make_clip(tmp_path / "data" / name / f"{i}.mp4", num_frames=8 + i, shade=shade)
    return tmp_path / "data"


@pytest.fixture
def settings(toy_model):
    def make(temporal=(), prompting=(), **tag):
        return AccuracySettings(
            tag=TagSettings(model=toy_model, workers=1, **tag), temporal=temporal, prompting=prompting
        )

    return make


def test_the_models_own_row_is_what_tagging_says(data, settings, toy_model):
    found = accuracy.run(str(data), None, settings(num_clips=2, num_crops=3), None, quiet)
    tagger = Tagger(toy_model, ["a car", "a cat", "a dog"], num_clips=2, num_crops=3)
    assert [v.what for v in found.variants] == ["as it is", "the same backbone, frames averaged"]
    assert len(found.task.samples) == 9 == len({result.video for result in found.results[0]})
    right = 0
    for sample, result in zip(found.task.samples, found.results[0], strict=True):
        tags = tagger.tag(sample.path).segments[0].tags
        assert [t.label for t in result.segments[0].tags] == [t.label for t in tags]
        assert result.segments[0].tags[0].score == pytest.approx(tags[0].score, abs=1e-6)
        right += tags[0].label == sample.label
    assert found.scores[0].top1 == pytest.approx(right / 9)


def test_parts_that_are_off_are_off(data, settings, toy_model):
    rows, absent = variants(labels.from_names("a,b"), settings(("mean", "mit"), ("none", "video")))
    pairs = [("cct+mit", "video"), ("mean", "none"), ("mean", "video"), ("mit", "none"), ("mit", "video")]
    assert [(row.temporal, row.prompting) for row in rows] == pairs and not absent
    assert len({row.configuration for row in rows}) == 5
    model, frames = Tagger(toy_model).encoder.network, torch.randn(1, 4, 3, 32, 32)
    with torch.inference_mode():
        for row in rows:
            config = row.tagger.encoder.network.config
            assert (config.cross_frame, bool(config.mit_layers)) == ("cct" in row.temporal, "mit" in row.temporal)
            assert bool(config.prompt_layers) == (row.prompting == "video")
            features = row.encoder.network.encode_video(frames)
            alone = row.tagger.encoder.network.encode_video(frames)
            torch.testing.assert_close(features.video, alone.video)
        torch.testing.assert_close(
            rows[0].tagger.encoder.network.encode_video(frames).video, model.encode_video(frames).video
        )
        assert not torch.equal(
            rows[1].tagger.encoder.network.encode_video(frames).video, model.encode_video(frames).video
        )
    shared = dict(rows[0].tagger.encoder.network.named_parameters())
    assert all(p.data_ptr() == shared[n].data_ptr() for n, p in rows[1].tagger.encoder.network.named_parameters())


def test_a_part_that_is_not_there_cannot_be_asked_for(toy_model, tmp_path):
    from xclip_cli.checkpoint.load import load_model
    from xclip_cli.checkpoint.ours import save
    from xclip_cli.checkpoint.registry import Preprocessing

    plain = load_model(toy_model).switched(cross_frame=False, mit_layers=0, prompt_layers=0)
    save(plain, tmp_path / "plain.safetensors", preprocessing=Preprocessing(36, 32), name="plain")
    tag = TagSettings(model=str(tmp_path / "plain.safetensors"))
    rows, _ = variants(labels.from_names("a,b"), AccuracySettings(tag=tag))
    assert [(row.temporal, row.prompting) for row in rows] == [("mean", "none")]
    for wrong in ({"temporal": ("cct",)}, {"temporal": ("cct+mit",)}, {"prompting": ("video",)}):
        with pytest.raises(UsageError, match="has no such part"):
            variants(labels.from_names("a,b"), AccuracySettings(tag=tag, **wrong))
    with pytest.raises(UsageError, match="--temporal is 'lstm'"):
        AccuracySettings(tag=tag, temporal=("lstm",))


def test_the_ensemble_is_clips_grid_of_28():
    [label] = prompted(labels.from_names(["dunking"]), "ensemble").labels
    assert len(label.prompts) == len(ENSEMBLE) == 28
    assert "a photo of dunking." in label.prompts and "a demonstration of a person practicing dunking." in label.prompts
    assert prompted(labels.from_names(["x"]), "none").labels[0].prompts == ("x",)


def test_clips_that_fail_are_counted_apart_and_tried_again(data, settings, tmp_path):
    good = data / "a cat/0.mp4"
    shutil.move(good, tmp_path / "kept.mp4")
    good.write_bytes(b"no video")
    first = accuracy.run(str(data), None, settings(), tmp_path / "out", quiet)
    scores = first.scores[0]
    assert (scores.clips, scores.errors) == (8, 1) and int(scores.confusion.sum()) == 8
    shutil.copy(tmp_path / "kept.mp4", good)
    second = accuracy.run(str(data), None, settings(), tmp_path / "out", quiet)
    assert (second.scores[0].clips, second.scores[0].errors) == (9, 0)


def test_a_run_goes_on_where_it_stopped(data, settings, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 4:
            raise Stop

    whole = accuracy.run(str(data), None, settings(), None, quiet)
    with pytest.raises(Stop):
        accuracy.run(str(data), None, settings(), tmp_path / "out", stop)
    submitted, submit = [], DecodePool.submit
    monkeypatch.setattr(
        DecodePool,
        "submit",
        lambda pool, path, *rest, **more: submitted.append(path) or submit(pool, path, *rest, **more),
    )
    again = accuracy.run(str(data), None, settings(), tmp_path / "out", quiet)
    assert len(submitted) == 5 and again.results == whole.results
    more = accuracy.run(str(data), None, settings(("mean",), ("template",)), tmp_path / "out", quiet)
    assert len(submitted) == 14  # the new row looks at every clip, for itself alone
    assert [more.results[0], more.results[2]] == whole.results
    accuracy.run(str(data), None, settings(("mean",), ("template",)), tmp_path / "out", quiet)
    assert len(submitted) == 14


def test_a_span_is_what_is_looked_at(tmp_path, make_clip, settings):
    make_clip(tmp_path / "a.mp4", num_frames=24)
    (tmp_path / "l.csv").write_text("video,label,start_seconds,end_seconds\na.mp4,x,0,1\na.mp4,y,1,2\n")
    found = accuracy.run(str(tmp_path / "l.csv"), None, settings(), None, quiet)
    spans = [(r.segments[0].start_seconds, r.segments[0].end_seconds) for r in found.results[0]]
    assert spans == [(0, 1), (1, 2)]
    similarity = [{t.label: t.similarity for t in r.segments[0].tags}["x"] for r in found.results[0]]
    assert similarity[0] != similarity[1]


def test_the_files_of_a_run_agree(data, settings, tmp_path):
    out = tmp_path / "out"
    found = accuracy.run(str(data), None, settings(), out, quiet)
    report.write(found, out, "xclip benchmark accuracy data")
    with open(out / "predictions.csv", newline="") as stream:
        predictions = list(csv.DictReader(stream))
    assert len(predictions) == 2 * 9 * 3  # variants, clips, labels
    first = [row for row in predictions if row["rank"] == "1" and row["model"].endswith("cct+mit video")]
    right = sum(row["video"].split("/")[-2] == row["label"] for row in first)
    with open(out / "accuracy.csv", newline="") as stream:
        [own, _] = csv.DictReader(stream)
    assert own["top-1 %"] == f"{100 * right / 9:.1f}" and own["top-5 %"] == "-" and own["errors"] == "0"
    about = json.loads((out / "accuracy.json").read_text())["about"]
    assert about["clips"] == "9" and "sha256" in about["labels"] and "no seed" in about["views"]
    with open(out / "confusion.csv", newline="") as stream:
        counts = [row[1:] for row in list(csv.reader(stream))[1:]]
    assert sum(int(cell) for row in counts for cell in row) == 9
    assert (out / "report.md").read_text().startswith("# Accuracy")
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in ("confusion.png", "reliability.png"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no UTF-8")
def test_a_name_that_is_no_utf8_or_a_formula_or_commands_terminals_is_reported(data, settings, tmp_path):
    (data / "a dog").rename(data / "=cmd|'x'!A1")
    bad = os.fsdecode(os.fsencode(data / "a cat") + b"/caf\xe9\x1b[31m\n.mp4")
    for name in (bad, bad.replace("caf", "tea")):
        shutil.copy(data / "a cat/0.mp4", name)
    with open(bad, "wb") as stream:
        stream.write(b"no video")
    out = tmp_path / "out"
    found = accuracy.run(str(data), None, settings(), out, quiet)
    report.write(found, out, f"xclip benchmark accuracy {bad}")
    assert (found.scores[0].clips, found.scores[0].errors) == (10, 1)
    page = (out / "report.md").read_text(encoding="utf-8")
    assert page.count(r"caf\xe9\x1b[31m\n.mp4") >= 2 and "\x1b" not in page
    assert r"caf\xe9" in json.loads((out / "accuracy.json").read_text(encoding="utf-8"))["about"]["command"]
    with open(out / "confusion.csv", encoding="utf-8", newline="") as stream:
        heads, *rows = csv.reader(stream)
    assert heads[1:] == [row[0] for row in rows] == ["'=cmd|'x'!A1", "a car", "a cat"]
    with open(out / "classes.csv", encoding="utf-8", newline="") as stream:
        assert [row[0] for row in csv.reader(stream)] == ["class", *heads[1:]]


def test_scores_are_those_counted_by_hand():
    names = ["a", "b", "c", "d", "e", "f"]

    def told(*order):
        tags = tuple(Tag(label, 0.5 / (i + 1), 0.1) for i, label in enumerate(order))
        return VideoResult("v", "m", "l", (Segment(0, 1, tags),))

    results = [told("a", "b", "c", "d", "e"), told("b", "a", "c", "d", "e"), told("b", "c", "d", "e", "a")]
    results.append(VideoResult("v", "m", "l", error="gone"))
    scores = Scores.of(results, [0, 0, 5, 1], names)
    assert (scores.clips, scores.errors) == (3, 1)
    assert scores.top1 == pytest.approx(1 / 3) and scores.top5 == pytest.approx(2 / 3)
    assert scores.mean_class == pytest.approx((0.5 + 0) / 2)
    assert scores.calibration_error == pytest.approx(0.5 - 1 / 3)
