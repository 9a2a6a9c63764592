"""Tagging over time: what is shared and what is remembered changes no score."""

import json

import numpy as np
import pytest
import torch

from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.errors import MissingExtraError, UsageError
from xclip_cli.labels import Label, LabelSet, from_names
from xclip_cli.model.openclip import FrozenClip
from xclip_cli.outputs.journal import Journal
from xclip_cli.runs import batch
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.tagger import Tagger
from xclip_cli.tagger.timeline import Scored, WindowMemory
from xclip_cli.video import stream
from xclip_cli.video.pool import DecodePool

LABELS = from_names("running,dunking,a dog")
OPTIONS = {"window_seconds": 2.0, "stride_seconds": 0.5, "threshold": 0.34}


class Kept(WindowMemory):
    def __init__(self, known=None, stop_after=None):
        self.parts, self._known, self._stop_after = [], known, stop_after

    def known(self, path, num_labels):
        return self._known or Scored.none(num_labels)

    def add(self, path, first, scored):
        if len(self.parts) == self._stop_after:
            raise KeyboardInterrupt
        self.parts.append((first, scored))

    @property
    def scored(self):
        return Scored.joined([scored for _, scored in self.parts])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    import cv2

    path = tmp_path_factory.mktemp("long") / "long.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12, (64, 48))
    rng = np.random.default_rng(0)
    for part in range(12):
        ground = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for number in range(30 + part):
            writer.write(np.roll(ground, number, axis=1))
    writer.release()
    return str(path)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(stream, "NUM_TIMES", 8)


def scores_of(model, video, **options):
    kept = Kept()
    tagger = Tagger(model, LABELS, **(OPTIONS | options))
    [result] = tagger.tag_many([video], memory=kept)
    assert result.error is None
    return kept.scored, result


def test_every_window_scores_as_a_clip_of_its_own(toy_model, video):
    scored, result = scores_of(toy_model, video)
    tagger = Tagger(toy_model, LABELS, top_k=3)
    with DecodePool(workers=1) as pool:
        for span, scores, similarity in list(zip(scored.spans, scored.scores, scored.similarity, strict=True))[::7]:
            clip = pool.submit(video, 4, 1, *span.tolist(), resize=tagger.encoder.resize).result()
            alone, cosines = tagger.launch([clip], tagger.labels)
            np.testing.assert_allclose(scores, alone[0], atol=1e-6)
            np.testing.assert_allclose(similarity, cosines[0], atol=1e-6)
    assert len(scored.spans) > 60 and result.reader == "opencv"


@pytest.mark.parametrize("num_times", [4, 8, 100])
def test_cutting_the_video_into_pieces_changes_nothing(toy_model, video, monkeypatch, num_times):
    whole, result = scores_of(toy_model, video)
    monkeypatch.setattr(stream, "NUM_TIMES", num_times)
    pieces, again = scores_of(toy_model, video)
    np.testing.assert_array_equal(pieces.spans, whole.spans)
    np.testing.assert_allclose(pieces.scores, whole.scores, atol=1e-6)
    assert [(s.start_seconds, s.end_seconds, s.tags[0].label) for s in again.segments] == [
        (s.start_seconds, s.end_seconds, s.tags[0].label) for s in result.segments
    ]


def test_frames_meet_the_trunk_once(toy_model, video, monkeypatch):
    tagger = Tagger(toy_model, LABELS, **OPTIONS)
    seen = []
    whole = tagger.encoder.network.frame_tokens
    monkeypatch.setattr(
        tagger.encoder.network, "frame_tokens", lambda frames: seen.append(len(frames)) or whole(frames)
    )
    kept = Kept()
    list(tagger.tag_many([video], memory=kept))
    assert sum(seen) < 1.1 * len(kept.scored.spans) + 8 and len(kept.scored.spans) > 60  # of 4 each


def test_three_crops_are_averaged(toy_model, video):
    scored, _ = scores_of(toy_model, video, num_crops=3)
    tagger = Tagger(toy_model, LABELS, num_crops=3)
    with DecodePool(workers=1) as pool:
        clip = pool.submit(video, 4, 1, *scored.spans[5].tolist(), resize=tagger.encoder.resize).result()
    np.testing.assert_allclose(scored.scores[5], tagger.launch([clip], tagger.labels)[0][0], atol=1e-6)


