"""Shot changes, as PySceneDetect (extra ``scenes``) sees them in every frame as it is shown."""

import math
from collections.abc import Iterator

import numpy as np

from xclip_cli.video.display import Resize
from xclip_cli.video.sampling import stretches, within
from xclip_cli.video.types import Video

_STRETCH = 128  # frames looked at before there is word of them
_SMALL = Resize(144, "shortest", "bilinear", antialias=False, rounding="round")
_SHORTEST_SECONDS = 0.6  # of a scene, PySceneDetect's own default


def shot_changes(video: Video) -> Iterator[list[float]]:
    """When new scenes begin, in seconds, a stretch of the video at a time. Raises VideoError."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    info, fps = video.info, video.info.fps
    parts = stretches(info.start_seconds, info.end_seconds, info.gaps_seconds)
    count = math.ceil(sum(stop - start for start, stop in parts) * fps)
    if count < 2:
        return
    detector = AdaptiveDetector(min_scene_len=max(1, round(_SHORTEST_SECONDS * fps)))
    seen: list[float] = []  # when each frame was shown; the detector counts frames
    for first in range(0, count, _STRETCH):
        times = within((np.arange(first, min(first + _STRETCH, count)) + 0.5) / fps, parts)
        images, stamps = video.frames_at(times, _SMALL)
        cuts = []
        for image, stamp in zip(images, stamps.tolist(), strict=True):
            if not seen or stamp > seen[-1]:
                seen.append(stamp)
                bgr = np.ascontiguousarray(image[..., ::-1])
                cuts += detector.process_frame(FrameTimecode(len(seen) - 1, fps), bgr)
        yield [seen[cut.frame_num] for cut in cuts]
