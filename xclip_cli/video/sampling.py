"""Which moments of a video are looked at. Pure arithmetic: nothing is opened here."""

import numpy as np


def clip_times(start_seconds: float, stop_seconds: float, num_frames: int, num_clips: int = 1) -> np.ndarray:
    """Times in seconds, float64 (num_clips, num_frames), inside the half-open [start_seconds, stop_seconds).

    The interval is cut into ``num_frames`` equal parts and every clip takes one moment of each part, so that each clip
    is a sparse view of the whole (X-CLIP, section 4.1); the clips' moments interleave at equal distances. One clip
    takes the middle of each part. An empty interval gives ``start_seconds`` throughout. ValueError for a count below 1,
    a time that is not finite or a stop before the start.
    """
    if num_frames < 1 or num_clips < 1:
        raise ValueError(f"num_frames={num_frames} and num_clips={num_clips} must be at least 1")
    if not (np.isfinite(start_seconds) and np.isfinite(stop_seconds) and start_seconds <= stop_seconds):
        raise ValueError(f"[{start_seconds}, {stop_seconds}) is not an interval of seconds")
    part = np.arange(num_frames)[None, :]
    place = (np.arange(num_clips)[:, None] + 0.5) / num_clips
    return start_seconds + (part + place) / num_frames * (stop_seconds - start_seconds)
