"""A video written anew with captions on its pictures; in a process that can be killed."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.cutting import encode
from xclip_cli.video.probe import probe
from xclip_cli.video.process import failure
from xclip_cli.video.source import is_picture, read_head, shown


class Caption(NamedTuple):
    """Pixels uint8 (h, w, 4) RGBA, straight alpha, with their corner at left, top; shown in [start, stop) seconds."""

    start_seconds: float
    stop_seconds: float
    left: int
    top: int
    pixels: np.ndarray


def burn(path: str, output: str, captions: Sequence[Caption], on_progress: Callable[[float], None]) -> None:
    """Writes the video with captions to ``output``, an MP4; ``on_progress`` hears the share that is done, 0 to 1.

    Pictures are those that a person sees, at the video's mean frame rate. Raises VideoError and what else hostile
    bytes may bring about.
    """
    if is_picture(path, read_head(path)):
        raise VideoError(f"{shown(path)} is a picture: there is nothing to annotate")
    found = probe(path)
    duration = found.info.end_seconds
    if found.info.gaps_seconds:
        raise VideoError(f"{shown(path)} is not annotated: its time stamps jump", "cut its parts with --cut instead")

    def paint(seconds: float, image: np.ndarray) -> np.ndarray:
        on_progress(seconds / duration)
        return _with(captions, seconds, image)

    encode(path, found, 0.0, duration, output, paint)


def _with(captions: Sequence[Caption], seconds: float, image: np.ndarray) -> np.ndarray:
    """The picture uint8 (H, W, 3) with what is shown at that moment, as a copy."""
    image = np.array(image)
    for caption in captions:
        if caption.start_seconds <= seconds < caption.stop_seconds:
            height, width = caption.pixels.shape[:2]
            below = image[caption.top : caption.top + height, caption.left : caption.left + width]
            alpha = caption.pixels[..., 3:].astype(np.uint16)
            below[:] = (caption.pixels[..., :3] * alpha + below * (255 - alpha) + 127) // 255
    return image


def main() -> None:
    """The program: a video, an output and captions (.npz); lines of JSON say how far it is, and how it ended."""
    path, output, file = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not get among the answers

    def say(**answer) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        with np.load(file) as arrays:
            spans = arrays["spans"].tolist()
            captions = [Caption(a, b, int(x), int(y), arrays[f"pixels{n}"]) for n, (a, b, x, y) in enumerate(spans)]
        burn(path, output, captions, lambda share: say(share=share))
        say(share=1.0, finished=True)
    except Exception as error:
        say(**failure(path, error, "written anew"))