def test_tokens_of_frozen_models_are_features_of_frames():
    class Clip(torch.nn.Module):
        logit_scale = torch.tensor(1.0)

        def encode_image(self, frames):
            return frames.flatten(1)[:, :5]

    frames = torch.rand(2, 3, 3, 4, 4)
    model = FrozenClip(Clip())
    tokens = model.frame_tokens(frames.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(model.encode_tokens(tokens).video, model.encode_video(frames).video)


def test_a_timeline_is_made_of_the_labels_segments(toy_model, video):
    _, result = scores_of(toy_model, video)
    assert len({s.tags[0].label for s in result.segments}) > 1
    keys = [(s.start_seconds, s.end_seconds) for s in result.segments]
    assert keys == sorted(keys) and all(len(s.tags) == 1 for s in result.segments)
    for segment in result.segments:
        [tag] = segment.tags
        assert 0 <= segment.start_seconds <= tag.peak_seconds <= segment.end_seconds
        assert tag.score <= tag.peak_score and -1 <= tag.similarity <= 1
    _, exclusive = scores_of(toy_model, video, exclusive=True)
    ends = [s.end_seconds for s in exclusive.segments]
    assert ends == sorted(ends) and all(
        a <= s.start_seconds for a, s in zip(ends, exclusive.segments[1:], strict=False)
    )


def test_a_video_without_a_label_is_unknown_throughout(toy_model, video):
    _, result = scores_of(toy_model, video, threshold=1.0)
    [segment] = result.segments
    assert (segment.start_seconds, segment.tags[0].label, segment.tags[0].score) == (0.0, "unknown", None)
    assert segment.end_seconds == pytest.approx(35.5, abs=0.1)


def test_labels_keep_their_own_thresholds_and_backgrounds_are_never_named(toy_model, video):
    named = LabelSet("s", (Label("never", ("x",), threshold=1.0), Label("always", ("y",), threshold=0.0)),
                     background=(Label("nothing", ("z",)),))  # fmt: skip
    [result] = Tagger(toy_model, named, **OPTIONS).tag_many([video])
    assert [s.tags[0].label for s in result.segments] == ["always"]


def test_a_video_shorter_than_a_window_is_one_segment(toy_model, clips):
    [result] = Tagger(toy_model, "a,b", window_seconds="auto", threshold=0.0).tag_many([clips / "a.mp4"])
    assert [(s.start_seconds, s.end_seconds) for s in result.segments] == [(0.0, 1.0)] * 2


def test_auto_fits_the_models_frames(toy_model):
    how = Tagger(toy_model, window_seconds="auto").windowing
    assert (how.num_frames, how.window_seconds, how.stride_seconds) == (4, 2.0, 1.0)


def test_videos_that_fail_are_results_among_the_others(toy_model, video, clips, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    paths = [str(tmp_path / "x.mp4"), video, str(tmp_path / "none.mp4"), str(clips / "a.mp4")]
    results = list(Tagger(toy_model, LABELS, **OPTIONS).tag_many(paths))
    assert [r.video for r in results] == paths and [r.status for r in results] == ["error", "ok", "error", "ok"]


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_run_goes_on_behind_the_windows_that_are_known(toy_model, video, small_pieces, stop_after):
    whole, result = scores_of(toy_model, video)
    stopped = Kept(stop_after=stop_after)
    tagger = Tagger(toy_model, LABELS, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        list(tagger.tag_many([video], memory=stopped))
    later = Kept(known=stopped.scored)
    [again] = tagger.tag_many([video], memory=later)
    assert later.parts[0][0] == len(stopped.scored.spans) - 1 > 0
    np.testing.assert_array_equal(later.scored.scores, whole.scores[later.parts[0][0] :])
    assert again == result
    [again] = tagger.tag_many([video], memory=Kept(known=whole))
    assert again == result


def test_windows_are_kept_in_the_journal_until_the_video_is_done(toy_model, video, small_pieces, tmp_path):
    job = batch.Batch([video], LABELS, TagSettings(model=toy_model, **OPTIONS), checkpoint=open_checkpoint(toy_model))
    output = tmp_path / "o.csv"
    with Journal(output) as journal:
        run = job.run(journal)
        memory_of = batch.JournalledWindows.add
        calls = []

        def add(self, path, first, scored):
            memory_of(self, path, first, scored)
            calls.append(first)
            if len(calls) == 4:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(batch.JournalledWindows, "add", add)
            next(run)
    lines = journal.windows_path.read_bytes().splitlines()
    assert len(lines) == 4 and json.loads(lines[-1])["windows"]["first"] == calls[-1]
    journal.windows_path.write_bytes(b"\n".join(lines) + b'\n{"key": "torn')
    with Journal(output) as journal:
        begun = []

        def note(self, path, first, scored):
            begun.append(first)
            memory_of(self, path, first, scored)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batch.JournalledWindows, "add", note)
            [result] = job.run(journal)
    assert begun[0] >= calls[-1]
    assert not journal.windows_path.exists()
    assert result == next(iter(Tagger(toy_model, LABELS, **OPTIONS).tag_many([video])))


@pytest.mark.parametrize("field", ["spans", "scores", "similarity"])
def test_windows_that_are_no_numbers_are_not_believed(tmp_path, field):
    keys = {"other": "o", "v": "k"}
    sound = Scored(np.zeros((2, 2)), np.zeros(2, int), np.ones((2, 3)), np.ones((2, 3)))
    for windows, known in ((sound, 2), (sound._replace(**{field: getattr(sound, field) * np.nan}), 0)):
        with Journal(tmp_path / "o.csv") as journal:
            journal.load(fresh=True)
            batch.JournalledWindows(journal, keys).add("v", 0, windows)
        with Journal(tmp_path / "o.csv") as journal:
            journal.load()
            memory = batch.JournalledWindows(journal, keys)
            assert len(memory.known("v", 3).spans) == known and len(memory.known("other", 3).spans) == 0


@pytest.mark.parametrize("damage", [b"{}", b"[]", b"xx"])
def test_windows_that_are_damaged_or_missing_are_not_believed(tmp_path, damage):
    key, scored = {"v": "k"}, Scored(np.zeros((2, 2)), np.zeros(2, int), np.ones((2, 3)), np.ones((2, 3)))
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        memory = batch.JournalledWindows(journal, key)
        memory.add("v", 0, scored)
        memory.add("v", 2, scored)
        memory.add("v", 3, scored)  # in place of the last one
    path = journal.windows_path
    first, *others = path.read_bytes().splitlines()
    for lines, count in (([first, *others], 5), ([damage, first, *others], 5), ([first, others[1]], 0), (others, 0)):
        path.write_bytes(b"\n".join(lines) + b"\n")
        with Journal(tmp_path / "o.csv") as journal:
            journal.load()
            known = batch.JournalledWindows(journal, key).known("v", 3)
            assert len(known.spans) == len(known.scenes) == count and known.scores.shape == (count, 3)
            assert known.scores.dtype == np.float32
            assert len(batch.JournalledWindows(journal, key).known("v", 2).spans) == 0 or count == 0


@pytest.mark.parametrize(
    "options",
    [{"window_seconds": 0}, {"window_seconds": "long"}, {"stride_seconds": 1.0}, {"exclusive": True},
     {"window_seconds": 4, "stride_seconds": -1}, {"window_seconds": 4, "smooth": 2}, {"scenes": True}, {"smooth": 3},
     {"window_seconds": 4, "num_clips": 2}, {"window_seconds": 4, "threshold": 0.2, "threshold_low": 0.3},
     {"window_seconds": 4, "threshold_low": 1.1},
     {"window_seconds": 4, "max_gap_seconds": -1}, {"window_seconds": float("nan")}, {"min_length_seconds": 1.0}],
)  # fmt: skip
def test_settings_that_make_no_timeline_are_refused(options):
    with pytest.raises(UsageError, match="--"):
        TagSettings(**options)


def test_a_labels_own_threshold_goes_before_and_without_any_the_window_decides(toy_model):
    labels = LabelSet("s", (Label("own", ("x",), threshold=0.3), Label("none", ("y",))))

    def thresholds(**options):
        rules = Tagger(toy_model, labels, window_seconds=4, **options).labels.rules
        return rules.on.tolist(), rules.off.tolist()

    nan = pytest.approx(np.nan, nan_ok=True)
    assert thresholds() == ([0.3, nan], [0.15, nan])
    assert thresholds(threshold=0.7) == ([0.3, 0.7], [0.15, 0.35])
    assert thresholds(threshold_low=0.4) == ([0.3, nan], [0.3, 0.4])
    assert thresholds(threshold=0.7, threshold_low=0.1) == ([0.3, 0.7], [0.1, 0.1])


def test_scenes_without_the_extra_say_what_to_install(monkeypatch, toy_model):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        Tagger(toy_model, window_seconds=4, scenes=True)
    assert "xclip-cli[scenes]" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [{"scores": 2.0}, {"scores": -1.0}, {"similarity": 3.0}, {"similarity": -3.0}, {"spans": 1e300}, {"scenes": -7}],
)
def test_windows_out_of_their_range_are_begun_again(tmp_path, changes):
    keys = {"v": "k"}
    sound = Scored(np.zeros((2, 2)), np.zeros(2, int), np.ones((2, 3)), np.ones((2, 3)))
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        windows = sound._replace(**{name: np.full_like(getattr(sound, name), value) for name, value in changes.items()})
        batch.JournalledWindows(journal, keys).add("v", 0, windows)
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        assert len(batch.JournalledWindows(journal, keys).known("v", 3).spans) == 0


def test_many_windows_are_joined_once(tmp_path, monkeypatch):
    """What is joined again at each line takes time that grows with the square of the lines."""
    keys, count = {"v": "k"}, 512
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        memory = batch.JournalledWindows(journal, keys)
        for number in range(count):  # each line is of three windows, and the next replaces the last of them
            spans = np.arange(2 * number, 2 * number + 3, dtype=float)
            numbers = np.full((3, 2), number / count, np.float32)
            memory.add("v", 2 * number, Scored(np.stack([spans, spans + 2], 1), np.zeros(3, int), numbers, numbers))
    joined = []
    monkeypatch.setattr(np, "concatenate", lambda parts, join=np.concatenate: joined.append(1) or join(parts))
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        known = batch.JournalledWindows(journal, keys).known("v", 2)
    np.testing.assert_array_equal(known.spans[:, 0], np.arange(2 * count + 1))
    np.testing.assert_array_equal(known.scores[:-1, 0], np.repeat(np.arange(count) / count, 2))
    assert len(joined) <= 4
