"""Calibration: what is fitted is what the data were made with, and what is told comes from clips not fitted to."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from xclip_cli import Tagger, labels
from xclip_cli.benchmark import calibrate
from xclip_cli.benchmark.calibrate import fit_temperature, fit_thresholds, reliability, run, softmax
from xclip_cli.cli.app import app
from xclip_cli.dataset import Sample, read_samples
from xclip_cli.dataset.sample import assign_folds
from xclip_cli.errors import UsageError


def drawn(temperature, clips=4000, classes=6, seed=0):
    """Logits and targets of a model whose scores are right once its logits are divided by the temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (clips, classes))
    targets = np.array([random.choice(classes, p=row) for row in softmax(logits)])
    return logits * temperature, targets


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_temperature_that_the_data_were_made_with_is_found(temperature):
    logits, targets = drawn(temperature)
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(temperature, rel=0.06)
    before, after = (reliability(softmax(logits / t), targets, np.zeros(6)) for t in (1.0, found))
    assert after.error < 0.03 and after.log_loss <= before.log_loss and after.top1 == before.top1


def test_a_temperature_stays_in_its_range_where_all_clips_are_right():
    assert fit_temperature(np.eye(3) * 5, np.arange(3)) == pytest.approx(0.01)
    assert fit_temperature(-np.eye(3) * 5, np.arange(3)) == pytest.approx(100.0)


def test_a_threshold_parts_a_labels_clips_from_others():
    scores = np.array([[0.9, 0.1]] * 5 + [[0.4, 0.6]] * 5 + [[0.3, 0.2]] * 5)
    targets = np.array([0] * 5 + [1] * 5 + [-1] * 5)
    thresholds = fit_thresholds(scores, targets)
    assert thresholds == pytest.approx([0.65, 0.4])
    told = reliability(scores, targets, thresholds)
    assert (told.precision, told.recall, told.clips) == (1.0, 1.0, 10)


def test_a_label_with_few_clips_has_the_threshold_of_all_labels():
    scores = np.array([[0.9, 0.1]] * 9 + [[0.8, 0.2]])
    thresholds = fit_thresholds(scores, np.array([0] * 9 + [1]))
    assert thresholds == pytest.approx([0.85, 0.15])


def test_clips_of_a_single_file_are_refused(make_clip, toy_model, tmp_path):
    make_clip(tmp_path / "a.mp4", 60)
    rows = [f"a.mp4,{'xy'[i % 2]},{i * 0.25},{i * 0.25 + 0.25}" for i in range(20)]
    (tmp_path / "clips.csv").write_text("\n".join(["video,label,start_seconds,end_seconds", *rows]))
    tagger = Tagger(toy_model, ["x", "y"])
    with pytest.raises(UsageError, match=r"all clips are parts of .*a\.mp4"):
        run(read_samples(tmp_path / "clips.csv"), tagger, 0, lambda done, total: None)


@pytest.fixture
def dataset(tmp_path, make_clip):
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, name in enumerate(("dark", "light", "unknown")):
        (folder / name).mkdir()
        for k in range(6):
            make_clip(folder / name / f"{k}.mp4", 6, shade=i + 3 * k)
    return folder


def test_a_labelled_folder_gives_a_label_file_that_tagging_uses(dataset, toy_model, tmp_path):
    """The written temperature changes the scores as a softmax of divided logits does, and no order."""
    out = tmp_path / "labels.yaml"
    result = CliRunner().invoke(app, ["calibrate", str(dataset), "-o", str(out), "-m", toy_model])
    assert result.exit_code == 0, result.output
    before, after = (line.split("\t") for line in result.stdout.splitlines()[1:])
    assert (before[0], after[0], before[1], after[1]) == ("before", "after", "12", "12")
    assert (tmp_path / "labels.before.png").stat().st_size and (tmp_path / "labels.after.png").stat().st_size
    label_set = labels.load(out)
    assert [x.name for x in label_set.labels] == ["dark", "light"]  # unknown is none of the labels
    assert all(0 <= x.threshold <= 1 for x in label_set.labels)
    tagger = Tagger(toy_model, "dark,light", workers=1)
    clip = str(dataset / "dark" / "1.mp4")
    before = {tag.label: tag.score for tag in tagger.tag(clip).segments[0].tags}
    shown = replace(label_set, labels=labels.from_names("dark,light").labels)  # with no threshold both are shown
    after = {tag.label: tag.score for tag in tagger.tag(clip, shown).segments[0].tags}
    powers = np.array([before["dark"], before["light"]]) ** (1 / label_set.calibration.temperature)
    assert [after["dark"], after["light"]] == pytest.approx((powers / powers.sum()).tolist(), abs=1e-5)


