"""Whole runs with a toy model: what is written, going on after a stop, several processes, failures."""

import json
import math
import os
import shutil
import subprocess
import sys
from itertools import count

import pytest
import torch

from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.dataset import read_samples
from xclip_cli.errors import Interrupted, OutputError, TrainingError, UsageError
from xclip_cli.finetune import loop
from xclip_cli.finetune.keep import SHARES, choose
from xclip_cli.finetune.loop import Epoch
from xclip_cli.finetune.report import Report
from xclip_cli.finetune.run import Ready, run
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.model.text import tokenize
from xclip_cli.tagger.preprocess import preprocess
from xclip_cli.tagger.tagger import Tagger
from xclip_cli.video.reader import open_reader, read_clip


def quiet(done, total):
    pass


@pytest.fixture
def steps_of(bars, toy_model):
    """The events of a run, as they happen; by default four steps in each of two epochs, all that was learned kept."""

    def start(output, resume=False, stopped=lambda: False, data=bars, **options):
        training = {} if options.get("regime") == "linear" else {"epochs": 2, "batch_size": 2, "lr": 1e-3, "keep": "0"}
        options = {"model": toy_model, "val": "0.2", "workers": 1} | training | options
        settings = FinetuneSettings(**options)
        checkpoint = open_checkpoint(settings.model)
        return run(str(data), output, settings, checkpoint, quiet, stopped, "xclip finetune", resume)

    return start


@pytest.fixture
def tune(steps_of):
    """Runs and gives the events."""
    return lambda *arguments, **options: list(steps_of(*arguments, **options))


def weights(output):
    return open_checkpoint(str(output)).full_model().state_dict()


