"""Frames in memory as a video: sampled as a file with these frames would be."""

from collections.abc import Iterator, Sequence
from numbers import Real

import numpy as np
from PIL import Image

from xclip_cli.errors import UsageError
from xclip_cli.video.display import Display, Resize
from xclip_cli.video.reader import read_frames
from xclip_cli.video.scenes import shot_changes
from xclip_cli.video.stream import Piece, Windowing, pieces
from xclip_cli.video.types import TOLERANCE_SECONDS, Video, VideoInfo

NAME = "frames"  # the video of a result


class MemoryVideo(Video):
    """Frame number i is shown from i / fps seconds on.

    ``frames`` is uint8 (T, H, W, 3) RGB, or a sequence of PIL pictures of one size. Raises UsageError for anything
    else, and for an ``fps`` that is not a positive number.
    """

    reader = "memory"
    missing_seconds = 0.0

    def __init__(self, frames: np.ndarray | Sequence[Image.Image], fps: float):
        if isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < fps < np.inf:
            raise UsageError(f"fps is {fps!r}: it must be more than 0", "give the frames per second of the video")
        images, self._fps = _checked(frames), float(fps)
        count, height, width, _ = images.shape
        self._images = list(images)  # the same frame is then the same array, and resized once
        self.display = Display(NAME, width, height)
        self.end_seconds = count / self._fps
        self.info = VideoInfo(width, height, self.end_seconds, count, self._fps)

    def frame_at(self, time_seconds: float) -> tuple[np.ndarray, float]:
        number = min(int((time_seconds + TOLERANCE_SECONDS) * self._fps), len(self._images) - 1)
        return self._images[number], number / self._fps

    def close(self) -> None:
        pass

    def pieces(self, how: Windowing, resize: Resize | None = None) -> Iterator[Piece]:
        """The pieces that a decoder would give of a file with these frames."""

        def answer(request: dict):
            if "end" in request:
                return None
            if "cuts" in request:
                return [cut for part in shot_changes(self) for cut in part], False
            return read_frames(self, request["times_seconds"], request["resize"] and Resize(**request["resize"]))

        return pieces(answer, NAME, how, resize)


def _checked(frames: np.ndarray | Sequence[Image.Image]) -> np.ndarray:
    if isinstance(frames, list | tuple) and frames:
        if all(isinstance(frame, Image.Image) for frame in frames):
            frames = [np.asarray(frame.convert("RGB")) for frame in frames]
        shapes = sorted({np.shape(frame) for frame in frames}, key=str)
        if len(shapes) > 1:
            raise UsageError(
                f"frames have the shapes {shapes[0]} and {shapes[1]}: all must have one size", "resize them"
            )
    try:
        images = np.asarray(frames)
    except (TypeError, ValueError) as error:
        raise UsageError(f"frames are {type(frames).__name__}: they must be an array or PIL pictures") from error
    shape = images.shape
    if images.ndim != 4 or shape[3] != 3 or 0 in shape[1:3]:
        hint = "give RGB frames; stack single ones with np.stack"
        if images.ndim == 4 and shape[1] == 3:
            hint = "frames.transpose(0, 2, 3, 1) puts the channels last"
        raise UsageError(f"frames have the shape {shape}: it must be (T, H, W, 3)", hint)
    if not len(images):
        raise UsageError("there are 0 frames: there must be 1 or more")
    if images.dtype != np.uint8:
        hint = "frames from 0 to 1: (frames * 255).round().astype(np.uint8)" if images.dtype.kind == "f" else None
        raise UsageError(f"frames are {images.dtype}: they must be uint8, from 0 to 255", hint)
    return images
