"""A video written anew with captions on its pictures; in a process that can be killed."""

import gc
from collections.abc import Callable, Sequence

import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.outputs.cut import Progress, encode
from xclip_cli.video.probe import probe
from xclip_cli.video.source import is_picture, read_head, shown
from xclip_cli.video.types import TOLERANCE_SECONDS

Lines = list[tuple[str, str]]
# Left and top in a picture, and pixels uint8 (h, w, 4) RGBA, straight alpha.
Drawn = tuple[int, int, np.ndarray]


def overlay(
    path: str,
    output: str,
    captions: Sequence[tuple[float, float, Lines]],
    draw: Callable[[Lines, int, int], Drawn],
    on_progress: Progress,
) -> None:
    """Write the video with captions to ``output``, an MP4.

    ``captions`` hold from and to which second each is shown, in order of time, and its lines. ``draw(lines, width,
    height)`` draws one; it is called when the caption is shown, and one is kept. Pictures are those that a person sees,
    at their own times. Raises VideoError and what else hostile bytes may bring about.
    """
    if is_picture(path, read_head(path)):
        raise VideoError(f"{shown(path)} is a picture: there is nothing to annotate")
    found = probe(path)
    if found.info.gaps_seconds:
        raise VideoError(f"{shown(path)} is not annotated: its time stamps jump", "cut its parts with --cut instead")
    end = found.info.end_seconds
    width, height = (max(2, side // 2 * 2) for side in (found.info.width, found.info.height))
    waiting = iter(captions)
    caption, drawn = next(waiting, None), None

    def paint(seconds: float, image: np.ndarray) -> np.ndarray:
        nonlocal caption, drawn
        seconds += TOLERANCE_SECONDS
        while caption is not None and seconds >= caption[1] and caption[1] < end:
            caption, drawn = next(waiting, None), None
        if caption is None or seconds < caption[0]:
            return image
        if drawn is None:
            drawn = draw(caption[2], width, height)
            gc.collect(1)  # a figure of matplotlib holds itself, with megabytes of pixels
        return _with(drawn, image)

    encode(path, found, 0.0, end, output, on_progress, paint, sorted({edge for c in captions for edge in c[:2]}))


def _with(drawn: Drawn, image: np.ndarray) -> np.ndarray:
    """The picture uint8 (H, W, 3) with a caption on it, as a copy."""
    image, (left, top, pixels) = np.array(image), drawn
    height, width = pixels.shape[:2]
    below = image[top : top + height, left : left + width]
    alpha = pixels[..., 3:].astype(np.uint16)
    below[:] = (pixels[..., :3] * alpha + below * (255 - alpha) + 127) // 255
    return image