def fit(dataset, label_set, toy_model):
    tagger = Tagger(toy_model, label_set, workers=1)
    found = run(read_samples(dataset), tagger, 0, lambda done, total: None)
    assert tagger.label_set is label_set  # the caller's tagger is as it was
    return found


def test_a_calibrated_set_is_calibrated_anew(dataset, toy_model):
    """Whatever temperature and thresholds it has: a second temperature would multiply the first."""
    plain = labels.from_names("dark,light")
    first = fit(dataset, plain, toy_model)
    told = first.label_set.calibration
    assert told.temperature != 1
    wrong = tuple(replace(label, threshold=0.9) for label in plain.labels)
    for given in (first.label_set, replace(plain, labels=wrong, calibration=replace(told, temperature=7.0))):
        again = fit(dataset, given, toy_model)
        assert again.label_set == first.label_set and again.after == first.after
    hot = fit(dataset, replace(plain, calibration=replace(told, temperature=7.0)), toy_model)
    assert hot.before.log_loss != first.before.log_loss  # before is what the given file made of the scores


def test_copies_of_a_clip_are_in_one_fold(dataset, toy_model, monkeypatch):
    copy, clip = dataset / "dark" / "another name.mp4", dataset / "dark" / "1.mp4"
    shutil.copy(clip, copy)
    sources = {}

    def watched(samples, of_samples, parts, seed):
        sources.update(zip((sample.path for sample in samples), of_samples, strict=True))
        return assign_folds(samples, of_samples, parts, seed)

    monkeypatch.setattr(calibrate, "assign_folds", watched)
    fit(dataset, labels.from_names("dark,light"), toy_model)
    assert sources[str(copy)] == sources[str(clip)] != sources[str(dataset / "dark" / "2.mp4")]


def test_thresholds_among_many_labels_keep_their_digits(dataset, toy_model):
    many = labels.from_names("dark,light").with_background(labels.from_names([f"thing {i}" for i in range(700)]))
    thresholds = [label.threshold for label in fit(dataset, many, toy_model).label_set.labels]
    assert all(0 < t < 0.02 and t != round(t, 4) and t == float(f"{t:.6g}") for t in thresholds)


def test_a_set_calibrated_for_another_model_is_named_and_its_temperature_left_out(toy_model, tmp_path, clips):
    text = "labels: [dark, light]\ncalibration: {model: other, fingerprint: abc, temperature: 9}\n"
    (tmp_path / "labels.yaml").write_text(text)
    asked = ["tag", str(clips / "a.mp4"), "--labels-file", str(tmp_path / "labels.yaml"), "-m", toy_model]
    result = CliRunner().invoke(app, asked)
    assert "was calibrated for other, not toy: its thresholds may not fit" in result.stderr
    tagger = Tagger(toy_model, workers=1)
    sets = labels.load(tmp_path / "labels.yaml"), "dark,light"
    calibrated, plain = (tagger.tag(clips / "a.mp4", each).segments for each in sets)
    assert calibrated == plain


def test_a_label_that_is_not_in_the_set_is_refused_before_anything_is_read(toy_model):
    tagger = Tagger(toy_model, "dark,light", workers=1)
    with pytest.raises(UsageError, match="label 'bright' of the clips is not in the label set"):
        run([Sample("nowhere.mp4", "bright")], tagger, 0, lambda done, total: None)


def test_clips_that_fail_are_named_and_too_few_are_refused(toy_model, dataset):
    tagger = Tagger(toy_model, "dark,light", workers=1)
    samples = [Sample(str(dataset / "dark" / "0.mp4"), "dark"), Sample("nowhere.mp4", "light")]
    with pytest.raises(UsageError, match="1 clips of 1 labels can be read: it takes 10 clips of two labels"):
        run(samples, tagger, 0, lambda done, total: None)


def test_an_output_that_is_there_is_kept(dataset, toy_model, tmp_path):
    out = tmp_path / "labels.yaml"
    out.write_text("- mine\n")
    result = CliRunner().invoke(app, ["calibrate", str(dataset), "-o", str(out), "-m", toy_model])
    assert isinstance(result.exception, UsageError) and "is there already" in result.exception.message
    assert out.read_text() == "- mine\n" and not list(tmp_path.glob("*.png"))
