import inspect
import json
import os

import numpy as np
import pytest
import torch

import xclip_cli
from xclip_cli import Encoder, LabelSet, Tagger, labels
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.errors import LabelError, ModelError, UsageError
from xclip_cli.labels import Label
from xclip_cli.tagger.preprocess import normalise, preprocess
from xclip_cli.video.pool import DecodePool


@pytest.fixture(scope="module")
def tagger(toy_model):
    return Tagger(toy_model, top_k=2, workers=1)


def test_tagging_gives_the_best_labels_first(tagger, clips):
    result = tagger.tag(clips / "a.mp4", ["running", "dunking", "a dog"])
    [segment] = result.segments
    assert result.error is None and len(segment.tags) == 2
    assert segment.tags[0].score >= segment.tags[1].score > 0
    assert segment.end_seconds == pytest.approx(1.0)


def test_probabilities_and_cosines_of_all_views_are_averaged(toy_model, clips):
    names = ["running", "dunking", "a dog"]
    tagger = Tagger(toy_model, names, workers=1, num_clips=2, num_crops=3)
    with DecodePool(workers=1) as pool:
        clip = pool.submit(clips / "a.mp4", 4, 2, resize=tagger.encoder.resize).result()
    with torch.inference_mode():
        network = tagger.encoder.network
        views = normalise(tagger.encoder.pixels([clip])[0], tagger.checkpoint.preprocessing)
        text = tagger.checkpoint.text_encoder()(names)
        cosines = torch.cat([network.similarity(network.encode_video(view[None]), text) for view in views])
        scores = network.logits(cosines).softmax(dim=1)
    assert scores.shape == (6, 3) and scores.std(dim=0).max() > 1e-4
    tags = {tag.label: tag for tag in tagger.tag(clips / "a.mp4").segments[0].tags}
    assert [tags[name].score for name in names] == pytest.approx(scores.mean(dim=0).tolist(), abs=1e-5)
    assert [tags[name].similarity for name in names] == pytest.approx(cosines.mean(dim=0).tolist(), abs=1e-5)


