"""What a model knows of a video before any label: enough to search it and to tag it again without the video."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Features of a whole video and of its windows, as the network gives them: not normalised.

    ``whole`` float32 (E,) is of num_frames frames over the whole video, ``patches`` float32 (P, E) what its prompts
    look at there, None where a network has none. ``windows`` float32 (W, E) are those of a timeline: their ``spans``
    float64 (W, 2) are in seconds, half-open, and ``scenes`` int64 (W,) number the scenes that they lie in.
    ``start_seconds`` is when its first picture is shown, ``duration_seconds`` how long it is from there on, and
    ``end_seconds`` where the last frame of the timeline ends;
    ``warnings`` and ``timeline_warnings`` say what was made do with for either.
    """

    whole: np.ndarray
    patches: np.ndarray | None
    windows: np.ndarray
    spans: np.ndarray
    scenes: np.ndarray
    start_seconds: float
    duration_seconds: float
    end_seconds: float
    warnings: tuple[str, ...]
    timeline_warnings: tuple[str, ...]
    reader: str
