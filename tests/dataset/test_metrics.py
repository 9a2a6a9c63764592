"""Counts and shares, against what can be counted by hand."""

import numpy as np
import pytest

from xclip_cli.dataset.metrics import calibration, class_accuracies, confusion, hits, interval, share


def test_confusion_counts_rows_of_what_is_and_columns_of_what_was_said():
    counts = confusion([0, 0, 2, 2], [0, 1, 2, 2], 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 2]]
    shares = class_accuracies(counts)
    assert shares[[0, 2]].tolist() == [0.5, 1.0] and np.isnan(shares[1])


def test_a_target_is_hit_where_it_is_among_the_first():
    ranked = [[2, 0, 1], [0, 1, 2], [1, 2, 0]]
    assert hits(ranked, [2, 2, 2], 1).tolist() == [True, False, False]
    assert hits(ranked, [2, 2, 2], 2).tolist() == [True, False, True]
    assert share(hits(ranked, [2, 2, 2], 2)) == pytest.approx(2 / 3)
    assert hits([], [], 1).shape == (0,) and np.isnan(share([]))


def test_scores_that_mean_what_they_say_have_no_calibration_error():
    error, bins = calibration([0.75] * 4, [True, True, True, False])
    assert error == pytest.approx(0) and sum(b.count for b in bins) == 4
    assert calibration([], [])[0] == 0


def test_the_calibration_error_is_the_distance_weighted_by_clips():
    error, bins = calibration([1.0, 1.0, 0.0, 0.5], [True, False, False, True])
    assert error == pytest.approx((2 * 0.5 + 1 * 0.0 + 1 * 0.5) / 4)
    assert [b.count for b in bins if b.count] == [1, 1, 2]
    assert bins[0].start == 0 and bins[-1].stop == 1


@pytest.mark.parametrize("right, count", [(0, 1), (14, 26), (26, 26), (5000, 10000)])
def test_the_interval_holds_the_share_and_narrows_with_clips(right, count):
    low, high = interval(right, count)
    assert 0 <= low <= right / count <= high + 1e-12 and high <= 1
    more = interval(100 * right, 100 * count)
    assert more[1] - more[0] < high - low


def test_the_interval_is_the_published_one():
    assert interval(14, 26) == pytest.approx((0.3546, 0.7124), abs=5e-4)  # by Wilson's formula, worked out apart
    assert interval(0, 0) == (0, 1)