def metrics(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def same(one, other):
    return all(one[name].equal(other[name]) for name in one)


def test_a_run_writes_a_model_that_tags_and_a_report(tune, bars, tmp_path):
    ready, *epochs, report = tune(tmp_path / "out", others=str(bars))
    assert isinstance(ready, Ready) and isinstance(report, Report) and all(isinstance(e, Epoch) for e in epochs)
    assert (len(ready.splits.train), len(ready.splits.val), len(epochs)) == (8, 2, 2)
    found = {file.name for file in (tmp_path / "out").iterdir()}
    assert found == {"model.safetensors", "labels.yaml", "metrics.jsonl", "curves.png", "confusion.png", "report.md"}
    assert [line["loss"] for line in metrics(tmp_path / "out")] == [epoch.loss for epoch in epochs]
    text = (tmp_path / "out/report.md").read_text()
    assert "sha256" in text and "xclip finetune" in text and "| forth | 1 |" in text and "other labels" in text
    tagger = Tagger(str(tmp_path / "out"))
    assert tagger.checkpoint.default_labels == ["and back", "forth"]


@pytest.mark.parametrize(
    "options",
    [
        {"regime": "linear", "keep": "0.25"},
        {"regime": "few-shot", "keep": "0.5"},
        {"regime": "zero-shot"},
    ],
)
def test_the_model_tags_as_it_was_validated(tune, bars, tmp_path, options):
    *_, report = tune(tmp_path / "out", val=str(bars), **options)
    assert report.kept == float(options.get("keep", 0)) and not report.after.logits.equal(report.before.logits)
    _tags_as_validated(tmp_path / "out", report)


@pytest.mark.parametrize("options", [{"regime": "few-shot"}, {"regime": "zero-shot"}])
def test_a_model_of_berts_kind_keeps_its_vocabulary(tune, bars, bert_model, tmp_path, options):
    events = tune(tmp_path / "out", val=str(bars), model=bert_model, **options)
    _tags_as_validated(tmp_path / "out", events[-1])
    before, after = (open_checkpoint(path).full_model() for path in (bert_model, str(tmp_path / "out")))
    assert after.config == before.config and after.config.text.vocabulary
    learned = not after.text.blocks[0].attn.q.weight.equal(before.text.blocks[0].attn.q.weight)
    assert learned == (options["regime"] == "few-shot")


def _tags_as_validated(output, report):
    tagger = Tagger(str(output), report.splits.names, workers=1)
    for row, sample in list(zip(report.after.logits.softmax(1), report.splits.val, strict=True))[:3]:
        tags = {tag.label: tag.score for tag in tagger.tag(sample.path).segments[0].tags}
        assert [tags[name] for name in report.splits.names] == pytest.approx(row.tolist(), abs=2e-3)


def test_what_is_learned_is_known_afterwards(tune, rooms, tmp_path):
    *_, last, report = tune(tmp_path / "out", data=rooms, val="0.4", epochs=15)
    assert last.accuracy == 1.0 and report.accuracies()["tuned labels, top-1"][1] == 1.0


@pytest.fixture
def plain_model(toy_model, tmp_path):
    """The toy without prompts, whose random weights would drown what a text says."""
    checkpoint = open_checkpoint(toy_model)
    plain = checkpoint.full_model().switched(prompt_layers=0)
    save(plain, tmp_path / "plain.safetensors", preprocessing=checkpoint.preprocessing, name="plain")
    return str(tmp_path / "plain.safetensors")


def test_all_clips_are_learned_from_and_each_is_validated_by_what_did_not_learn_from_it(
    tune, rooms, plain_model, tmp_path
):
    ready, report = tune(tmp_path / "out", regime="linear", data=rooms, model=plain_model)
    assert len(ready.splits.train) == 16 and not ready.splits.val and set(ready.splits.folds) == {0, 1, 2, 3, 4}
    assert report.accuracies()["tuned labels, top-1"][1] == 1.0 > report.accuracies()["tuned labels, top-1"][0]
    assert report.kept == 0 and "Tuned: 50.0 % became 100.0 %" in report.verdict
    tagger = Tagger(str(tmp_path / "out"), workers=1)
    tags = [tagger.tag(sample.path).segments[0].tags[0].label for sample in report.splits.train]
    assert tags == [sample.label for sample in report.splits.train]


def test_the_probe_changes_nothing_of_the_network_and_no_other_label(tune, rooms, toy_model, tmp_path):
    tune(tmp_path / "out", regime="linear", data=rooms, keep="0")
    tuned, original = open_checkpoint(str(tmp_path / "out")), open_checkpoint(toy_model)
    assert same(tuned.full_model().state_dict(), original.full_model().state_dict())
    texts = ["a dog", "a dark room", "running"]
    after, before = tuned.text_encoder()(texts), original.text_encoder()(texts)
    assert [torch.equal(*rows) for rows in zip(after, before, strict=True)] == [True, False, True]


@pytest.mark.parametrize("options", [{"regime": "linear"}, {"keep": "auto", "lr": 1e-9}])
def test_where_tuning_does_not_help_the_original_is_kept_and_that_is_said(tune, bars, toy_model, tmp_path, options):
    """The labels tell nothing: each class has the same clips."""
    for name in ("one", "other"):
        shutil.copytree(bars / "forth", tmp_path / "data" / name)
    *_, report = tune(tmp_path / "out", data=tmp_path / "data", val=str(tmp_path / "data"), **options)
    assert report.kept == 1.0 and "The original weights are kept" in report.verdict
    assert "The original weights are kept" in (tmp_path / "out/report.md").read_text()
    tuned, original = open_checkpoint(str(tmp_path / "out")), open_checkpoint(toy_model)
    assert same(tuned.full_model().state_dict(), original.full_model().state_dict())
    assert tuned.text_encoder()(["one"]).equal(original.text_encoder()(["one"])) and tuned.default_labels
    assert report.after.logits.equal(report.before.logits)


def test_what_tuning_costs_other_labels_is_said(tune, rooms, toy_model, tmp_path):
    """A class among other labels is known by what was learned of it, as it is when tagging."""
    (tmp_path / "others.csv").write_text(
        "video,label\nrooms/a dark room/1.mp4,a cave\nrooms/a bright room/1.mp4,a dark room\n"
    )
    *_, report = tune(tmp_path / "out", regime="linear", data=rooms, keep="0", others=str(tmp_path / "others.csv"))
    before, after = report.accuracies()["other labels, top-1"]
    names = ["a cave", "a dark room"]
    for model, wanted in ((toy_model, before), (str(tmp_path / "out"), after)):
        tagger = Tagger(model, names, workers=1)
        right = [tagger.tag(s.path).segments[0].tags[0].label == s.label for s in report.splits.others]
        assert sum(right) / 2 == wanted
    assert ("Other labels lost" in report.verdict) == (after < before)


@pytest.mark.parametrize("after", [1, 4, 6])
def test_a_stopped_run_goes_on_bit_for_bit(tune, tmp_path, after):
    tune(tmp_path / "whole")
    steps = count(1)
    with pytest.raises(Interrupted):
        tune(tmp_path / "parts", stopped=lambda: next(steps) >= after)
    tune(tmp_path / "parts", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


def test_a_killed_run_goes_on_bit_for_bit(tune, xclip, bars, toy_model, tmp_path):
    options = ["--model", toy_model, "--epochs", "6", "--batch-size", "2", "--lr", "1e-3", "--workers", "1"]
    options += ["--keep", "0"]
    command = [sys.executable, "-m", "xclip_cli", "finetune", bars, "-o", tmp_path / "parts", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as killed:
        for line in killed.stderr:
            if line.startswith("epoch 2/6"):
                killed.kill()
    assert (tmp_path / "parts/state.pt").exists() and not (tmp_path / "parts/model.safetensors").exists()
    assert xclip(*command[3:], "--resume").returncode == 0
    tune(tmp_path / "whole", epochs=6)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_state_of_another_run_is_refused(tune, tmp_path):
    asked = iter([True])
    with pytest.raises(Interrupted, match="epoch 1 of 2, after step 1 of 4"):
        tune(tmp_path / "out", stopped=lambda: next(asked))
    with pytest.raises(UsageError, match="of another run"):
        tune(tmp_path / "out", resume=True, seed=1)
    (tmp_path / "out/state.pt").write_bytes(b"no state")
    with pytest.raises(UsageError, match="cannot be read"):
        tune(tmp_path / "out", resume=True)
    with pytest.raises(UsageError, match="not empty"):
        tune(tmp_path / "out")


def test_a_table_may_name_any_clip_and_any_class_and_nothing_is_written_beside_the_output(tune, bars, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "lists").mkdir()
    shutil.copytree(bars, elsewhere / "bars")
    (tmp_path / "link").symlink_to(elsewhere)
    rows = [f"../elsewhere/bars/forth/{n} forth.mp4,../../up" for n in range(2)]
    rows += [f"{elsewhere}/bars/forth/{n} forth.mp4,../../up" for n in range(2, 4)]
    rows += [f"../link/bars/and back/{n} and back.mp4,/etc/passwd" for n in range(4)]
    (tmp_path / "lists/list.csv").write_text("video,label\n" + "\n".join(rows) + "\n")
    before = set(tmp_path.rglob("*"))
    tune(tmp_path / "out", data=tmp_path / "lists/list.csv", regime="linear")
    made = set(tmp_path.rglob("*")) - before
    assert (tmp_path / "out/model.safetensors") in made and not (tmp_path / "up").exists()
    assert all(path.is_relative_to(tmp_path / "out") for path in made)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_a_state_that_anyone_may_have_made_is_refused_and_not_run(tune, tmp_path):
    asked = iter([True])
    with pytest.raises(Interrupted):
        tune(tmp_path / "out", stopped=lambda: next(asked))
    state = torch.load(tmp_path / "out/state.pt", weights_only=True)
    bomb = Bomb(tmp_path / "mark")
    without_weights = {key: value for key, value in state.items() if key in ("purpose", "processes")}
    for made in (bomb, state | {"history": [bomb]}, without_weights, [1, 2]):
        torch.save(made, tmp_path / "out/state.pt")
        with pytest.raises(UsageError, match="cannot be read") as refusal:
            tune(tmp_path / "out", resume=True)
        assert not (tmp_path / "mark").exists() and "\n" not in refusal.value.message


def test_another_number_of_processes_is_refused(tune, tmp_path):
    asked = iter([True])
    with pytest.raises(Interrupted):
        tune(tmp_path / "out", stopped=lambda: next(asked))
    state = torch.load(tmp_path / "out/state.pt", weights_only=True)
    torch.save(state | {"processes": 2}, tmp_path / "out/state.pt")
    with pytest.raises(UsageError, match=r"begun by 2 process\(es\) .* gone on with by 1") as refusal:
        tune(tmp_path / "out", resume=True)
    assert "--nproc-per-node 2" in refusal.value.hint and "--overwrite" not in refusal.value.hint


def test_a_finished_run_is_not_begun_again(tune, tmp_path):
    tune(tmp_path / "out")
    with pytest.raises(UsageError, match="is finished"):
        tune(tmp_path / "out", resume=True)


def test_accumulated_parts_are_one_batch(tune, tmp_path):
    tune(tmp_path / "one", batch_size=4)
    tune(tmp_path / "parts", batch_size=4, accumulate=3)
    one, parts = ([line["loss"] for line in metrics(tmp_path / name)] for name in ("one", "parts"))
    assert one == pytest.approx(parts, abs=1e-5)


def test_two_processes_are_one_with_twice_the_batch(xclip, bars, toy_model, tmp_path):
    common = ["--model", toy_model, "--val", "0.3", "--epochs", "2", "--lr", "1e-3", "--shots", "3", "--workers", "1"]
    arguments = ["-m", "xclip_cli", "finetune", bars, *common]
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    alone = xclip(*arguments[2:], "--batch-size", 4, "-o", tmp_path / "one")
    command = [*two, *arguments, "--batch-size", "2", "-o", tmp_path / "two"]
    for done in (alone, subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)):
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("epoch 1/2") == 1
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert a["accuracy"] == b["accuracy"]
        assert (a["loss"], a["val_loss"]) == pytest.approx((b["loss"], b["val_loss"]), abs=2e-5)
    one, parts = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((one[name] - parts[name]).abs().max().item() for name in one) < 2e-3


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_state(tune, tmp_path, monkeypatch):
    honest, steps = torch.nn.functional.cross_entropy, count(1)

    def broken(logits, targets, label_smoothing=0.0, **options):
        trains = label_smoothing > 0  # validation smooths nothing
        return honest(logits, targets, label_smoothing=label_smoothing, **options) * (
            math.nan if trains and next(steps) == 7 else 1
        )

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", broken)
    with pytest.raises(TrainingError, match="the loss is nan in epoch 2, step 3"):
        tune(tmp_path / "out")
    monkeypatch.undo()
    assert torch.load(tmp_path / "out/state.pt", weights_only=True)["epoch"] == 1
    tune(tmp_path / "whole")
    tune(tmp_path / "out", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_a_full_disk_leaves_the_last_state_whole(tune, tmp_path, monkeypatch):
    written = torch.save

    def full(content, stream):
        if content["epoch"] == 2:
            stream.write(b"half of it")
            raise OSError(28, "No space left on device")
        written(content, stream)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        tune(tmp_path / "out")
    assert torch.load(tmp_path / "out/state.pt", weights_only=True)["epoch"] == 1
    assert not list((tmp_path / "out").glob(".*"))


def test_patience_takes_the_best_epoch(tune, steps_of, bars, tmp_path, monkeypatch):
    scores = iter([0.5, 0.9, 0.6, 0.7, 0, 0, 0, 0, 0])
    monkeypatch.setattr(loop, "validate", lambda job, learner: (next(scores), 1.0))
    learned = []
    for event in steps_of(tmp_path / "out", epochs=5, patience=2):
        if isinstance(event, Epoch):
            learned.append(torch.load(tmp_path / "out/state.pt", weights_only=True)["trained"])
    saved = weights(tmp_path / "out")
    assert len(learned) == 4
    assert [same(epoch, saved) for epoch in learned] == [False, True, False, False]
    tune(tmp_path / "two", epochs=5)
    assert not same(saved, weights(tmp_path / "two"))


@pytest.mark.parametrize("options", [{"patience": 2}, {"keep": "auto"}])
def test_what_needs_validation_clips_is_refused_without_any(tune, bars, tmp_path, options):
    for name in ("forth", "and back"):
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(next((bars / name).iterdir()), tmp_path / "data" / name)
    option = "--" + next(iter(options))
    with pytest.raises(UsageError, match=f"{option}.* needs validation clips"):
        tune(tmp_path / "out", data=tmp_path / "data", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such names")
def test_names_that_are_no_unicode_are_in_the_report(tune, bars, tmp_path):
    data, odd = tmp_path / "data", os.fsdecode(b"caf\xe9")
    shutil.copytree(bars, data)
    for name in ("forth", "and back"):
        for number, clip in enumerate(sorted((data / name).iterdir())):
            clip.rename(clip.with_name(f"{odd} {name} {number}.mp4"))
    (data / "forth" / f"{odd} bad.mp4").write_bytes(b"no video")
    tune(tmp_path / "out", data=data, val=str(data))
    text = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert r"caf\xe9 bad.mp4: " in text and r"caf\xe9 forth 0.mp4 = " in text
    assert not (tmp_path / "out/state.pt").exists()
    with pytest.raises(UsageError, match=r"caf\\xe9' is not valid Unicode"):  # in which weights cannot be written
        tune(tmp_path / odd)


def test_clips_that_cannot_be_read_are_left_out_unless_a_class_is_lost(tune, bars, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(bars, data)
    (data / "forth" / "bad.mp4").write_bytes(b"no video")
    ready, *_ = tune(tmp_path / "out", data=data)
    assert [sample.path for sample in ready.findings.unreadable] == [str(data / "forth" / "bad.mp4")]
    for clip in (data / "forth").iterdir():
        clip.write_bytes(b"no video")
    with pytest.raises(UsageError, match="class 'forth' has no clip that can be read"):
        tune(tmp_path / "none", data=data)


def test_as_much_of_the_original_is_kept_as_the_clips_cannot_tell_from_the_best(tune, toy_model, rooms, tmp_path):
    """On rooms that are told apart only when tuned: measured here, by the plain network."""
    options = {"data": rooms, "val": str(rooms), "epochs": 4}
    tune(tmp_path / "tuned", **options)
    *_, report = tune(tmp_path / "auto", keep="auto", **options)
    checkpoint = open_checkpoint(toy_model)
    model, original, tuned = checkpoint.full_model(), checkpoint.full_model().state_dict(), weights(tmp_path / "tuned")
    samples, reader = read_samples(rooms), open_reader("opencv")
    frames = torch.cat([preprocess(read_clip(reader, s.path, 4).frames, checkpoint.preprocessing) for s in samples])
    targets = torch.tensor([["a bright room", "a dark room"].index(sample.label) for sample in samples])
    tokens = tokenize(["a bright room", "a dark room"])

    @torch.inference_mode()
    def logits_at(share):
        model.load_state_dict({name: torch.lerp(tuned[name], original[name], share) for name in tuned})
        return model(frames, tokens)

    assert report.kept == SHARES[choose([logits_at(share) for share in SHARES], targets)] < 1, report.kept
    wanted = {name: torch.lerp(tuned[name], original[name], report.kept) for name in tuned}
    assert same(wanted, weights(tmp_path / "auto"))
