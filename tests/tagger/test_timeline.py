"""Scores over time -> segments: what holds of every timeline, and what the rules say in plain cases."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xclip_cli.tagger.timeline import Rules, Scored, cells, hysteresis, runs, segments, smooth, thresholds, tidy
from xclip_cli.video.sampling import windows

fixed = settings(derandomize=True, deadline=None, database=None, max_examples=150)


def scored(plan, scores):
    scores = np.asarray(scores, np.float32)
    return Scored(plan.spans, plan.scenes, scores, scores - 0.5)


@st.composite
def timelines(draw):
    """Windows over a video with whatever scores, and rules."""
    duration = draw(st.floats(0.1, 60))
    window, stride = draw(st.sampled_from([(4, 2), (4, 1.5), (1, 3), (7.3, 0.9)]))
    cuts = draw(st.lists(st.floats(0.05, duration), max_size=3))
    plan = windows(duration, 8, window, stride, cuts)
    labels, others = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    seed = draw(st.integers(0, 2**32 - 1))
    scores = np.random.default_rng(seed).dirichlet([0.3] * (labels + others), len(plan.spans))
    on = np.full(labels, draw(st.floats(0, 1) | st.just(np.nan)))
    rules = Rules(
        on,
        on * draw(st.floats(0, 1)),
        smooth=draw(st.sampled_from([1, 3, 5])),
        min_length_seconds=draw(st.floats(0, 8)),
        max_gap_seconds=draw(st.floats(0, 8)),
        exclusive=draw(st.booleans()),
    )
    return scored(plan, scores), rules, duration


@fixed
@given(timelines())
def test_segments_are_ordered_inside_the_video_and_apart(timeline):
    windows, rules, duration = timeline
    found = segments(windows, rules, duration)
    assert [f[:3] for f in found] == sorted(f[:3] for f in found)
    for segment in found:
        assert 0 <= segment.start_seconds < segment.end_seconds <= duration
        assert segment.end_seconds - segment.start_seconds >= rules.min_length_seconds - 1e-6
        assert segment.score <= segment.peak_score
        assert segment.start_seconds - 1e-9 <= segment.peak_seconds <= segment.end_seconds + 1e-9
    together = [found] if rules.exclusive else [[f for f in found if f.label == n] for n in range(len(rules.on))]
    for group in together:
        for one, other in pairwise(group):
            assert one.end_seconds <= other.start_seconds
            assert one.end_seconds < other.start_seconds or one.label != other.label


@fixed
@given(timelines())
def test_filling_and_dropping_again_changes_nothing(timeline):
    windows, rules, duration = timeline
    borders = cells(windows.spans, duration)
    scores = windows.scores[:, : len(rules.on)]
    best = windows.scores.argmax(axis=1)[:, None] == np.arange(len(rules.on))
    active = hysteresis(scores, *thresholds(windows.scores, rules)) & (best | (not rules.exclusive))
    once = tidy(active, borders, rules)
    np.testing.assert_array_equal(tidy(once, borders, rules), once)
    if rules.exclusive:
        assert once.sum(axis=1).max() <= 1


@fixed
@given(timelines(), st.lists(st.integers(0, 70), max_size=5))
def test_windows_may_come_in_any_batches(timeline, places):
    whole, rules, duration = timeline
    bounds = [0, *sorted(min(place, len(whole.spans)) for place in places), len(whole.spans)]
    parts = [Scored(*(values[a:b] for values in whole)) for a, b in pairwise(bounds)]
    assert segments(Scored.joined(parts), rules, duration) == segments(whole, rules, duration)


@fixed
@given(timelines())
def test_cells_fill_the_video_and_hold_the_middle_of_their_window(timeline):
    windows, _, duration = timeline
    borders = cells(windows.spans, duration)
    assert borders[0] == 0 and borders[-1] == duration and (np.diff(borders) >= 0).all()
    middles = windows.spans.mean(axis=1)
    assert (borders[:-1] <= middles + 1e-9).all() and (middles <= borders[1:] + 1e-9).all()


def plain(scores, **more):
    """Of one label over windows of 4 s every 2 s."""
    plan = windows(2.0 * len(scores) + 2, 8, 4, 2)
    rules = Rules(np.array([0.5]), np.array([0.25]), **more)
    found = segments(scored(plan, np.array(scores)[:, None]), rules, 2.0 * len(scores) + 2)
    return [(f.start_seconds, f.end_seconds) for f in found]


def test_a_segment_begins_at_the_upper_and_ends_below_the_lower_threshold():
    assert plain([0.3, 0.6, 0.3, 0.3, 0.2, 0.4]) == [(3, 9)]
    assert plain([0.6, 0.1, 0.1, 0.6]) == [(0, 3), (7, 10)]
    assert plain([0.4, 0.4]) == []
    assert plain([0.1, 0.5, 0.25, 0.2]) == [(3, 7)]  # a score on a threshold has reached it


def holding(windows, on=np.nan, off=np.nan, **more):
    """The spans in which each label holds, over windows of 4 s every 2 s."""
    scores = np.array(windows)
    plan = windows_of(len(scores))
    rules = Rules(np.full(scores.shape[1], on), np.full(scores.shape[1], off), **more)
    found = segments(scored(plan, scores), rules, 2.0 * len(scores) + 2)
    return {label: [f[:2] for f in found if f.label == label] for label in sorted({f.label for f in found})}


def windows_of(count):
    return windows(2.0 * count + 2, 8, 4, 2)


@pytest.mark.parametrize("count", [3, 5, 26, 92, 400, 700])
def test_a_label_begins_at_two_fifths_of_all_squares_however_many_labels_there_are(count):
    # x^2 = 0.4 (x^2 + (1 - x)^2 / (count - 1)), with the rest shared evenly
    ratio = (2 / 3 / (count - 1)) ** 0.5
    least = ratio / (1 + ratio)
    for score, held in ((1.01 * least, {0: [(0, 4)]}), (0.99 * least, {})):
        assert holding([[score, *[(1 - score) / (count - 1)] * (count - 1)]]) == held


def test_of_two_labels_the_better_one_begins():
    assert holding([[0.51, 0.49]]) == {0: [(0, 4)]} and holding([[0.001, 0.999]]) == {1: [(0, 4)]}
    assert holding([[1.0]]) == {0: [(0, 4)]}


def test_two_labels_that_stand_out_together_both_begin():
    assert sorted(holding([[0.4, 0.35, *[0.0125] * 20]])) == [0, 1]


def test_a_label_holds_down_to_half_the_squares_that_it_begins_at():
    begun, above, below = ([score, *[(1 - score) / 25] * 25] for score in (0.3, 0.1, 0.08))
    assert holding([above, begun, above, below, above]) == {0: [(3, 7)]}
    assert holding([begun, above, below], off=0.2) == {0: [(0, 3)]}  # a score of its own to hold down to
    assert holding([begun], off=0.31) == {}  # which it needs to begin too
    assert holding([begun], on=0.31) == {} and holding([above], on=0.1) == {0: [(0, 4)]}


def test_pauses_are_filled_before_short_segments_are_dropped():
    scores = [0.1, 0.6, 0.1, 0.6, 0.1, 0.1, 0.6, 0.1]
    assert plain(scores) == [(3, 5), (7, 9), (13, 15)]
    assert plain(scores, max_gap_seconds=2) == [(3, 9), (13, 15)]
    assert plain(scores, max_gap_seconds=2, min_length_seconds=4) == [(3, 9)]
    assert plain(scores, min_length_seconds=4) == []


def test_means_and_the_peak_are_those_of_the_windows():
    plan = windows(10, 8, 4, 2)
    rules = Rules(np.array([0.5]), np.array([0.25]))
    [found] = segments(scored(plan, [[0.0], [0.75], [0.5], [0.0]]), rules, 10)
    assert found == (3, 7, 0, 0.625, 0.125, 0.75, 4)


def test_exclusive_takes_the_best_and_a_background_may_be_it():
    plan = windows(10, 8, 4, 2)
    scores = [[0.3, 0.45, 0.25], [0.45, 0.3, 0.25], [0.3, 0.2, 0.5], [0.3, 0.2, 0.5]]
    rules = Rules(np.full(2, 0.3), np.full(2, 0.1), exclusive=True)
    assert [f[:3] for f in segments(scored(plan, scores), rules, 10)] == [(0, 3, 1), (3, 5, 0)]
    both = Rules(np.full(2, 0.3), np.full(2, 0.1))
    assert [f[:3] for f in segments(scored(plan, scores), both, 10)] == [(0, 10, 0), (0, 10, 1)]


def test_exclusive_fills_no_pause_that_another_label_holds():
    active = np.array([[1, 0], [0, 1], [1, 0], [0, 0], [1, 0]], bool)
    rules = Rules(np.ones(2), np.ones(2), max_gap_seconds=1, exclusive=True)
    filled = tidy(active, np.arange(6.0), rules)
    assert runs(filled[:, 0]) == [(0, 1), (2, 5)] and runs(filled[:, 1]) == [(1, 2)]


def test_the_moving_average_stays_in_its_scene():
    scores, scenes = np.array([[0.0], [0.0], [3.0], [1.0], [2.0]]), np.array([0, 0, 0, 1, 1])
    np.testing.assert_allclose(smooth(scores, scenes, 3)[:, 0], [0, 1, 1.5, 1.5, 1.5])
    assert smooth(scores, scenes, 1) is scores


def test_cells_end_at_a_shot_change():
    plan = windows(12, 8, 4, 2, cuts_seconds=[5])
    assert plan.scenes.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(cells(plan.spans, 12), [0, 2.5, 5, 8, 9.5, 12])


def test_nothing_holds_where_time_stamps_jump():
    plan = windows(1e6 + 10, 8, 4, 2, start_seconds=3, gaps_seconds=[(13, 1e6)])
    ones = np.ones((len(plan.spans), 1), np.float32)
    found = segments(Scored(plan.spans, plan.scenes, ones, ones), Rules(np.ones(1), np.ones(1)), 1e6 + 10)
    assert [segment[:2] for segment in found] == [(3.0, 13.0), (1e6, 1e6 + 10)]


def test_no_windows_no_segments():
    assert segments(Scored.none(3), Rules(np.ones(3), np.ones(3)), 0.0) == []


@pytest.mark.parametrize("stop", [0.0, 1.25])
def test_a_video_shorter_than_a_window_is_one_cell(stop):
    plan = windows(stop, 8, 4, 2)
    np.testing.assert_array_equal(cells(plan.spans, stop), [0, stop])