def test_similarity_does_not_depend_on_the_other_labels_but_score_does(tagger, clips):
    alone = tagger.tag(clips / "a.mp4", "running").segments[0].tags[0]
    [*several] = tagger.tag(clips / "a.mp4", "running,dunking").segments[0].tags
    same = next(tag for tag in several if tag.label == "running")
    assert alone.score == 1.0 and same.score < 1.0
    assert same.similarity == pytest.approx(alone.similarity, abs=1e-6)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ("a.mp4", "takes several paths, not 'a.mp4'"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"a path was expected, not ndarray of shape \(4, 4, 3\)"),
        ([torch.zeros(2, 3)], r"not Tensor of shape \(2, 3\)"),
        (np.array(7), r"not ndarray of shape \(\)"),
        ([["a.mp4"]], "not list"),
        (7, "not int"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_path_is_said_at_once(tagger, paths, said):
    with pytest.raises(UsageError, match=said):
        tagger.tag_many(paths, "a,b")


def test_one_path_may_be_text_bytes_or_a_path(tagger, clips):
    paths = [str(clips / "a.mp4"), os.fsencode(clips / "a.mp4"), clips / "a.mp4", np.array([str(clips / "a.mp4")])[0]]
    assert {(type(r.video), r.status) for r in tagger.tag_many(np.array(paths, dtype=object), "a,b")} == {(str, "ok")}
    for wrong in (np.zeros((4, 4)), ["a.mp4"], None):
        with pytest.raises(UsageError, match="a path was expected"):
            tagger.tag(wrong, "a,b")


def test_a_tuned_model_looks_for_its_own_labels(toy_model, clips, tmp_path):
    checkpoint = open_checkpoint(toy_model)
    own = tmp_path / "own.safetensors"
    save(checkpoint.full_model(), own, preprocessing=checkpoint.preprocessing, name="own", labels=["a cat", "灌篮"])
    tagger = Tagger(str(own), workers=1)
    assert {tag.label for tag in tagger.tag(clips / "a.mp4").segments[0].tags} == {"a cat", "灌篮"}
    assert tagger.label_set.labels[1].prompts == ("灌篮",)
    other = Tagger(tagger.encoder, "灌篮,投篮").label_set
    assert other.labels[0].prompts == ("灌篮",)  # it was tuned on this text
    assert "a player shooting a basketball at the hoop" in other.labels[1].prompts


def test_a_video_that_cannot_be_read_is_a_result(tagger, clips, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    results = list(tagger.tag_many([clips / "a.mp4", tmp_path / "x.mp4", tmp_path / "none.mp4"], "a,b"))
    assert sorted((result.video.rpartition("/")[2], result.status) for result in results) == [
        ("a.mp4", "ok"),
        ("none.mp4", "error"),
        ("x.mp4", "error"),
    ]


def test_batches_that_overlap_give_what_single_videos_give(toy_model, clips, tmp_path):
    tagger = Tagger(toy_model, "a,b", workers=1)
    paths = [*map(str, sorted(clips.iterdir())), str(tmp_path / "none.mp4")]
    alone = {result.video: result for result in tagger.tag_many(paths)}
    tagger.encoder.batch_size, tagger.encoder.batches_ahead = 2, 1  # as on an accelerator
    together = {result.video: result for result in tagger.tag_many(paths)}
    assert together.keys() == alone.keys() and [r.error for r in together.values()].count(None) == 3
    for video, result in together.items():
        for ours, theirs in zip(result.segments, alone[video].segments, strict=True):
            assert [t.label for t in ours.tags] == [t.label for t in theirs.tags]
            assert [t.score for t in ours.tags] == pytest.approx([t.score for t in theirs.tags], abs=1e-5)


def test_the_model_is_sent_bytes(tagger, clips):
    with DecodePool(workers=1) as pool:
        clip = pool.submit(clips / "a.mp4", 4).result()
    pixels = tagger.encoder.pixels([clip, clip])
    assert pixels.dtype == torch.uint8 and pixels.shape == (2, 1, 4, 3, 32, 32)
    spec = tagger.checkpoint.preprocessing
    torch.testing.assert_close(normalise(pixels[0], spec), preprocess(clip.frames, spec), rtol=0, atol=0)


def test_many_videos_can_show_a_bar(tagger, clips, capsys):
    assert len(list(tagger.tag_many(sorted(clips.iterdir()), "a,b", progress=True))) == 3
    assert "3/3" in capsys.readouterr().err


def test_thresholds_of_labels_go_before_the_common_one(toy_model, clips):
    tagger = Tagger(toy_model, threshold=0.0)
    never, always = Label("never", ("x",), threshold=1.0), Label("always", ("y",), names={"zh": "总是"})
    tags = tagger.tag(clips / "a.mp4", LabelSet("s", (never, always))).segments[0].tags
    assert [tag.label for tag in tags] == ["always"]
    other = Tagger(toy_model, lang="zh")
    tags = other.tag(clips / "a.mp4", LabelSet("s", (never, always))).segments[0].tags
    assert "总是" in [tag.label for tag in tags]


@pytest.mark.parametrize("options", [{}, {"window_seconds": 0.5}])
def test_scores_that_are_no_numbers_are_an_error(toy_model, clips, options):
    tagger = Tagger(toy_model, ["a dog", "running"], workers=1, **options)
    tagger.encoder.network.logit_scale.data.fill_(1000)
    with pytest.raises(ModelError, match="model 'toy' gives scores that are no numbers"):
        tagger.tag(clips / "a.mp4")


def test_half_precision_stays_close(toy_model, tagger, clips):
    exact = tagger.tag(clips / "a.mp4", "a,b").segments[0].tags
    rough = Tagger(toy_model, "a,b", dtype="bfloat16").tag(clips / "a.mp4").segments[0].tags
    assert {t.label: t.score for t in rough} == pytest.approx({t.label: t.score for t in exact}, abs=0.05)


def test_half_precision_ties_no_labels(toy_model, clips):
    """400 cosines of bfloat16 would fall on a few dozen values; they are computed in float32."""
    names = labels.builtin("kinetics400")
    found = {}
    for dtype in ("float32", "bfloat16"):
        tags = Tagger(toy_model, names, dtype=dtype, top_k=400).tag(clips / "a.mp4").segments[0].tags
        assert len(tags) == len({tag.similarity for tag in tags}) == len({tag.score for tag in tags}) == 400
        found[dtype] = {tag.label: (tag.similarity, tag.score) for tag in tags}
    for label, (similarity, score) in found["float32"].items():
        assert found["bfloat16"][label] == pytest.approx((similarity, score), abs=0.02)


def test_wrong_requests_are_our_errors(toy_model, clips):
    with pytest.raises(UsageError, match="there are no labels"):
        Tagger(toy_model).tag(clips / "a.mp4")
    with pytest.raises(LabelError):
        Tagger(toy_model, "a,,b")
    with pytest.raises(ModelError, match="not on this machine") as absent:
        Tagger("xclip-base-patch32")
    assert "xclip models pull xclip-base-patch32" in absent.value.hint
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="cuda"):
            Tagger(toy_model, device="cuda")


def test_the_answer_is_unknown_where_the_best_does_not_lead_by_the_margin(toy_model, clips):
    scores = [tag.score for tag in Tagger(toy_model, "a,b,c", workers=1).tag(clips / "a.mp4").segments[0].tags]
    lead = scores[0] - scores[1]
    tagged = {}
    for margin in (lead - 1e-6, lead + 1e-6):
        tagger = Tagger(toy_model, "a,b,c", workers=1, min_margin=margin)
        tagged[margin] = [(tag.label, tag.score) for tag in tagger.tag(clips / "a.mp4").segments[0].tags]
    clear, close = tagged.values()
    assert [score for _, score in clear] == scores and close == [("unknown", None), *clear]


def test_background_competes_and_is_never_printed(toy_model, clips):
    """Whatever wins, the shares of the labels are those among labels and background."""
    tagger = Tagger(toy_model, workers=1)
    among_all = tagger.tag(clips / "a.mp4", "a,b,an empty room,a dog").segments[0].tags
    label_set = labels.from_names("a,b").with_background(labels.from_names("an empty room,a dog,A"))
    assert [x.name for x in label_set.background] == ["an empty room", "a dog"]
    shown = tagger.tag(clips / "a.mp4", label_set).segments[0].tags
    assert {tag for tag in shown if tag.label in "ab"} == {tag for tag in among_all if tag.label in "ab"}
    assert {tag.label for tag in shown} <= {"a", "b", "unknown"}
    assert (shown[0].label == "unknown") == (among_all[0].label not in "ab")


def decoders(tagger):
    return [worker._process.pid for worker in tagger.encoder.pool._shared.workers]


def test_one_decoder_serves_all_calls_and_ends_with_the_tagger(toy_model, clips):
    with Tagger(toy_model, "a,b", workers=3) as tagger:
        results = [tagger.tag(clips / "a.mp4") for _ in range(4)]
        assert tagger.tag(clips / "gone.mp4").error and tagger.tag(clips / "a.mp4") == results[0]
        [pid], threads = decoders(tagger), tagger.encoder.pool._shared.threads
        assert {result.status for result in results} == {"ok"} and len(threads) == 1
    assert not threads[0].is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert tagger.tag(clips / "a.mp4") == results[0]  # by a new one
    [again] = decoders(tagger)
    tagger.close()
    assert again != pid


def test_a_run_that_is_left_leaves_the_tagger_as_it_was(toy_model, clips):
    with Tagger(toy_model, "a,b", workers=1, window_seconds=0.5) as tagger:
        whole = tagger.tag(clips / "a.mp4")
        for _ in tagger.tag_many([clips / "a.mp4"] * 3):
            break
        assert tagger.tag(clips / "a.mp4") == whole and len(decoders(tagger)) == 1


def test_threads_have_their_own_results_of_shared_decoders(toy_model, clips):
    from concurrent.futures import ThreadPoolExecutor

    paths = sorted(clips.iterdir())
    with Tagger(toy_model, "a,b", workers=2) as tagger, ThreadPoolExecutor(4) as threads:
        alone = {str(path): tagger.tag(path) for path in paths}
        together = list(threads.map(tagger.tag, paths * 4))
        assert len(decoders(tagger)) == 2
    assert together == [alone[str(path)] for path in paths * 4]


def test_threads_with_other_labels_get_their_own(toy_model, clips):
    """Two label sets of one size: a mix-up would give the other's names, or its scores under these names."""
    from concurrent.futures import ThreadPoolExecutor

    sets = {"a dog,running": 50, "a cat,dunking": 50}
    for options in ({}, {"window_seconds": 0.5, "threshold": 0.0}):
        with Tagger(toy_model, workers=2, **options) as tagger, ThreadPoolExecutor(2) as threads:
            alone = {names: tagger.tag(clips / "a.mp4", names) for names in sets}
            jobs = [
                threads.submit(lambda names, count: [tagger.tag(clips / "a.mp4", names) for _ in range(count)], *job)
                for job in sets.items()
            ]
            for names, job in zip(sets, jobs, strict=True):
                assert job.result() == [alone[names]] * 50
        assert alone["a dog,running"] != alone["a cat,dunking"]


def test_options_are_named_and_a_misspelt_one_names_the_right_one(toy_model):
    parameters = inspect.signature(Tagger).parameters
    assert {"labels", "top_k", "window_seconds", "device"} < set(parameters) and parameters["top_k"].default == 5
    assert "options" not in parameters and "top_k" not in inspect.signature(Encoder).parameters
    for make in (lambda: Tagger(toy_model, "a,b", devise="cpu"), lambda: Encoder(toy_model, devise="cpu")):
        with pytest.raises(UsageError, match="there is no option 'devise'") as caught:
            make()
        assert caught.value.hint == "did you mean 'device'?"
    with pytest.raises(UsageError) as caught:
        Encoder(toy_model, xyz=1)
    assert "num_crops" in caught.value.hint


def test_what_is_made_is_shown_in_short(toy_model, clips):
    tagger = Tagger(toy_model, "a,b", device="cpu", workers=1)
    assert repr(tagger.encoder) == "Encoder('toy', device='cpu', dtype='float32')"
    assert repr(tagger) == f"Tagger({tagger.encoder!r}, labels='{tagger.label_set.name}')"
    found = tagger.tag(clips / "a.mp4").to_dict()
    assert json.loads(json.dumps(found)) == found and found["status"] == "ok"
    assert [tag["rank"] for tag in found["segments"][0]["tags"]] == [1, 2]
    assert {"Tagger", "Encoder", "Index", "__version__"} <= set(dir(xclip_cli))


def test_an_encoder_brings_its_own_options(toy_model):
    encoder = Encoder(toy_model, num_clips=2, workers=1)
    assert Tagger(encoder, top_k=3).settings.num_clips == 2
    with pytest.raises(UsageError, match="the encoder was made with other options"):
        Tagger(encoder, num_clips=1)


def test_a_cpu_computes_view_after_view(toy_model, clips, monkeypatch):
    with Tagger(toy_model, "a,b", workers=1, num_clips=3, num_crops=3, device="cpu") as tagger:
        encode, shapes = tagger.encoder.network.encode_video, []
        monkeypatch.setattr(tagger.encoder.network, "encode_video", lambda x: (shapes.append(x.shape[0]), encode(x))[1])
        tagger.tag(clips / "a.mp4")
    assert shapes == [1] * 9


def test_a_timeline_says_how_far_it_has_come(toy_model, clips):
    heard = []
    with Tagger(toy_model, "a,b", workers=1, window_seconds=0.5) as tagger:
        listener = {"on_progress": lambda *at: heard.append(at)}
        assert len(list(tagger.tag_many([clips / "a.mp4"], **listener))) == 1
        assert len(list(tagger.encoder.embed_many([str(clips / "a.mp4")], tagger.windowing, **listener))) == 1
    assert len(heard) >= 2
    for seconds, end in heard:
        assert 0.5 < seconds < end == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("first", "policy", "after"),
    [
        ("", None, "PASSIVE"),
        ("", "ACTIVE", "ACTIVE"),
        ("import sys; sys.modules['torch'] = sys;", None, "None"),  # it has been read: the host's environment stays
    ],
)
def test_threads_of_torch_do_not_spin_where_it_comes_after(first, policy, after):
    import subprocess
    import sys

    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": policy} if policy else {}
    program = f"{first}import xclip_cli, os; print(os.environ.get('OMP_WAIT_POLICY'))"
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == after
