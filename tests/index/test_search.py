"""Questions to an index: the best moments, exactly, each once."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import MODEL, WIDTH, add, features

from xclip_cli.errors import LabelError, VideoError
from xclip_cli.index.search import Query, Scope, example, find, peaks, stands_out
from xclip_cli.index.store import Store
from xclip_cli.labels import builtin
from xclip_cli.settings import TagSettings

TEXTS = np.eye(WIDTH)[1:4]
QUERY = Query(np.eye(WIDTH)[0], TEXTS)


def towards(*cosines):
    """Features of windows that have these cosines with QUERY."""
    angles = np.array(cosines, np.float64)
    windows = np.zeros((len(angles), WIDTH), np.float32)
    windows[:, 0], windows[:, 1] = 3 * angles, 3 * np.sqrt(1 - angles**2)
    return replace(features(0, count=len(angles)), windows=windows)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "index", create=True) as opened:
        yield opened


@pytest.fixture
def known(store):
    return store.begin(MODEL)


@pytest.fixture
def put(store, known, tmp_path):
    def put(name, video):
        add(store, known, tmp_path / name, video)
        return os.path.realpath(tmp_path / name)

    return put


def test_the_best_window_of_all_comes_first_and_its_neighbours_with_it(store, known, put):
    a, b = put("a.mp4", towards(0.0, 0.1, 0.9, 0.8, 0.1, 0.0)), put("b.mp4", towards(0.1, 0.0, 0.7, 0.0))
    answer = find(store, known, QUERY, 2, Scope())
    assert [(m.video, round(m.score, 4)) for m in answer.moments] == [(a, 0.9), (b, 0.7)]
    first, second = answer.moments
    # windows of 4 s every 2 s: number 2 has its middle at 6 s, and its cell from 5 to 7 s
    assert (first.start_seconds, first.end_seconds, first.peak_seconds) == (5.0, 9.0, 6.0)
    assert (second.start_seconds, second.end_seconds) == (5.0, 7.0)
    assert answer.windows == 10 and answer.lost == []


def at_cosine(cosine):
    """A unit vector that has this cosine with the first axis."""
    return cosine * np.eye(WIDTH)[0] + (1 - cosine**2) ** 0.5 * np.eye(WIDTH)[1]


@pytest.mark.parametrize(("windows", "least"), [(1, 0.267), (10, 0.396), (10**6, 0.703)])
def test_a_sentence_stands_out_above_the_best_of_as_many_by_chance(windows, least):
    # texts: 0.2 with a deviation of 0.1; normal quantiles of 1 - 0.25 / windows: 0.674, 1.960, 5.026
    texts = np.stack([at_cosine(0.1), at_cosine(0.3)])
    for scale in (1, 7):
        assert stands_out(scale * np.eye(WIDTH)[0], Query(scale * at_cosine(least + 0.002), texts), windows)
        assert not stands_out(scale * np.eye(WIDTH)[0], Query(scale * at_cosine(least - 0.002), texts), windows)


def test_an_example_stands_out_where_the_same_texts_fit():
    window, texts = np.array([3.0, 2, 1, 0]), np.eye(4)
    for shown, alike in (([3, 2, 1, 0], True), ([3, 1, 2, 0], True), ([0, 3, 1, 2], False), ([0, 1, 2, 3], False)):
        assert stands_out(window, Query(np.array(shown, float), texts, like=True), 5) is alike


def test_each_moment_is_judged_by_its_own_best_window(store, known, put):
    a, b = put("a.mp4", towards(0.1, 0.9, 0.1)), put("b.mp4", towards(0.0, 0.05))
    texts = np.zeros((2, WIDTH))
    texts[:, 1:3] = [0.2, 0.98], [0.6, 0.8]  # nearer to the windows of b
    answer = find(store, known, Query(np.eye(WIDTH)[0], texts), 5, Scope())
    assert [(m.video, m.stands_out) for m in answer.moments] == [(a, True), (b, False)]


def test_two_peaks_of_a_video_are_two_moments(store, known, put):
    put("a.mp4", towards(0.8, 0.1, 0.1, 0.6, 0.5, 0.0))
    moments = find(store, known, QUERY, 9, Scope()).moments
    assert [round(m.score, 2) for m in moments] == [0.8, 0.6]
    assert moments[0].end_seconds <= moments[1].start_seconds


def test_the_answer_is_that_of_looking_at_everything(store, known, put):
    paths = [put(f"{n}.mp4", features(n, count=1 + n % 9)) for n in range(60)]
    query = np.random.default_rng(5).standard_normal(WIDTH)
    every = find(store, known, Query(query, TEXTS), 10**6, Scope()).moments
    best = {}
    for number, path in enumerate(paths):
        windows = features(number, count=1 + number % 9).windows
        best[path] = float((windows @ query / np.linalg.norm(windows, axis=1)).max() / np.linalg.norm(query))
    assert {m.video for m in every} == set(paths)
    for path, score in best.items():
        assert max(m.score for m in every if m.video == path) == pytest.approx(score, abs=1e-6)
    for top_k in (1, 7, 30):
        assert find(store, known, Query(query, TEXTS), top_k, Scope()).moments == every[:top_k]


def test_what_was_replaced_is_not_found_and_what_is_gone_or_changed_is_told(store, known, put):
    a = put("a.mp4", towards(0.9, 0.9))
    put("a.mp4", towards(0.2))
    b, c = put("b.mp4", towards(0.8)), put("c.mp4", towards(0.7))
    os.unlink(b)
    Path(c).write_bytes(b"another video")
    answer = find(store, known, QUERY, 5, Scope())
    assert [(m.video, round(m.score, 2)) for m in answer.moments] == [(a, 0.2)] and answer.lost == [b, c]


def test_a_folder_a_video_or_a_time_narrows_it(store, known, put, tmp_path):
    a, b, c = put("x/a.mp4", towards(0.9)), put("x y/b.mp4", towards(0.8)), put("x/deep/c.mp4", towards(0.7))
    os.utime(a, (1, 1))
    put("x/a.mp4", towards(0.9))

    def found(scope):
        return [m.video for m in find(store, known, QUERY, 5, scope).moments]

    assert found(Scope()) == [a, b, c]
    assert found(Scope(os.path.realpath(tmp_path / "x"))) == [a, c]
    assert found(Scope(b)) == [b]
    assert found(Scope(since_ns=time.time_ns() - 10**12)) == [b, c]
    assert found(Scope(str(tmp_path / "nowhere"))) == []
    assert find(store, known, QUERY, 5, Scope(str(tmp_path / "nowhere"))).windows == 0


def test_an_index_of_nothing_gives_nothing(store, known):
    assert find(store, known, QUERY, 5, Scope()) == ([], [], 0, known)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.floats(-1, 1), st.integers(1, 40))
def test_moments_of_a_video_never_meet_and_the_best_is_among_them(tenths, usual, most):
    cosines = np.array(tenths, np.float32) / 10
    found = peaks(cosines, usual, most)
    assert 1 <= len(found) <= most and cosines[found[0][2]] == cosines.max()
    windows = [number for first, stop, _ in found for number in range(first, stop)]
    assert len(windows) == len(set(windows)) and set(windows) <= set(range(len(cosines)))
    for first, stop, peak in found:
        assert first <= peak < stop and cosines[peak] == cosines[first:stop].max()


def test_an_example_of_the_index_is_what_is_kept_of_it(store, known, put):
    path, video = put("a@2.mp4", features(3)), features(3)
    options = TagSettings()
    np.testing.assert_array_equal(example(path, store, known, options), video.whole)
    for at, window in ((0, 0), (4.5, 1), (5.5, 2), (11, 4)):
        np.testing.assert_array_equal(example(f"{path}@{at}", store, known, options), video.windows[window])
    with pytest.raises(VideoError, match=r"it ends at 11\.500 s"):
        example(f"{path}@11.5", store, known, options)


def test_a_sentence_that_was_asked_before_needs_neither_torch_nor_the_model(plain_model, tmp_path, make_clip, xclip):
    clip, index = make_clip(tmp_path / "a.mp4"), tmp_path / "index"
    assert xclip("index", clip, "--model", plain_model, "--index", index).returncode == 0
    arguments = ["search", "two dogs, running", "--model", plain_model, "--index", str(index)]
    first = xclip(*arguments)
    assert first.returncode == 0 and first.stdout.count("\n") == 2, first.stderr
    program = f"""
import sys
from xclip_cli.cli.app import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print([name for name in ("torch", "cv2", "av", "open_clip", "xclip_cli.checkpoint.load") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == first.stdout + "[]\n", done.stderr


def test_a_name_in_another_language_is_searched_by_the_built_in_prompts(plain_model):
    from xclip_cli.checkpoint.load import open_checkpoint
    from xclip_cli.index.search import sentence

    named = replace(MODEL, fingerprint=open_checkpoint(plain_model).fingerprint)
    parts = [sentence(prompt, named, plain_model)[0] for prompt in builtin("sports").labels[1].prompts]
    query, warnings = sentence("灌篮", named, plain_model)
    np.testing.assert_allclose(query, np.mean(parts, axis=0), atol=1e-6)
    assert warnings == []


def test_a_sentence_that_says_nothing_is_refused(store, known):
    from xclip_cli.index.search import sentence

    with pytest.raises(LabelError):
        sentence("  ", known, "mini")
