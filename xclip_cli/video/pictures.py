"""Pictures as videos: a still one has one frame and no duration, an animated one moves as its own clock says."""

import cv2
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.display import MAX_FRAME_PIXELS, Display
from xclip_cli.video.source import shown
from xclip_cli.video.types import TOLERANCE_SECONDS, Video, VideoInfo

# Browsers show a frame for this long whose own time is next to nothing.
_SHORTEST_MS, _DEFAULT_MS = 11, 100
_MAX_BYTES = 2**30  # of all frames of an animation


class Picture(Video):
    """A JPEG, PNG, WebP or AVIF, turned as its EXIF says; WebP, PNG and AVIF may be animated."""

    reader = "opencv"
    missing_seconds = 0.0

    def __init__(self, path: str, warnings: tuple[str, ...] = ()):
        self.warnings = warnings
        data = np.fromfile(path, np.uint8)
        try:
            still = cv2.imdecode(data, cv2.IMREAD_COLOR)
            if still is None:
                raise VideoError(f"{shown(path)} cannot be decoded as an image")
            self.display = Display(shown(path), still.shape[1], still.shape[0])
            images, milliseconds = _frames(data, shown(path), still.nbytes * 4 // 3)
        except cv2.error as error:
            reason = f"it is damaged, or has more than {MAX_FRAME_PIXELS} pixels"
            raise VideoError(f"{shown(path)} cannot be decoded as an image: {reason}") from error
        if len(images) < 2:
            images, milliseconds = [still], np.zeros(1)
        self._images = images
        self._converted: tuple[int, np.ndarray] | None = None
        self._stamps = (np.cumsum(milliseconds) - milliseconds) / 1000
        self.end_seconds = float(milliseconds.sum() / 1000)
        fps = len(images) / self.end_seconds if self.end_seconds else 0.0
        self.info = VideoInfo(*self.display.size, self.end_seconds, len(images), fps)

    def frame_at(self, time_seconds: float) -> tuple[np.ndarray, float]:
        index = max(0, int(self._stamps.searchsorted(time_seconds + TOLERANCE_SECONDS, side="right")) - 1)
        if self._converted is None or self._converted[0] != index:
            self._converted = index, _rgb(self._images[index])
        return self._converted[1], float(self._stamps[index])

    def close(self) -> None:
        pass


def _frames(data: np.ndarray, name: str, frame_bytes: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The pictures of an animation, as OpenCV has them, and how many milliseconds each is shown."""
    limit = max(2, _MAX_BYTES // frame_bytes)
    found, animation = cv2.imdecodeanimation(data, 0, min(limit, 2**15 - 1))
    images = list(animation.frames) if found else []
    if len(images) == limit:
        raise VideoError(f"{name} is an animation of {limit} frames or more; at most {_MAX_BYTES} bytes are read")
    milliseconds = np.asarray(animation.durations, np.float64).ravel()[: len(images)] if found else np.zeros(0)
    return images, np.where(milliseconds < _SHORTEST_MS, _DEFAULT_MS, milliseconds)


def _rgb(image: np.ndarray) -> np.ndarray:
    image = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
