import numpy as np
import pytest

from xclip_cli.video.sampling import clip_times, stretches


def test_one_clip_takes_the_middle_of_each_part():
    assert clip_times(0.0, 8.0, 4).tolist() == [[1.0, 3.0, 5.0, 7.0]]


@pytest.mark.parametrize(("num_frames", "num_clips"), [(1, 1), (8, 1), (8, 4), (3, 5)])
def test_clips_interleave_at_equal_distances(num_frames, num_clips):
    times = clip_times(2.0, 12.0, num_frames, num_clips)
    assert times.shape == (num_clips, num_frames)
    assert times.dtype == np.float64
    together = np.sort(times, axis=None)
    assert together[0] > 2.0 and together[-1] < 12.0
    np.testing.assert_allclose(np.diff(together), 10.0 / (num_frames * num_clips))


def test_every_clip_sees_every_part():
    parts = clip_times(0.0, 8.0, 8, 4) // 1.0
    assert (parts == np.arange(8)).all()


def test_an_empty_interval_gives_its_start():
    assert (clip_times(0.0, 0.0, 8, 2) == 0).all()


@pytest.mark.parametrize("bad", [(0, 1, 0), (0, 1, 8, 0), (1, 0, 8), (0, float("nan"), 8), (0, float("inf"), 8)])
def test_what_is_no_request_is_refused(bad):
    with pytest.raises(ValueError):
        clip_times(*bad)


GAPS = [(2.0, 10.0), (12.0, 20.0)]


@pytest.mark.parametrize(
    ("span", "parts"),
    [
        ((0.0, 24.0), [(0.0, 2.0), (10.0, 12.0), (20.0, 24.0)]),
        ((1.0, 11.0), [(1.0, 2.0), (10.0, 11.0)]),
        ((5.0, 15.0), [(10.0, 12.0)]),
        ((0.0, 2.0), [(0.0, 2.0)]),
        ((20.0, 22.0), [(20.0, 22.0)]),
        ((0.0, 0.0), [(0.0, 0.0)]),
    ],
)
def test_gaps_do_not_count(span, parts):
    assert stretches(*span, GAPS) == parts
    times = clip_times(*span, 80, 1, GAPS)[0]
    seconds = sum(stop - start for start, stop in parts)
    inside = [((times >= start) & (times < stop)).sum() for start, stop in parts]
    if seconds:
        np.testing.assert_allclose(inside, [80 * (stop - start) / seconds for start, stop in parts], atol=1)
        assert sum(inside) == 80


def test_a_span_inside_a_gap_has_its_end():
    assert stretches(3.0, 4.0, GAPS) == [(4.0, 4.0)]
