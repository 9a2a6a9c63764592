"""A video written anew with captions on its pictures: the body of a process that can be killed, and its program."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np

from xclip_cli.errors import XclipError
from xclip_cli.video.container import continuous, open_container, shown_stream
from xclip_cli.video.reader import open_reader
from xclip_cli.video.source import is_picture, read_head, shown

_MAX_FPS, _USUAL_FPS = 120, 25
_ENCODERS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"q": "3"}))


class Caption(NamedTuple):
    """Pixels uint8 (h, w, 4) RGBA, straight alpha, with their corner at left, top; shown in [start, stop) seconds."""

    start_seconds: float
    stop_seconds: float
    left: int
    top: int
    pixels: np.ndarray


def burn(
    path: str,
    output: str,
    container: str,
    captions: Sequence[Caption],
    reader: str = "auto",
    threads: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Writes the video with captions to ``output``, in libav's ``container``; says what was left out.

    Pictures are those that a person sees, at the video's mean frame rate; sound is copied. Raises VideoError and what
    else hostile bytes may bring about.
    """
    with ExitStack() as opened:
        video = opened.enter_context(closing(open_reader(reader, threads).open(path)))
        fps = Fraction(min(video.info.fps, _MAX_FPS) or _USUAL_FPS).limit_denominator(65535)
        width, height = (max(2, side // 2 * 2) for side in (video.info.width, video.info.height))
        target = opened.enter_context(av.open(output, "w", format=container))
        stream = _encoder(target, fps, width, height, threads)
        sound, warnings = _sound(path, target, opened)
        packet = next(sound, None)
        num_frames = max(1, round(video.info.duration_seconds * fps))
        for number in range(num_frames):
            seconds = float(number / fps)
            image = video.frames_at(np.array([seconds])).images[0, :height, :width]
            frame = av.VideoFrame.from_ndarray(_with(captions, seconds, image), "rgb24")
            frame.pts, frame.time_base = number, 1 / fps
            target.mux(stream.encode(frame))
            while packet is not None and float(packet.dts * packet.time_base) <= seconds:
                target.mux(packet)
                packet = next(sound, None)
            on_progress(number + 1, num_frames)
        target.mux(stream.encode(None))
        while packet is not None:
            target.mux(packet)
            packet = next(sound, None)
    return warnings


def _encoder(target, fps: Fraction, width: int, height: int, threads: int) -> av.VideoStream:
    name, options = next((name, options) for name, options in _ENCODERS if name in av.codecs_available)
    stream = target.add_stream(name, rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.thread_count = threads
    return stream


def _sound(path: str, target, opened: ExitStack) -> tuple[Iterator[av.Packet], list[str]]:
    """The packets of the video's sound, on its clock, for the target; none, and why, where they do not fit into it."""
    if is_picture(path, read_head(path)):
        return iter(()), []
    container = opened.enter_context(open_container(path))
    sound, pictures = container.streams.best("audio"), shown_stream(container)
    if sound is None or sound.codec_context is None:
        return iter(()), []
    if sound.codec_context.codec.canonical_name not in target.supported_codecs:
        codec, kind = sound.codec_context.codec.canonical_name, target.format.name
        return iter(()), [f"{shown(path)}: the sound ({codec}) does not fit into {kind} and was left out"]
    copy = target.add_stream_from_template(sound)
    first = float((pictures.start_time or 0) * pictures.time_base)

    def packets() -> Iterator[av.Packet]:
        for packet, _ in continuous(container, sound):
            shift = round(first / packet.time_base) if packet.size else 0
            if packet.size and packet.dts is not None and packet.dts >= shift:
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts -= shift
                packet.stream = copy
                yield packet

    return packets(), []


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
    """The program: a request as JSON on standard input; lines of JSON say how far it is, and how it ended."""
    request = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not get among the answers

    def say(**answer) -> None:
        print(json.dumps(answer), file=answers, flush=True)  # noqa: T201

    try:
        with np.load(request.pop("captions")) as arrays:
            spans, pixels = arrays["spans"].tolist(), [arrays[f"pixels{n}"] for n in range(len(arrays["spans"]))]
        captions = [Caption(start, stop, int(x), int(y), p) for (start, stop, x, y), p in zip(spans, pixels, strict=True)]
        say(warnings=burn(**request, captions=captions, on_progress=lambda done, total: say(done=done, total=total)))
    except XclipError as error:
        say(error=error.message, hint=error.hint)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        say(error=f"{shown(request['path'])} cannot be written anew: {type(error).__name__}: {reason}", hint=None)
