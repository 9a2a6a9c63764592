"""Which moments of a video are looked at. Pure arithmetic: nothing is opened here."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

MAX_WINDOWS = 1_000_000
_TIME_DIGITS = 6  # of a second; times of two windows that differ by less are one


Spans = Sequence[tuple[float, float]]  # [start, stop) in seconds, in order, apart from each other


def stretches(start_seconds: float, stop_seconds: float, gaps_seconds: Spans = ()) -> list[tuple[float, float]]:
    """What is left of [start_seconds, stop_seconds) without the gaps, in order; never nothing."""
    parts = []
    for start, stop in gaps_seconds:
        if start_seconds < start < stop_seconds:
            parts.append((start_seconds, start))
        if start < stop_seconds:
            start_seconds = max(start_seconds, min(stop, stop_seconds))
    if start_seconds < stop_seconds or not parts:
        parts.append((start_seconds, stop_seconds))
    return parts


def within(seconds: np.ndarray, parts: Spans) -> np.ndarray:
    """Times that count the seconds of these spans alone, as times on the clock of the spans."""
    starts, stops = np.array(parts).T
    before = np.concatenate([[0.0], np.cumsum(stops - starts)])
    part = np.searchsorted(before[1:-1], seconds, side="right")
    return starts[part] + (seconds - before[part])


def clip_times(
    start_seconds: float, stop_seconds: float, num_frames: int, num_clips: int = 1, gaps_seconds: Spans = ()
) -> np.ndarray:
    """Times in seconds, float64 (num_clips, num_frames), inside the half-open [start_seconds, stop_seconds).

    The interval is cut into ``num_frames`` equal parts and every clip takes one moment of each part, so that each clip
    is a sparse view of the whole (X-CLIP, section 4.1); the clips' moments interleave at equal distances. One clip
    takes the middle of each part. The seconds in ``gaps_seconds`` do not count. An empty interval gives
    ``start_seconds`` throughout. ValueError for a count below 1, a time that is not finite or a stop before the start.
    """
    if num_frames < 1 or num_clips < 1:
        raise ValueError(f"num_frames={num_frames} and num_clips={num_clips} must be at least 1")
    if not (np.isfinite(start_seconds) and np.isfinite(stop_seconds) and start_seconds <= stop_seconds):
        raise ValueError(f"[{start_seconds}, {stop_seconds}) is not an interval of seconds")
    part = np.arange(num_frames)[None, :]
    place = (np.arange(num_clips)[:, None] + 0.5) / num_clips
    parts = stretches(start_seconds, stop_seconds, gaps_seconds)
    return within((part + place) / num_frames * sum(stop - start for start, stop in parts), parts)


class Windows(NamedTuple):
    """W windows of T frames, in order of time, and the N moments that they are made of, each once.

    ``spans`` float64 (W, 2) are half-open intervals in seconds; ``scenes`` int (W,) number what no window crosses;
    ``times`` float64 (N,) ascend; ``index`` int (W, T) says which of them each window's frames are.
    """

    spans: np.ndarray
    scenes: np.ndarray
    times: np.ndarray
    index: np.ndarray


def windows(
    stop_seconds: float,
    num_frames: int,
    window_seconds: float,
    stride_seconds: float,
    cuts_seconds: Sequence[float] = (),
    *,
    start_seconds: float = 0.0,
    gaps_seconds: Spans = (),
) -> Windows:
    """Windows over [start_seconds, stop_seconds), one every ``stride_seconds``.

    None crosses one of the ``cuts_seconds``, or lies in one of the ``gaps_seconds``.

    A window's frames are the middles of its ``num_frames`` equal parts, as in ``clip_times``; where the stride is a
    multiple of such a part, windows share frames. The last window ends where the scene does, unless what is left is
    less than half a part; a scene that is shorter than a window is one window. ValueError for sizes that are not
    positive and for more than ``MAX_WINDOWS`` windows.
    """
    if not (window_seconds > 0 and stride_seconds > 0):
        raise ValueError(f"window {window_seconds} s and stride {stride_seconds} s must be more than 0")
    parts = stretches(float(start_seconds), float(stop_seconds), gaps_seconds)
    seconds = sum(stop - start for start, stop in parts)
    if seconds / stride_seconds > MAX_WINDOWS:
        raise ValueError(f"{seconds:.3f} s at a stride of {stride_seconds} s are more than {MAX_WINDOWS} windows")
    cuts = sorted({float(cut) for cut in cuts_seconds})
    per_scene = [
        _spans(*scene, window_seconds, stride_seconds, tail_seconds=window_seconds / num_frames / 2)
        for start, stop in parts
        for scene in pairwise([start, *(cut for cut in cuts if start < cut < stop), stop])
    ]
    spans = np.concatenate(per_scene)
    scenes = np.repeat(np.arange(len(per_scene)), [len(scene) for scene in per_scene])
    moments = spans[:, :1] + (np.arange(num_frames) + 0.5) / num_frames * (spans[:, 1:] - spans[:, :1])
    times, index = np.unique(np.round(moments, _TIME_DIGITS), return_inverse=True)
    return Windows(spans, scenes, times, index.reshape(moments.shape))


def _spans(start: float, stop: float, window: float, stride: float, tail_seconds: float) -> np.ndarray:
    if stop - start <= window:
        return np.array([[start, stop]])
    starts = start + np.arange(math.floor((stop - start - window) / stride + 1e-9) + 1) * stride
    if stop - (starts[-1] + window) >= tail_seconds:
        starts = np.append(starts, stop - window)
    return np.stack([starts, starts + window], axis=1)


class Step(NamedTuple):
    """A few frames and the windows that are whole with them, as [first, stop) of times and windows.

    ``needed`` is the first of all times that windows after these are made of.
    """

    times: slice
    windows: slice
    needed: int


def steps(plan: Windows, num_times: int, first_window: int = 0) -> Iterator[Step]:
    """Ways through a plan from one window on, ``num_times`` times at a time.

    Each time is in the same step wherever the way begins, so that a model sees the same batches.
    """
    last, done = plan.index.max(axis=1), first_window
    start = int(plan.index[done].min()) // num_times * num_times if done < len(last) else len(plan.times)
    for first in range(start, len(plan.times), num_times):
        stop = min(first + num_times, len(plan.times))
        whole = max(done, int(np.searchsorted(last, stop)))
        needed = int(plan.index[whole].min()) if whole < len(last) else stop
        yield Step(slice(first, stop), slice(done, whole), needed)
        done = whole
