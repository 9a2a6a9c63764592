"""Parts of videos as small files: copied where a key frame allows, else encoded anew; in a process that can be killed.

A copy begins at the key frame at or up to half a second before its start and keeps every bit; what is encoded (H.264,
or MPEG-4 where that is missing) begins and ends at the very frame, upright, with square pixels, as a player shows it.
Sound is copied where MP4 can hold it, and left out where not.
"""

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from xclip_cli.errors import OutputError, VideoError
from xclip_cli.files import replacing
from xclip_cli.video.container import open_container
from xclip_cli.video.display import UPRIGHT
from xclip_cli.video.process import ENVIRONMENT, failure, program
from xclip_cli.video.reader import open_reader
from xclip_cli.video.source import is_picture, read_head, shown
from xclip_cli.video.types import TOLERANCE_SECONDS, Probe

_NEAR_SECONDS = 0.5
_PACE = 4  # an encoded second may take so many, beside the time-out
_VIDEO_CODECS = ("h264", "hevc", "mpeg4", "av1", "vp9")
_AUDIO_CODECS = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
_NAME_BYTES = 90


def cut(video: str, start_seconds: float, end_seconds: float, target: Path, timeout_seconds: float) -> str:
    """Writes [start, end) of a video as an MP4, whole or not at all; gives how: ``copied`` or ``encoded``.

    Raises VideoError where it cannot be decoded in ``timeout_seconds`` and four times its length, OutputError where it
    cannot be written.
    """
    limit = timeout_seconds + _PACE * (end_seconds - start_seconds)
    try:
        with replacing(target) as draft:
            request = json.dumps([os.path.abspath(video), start_seconds, end_seconds, os.path.abspath(draft)])
            command = program("from xclip_cli.video.cutting import main; main()", request)
            done = subprocess.run(command, capture_output=True, timeout=limit, env=os.environ | ENVIRONMENT)
            answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
            if answer is None:
                raise VideoError(f"{shown(video)} crashed the decoder while it was cut (exit code {done.returncode})")
            if "error" in answer:
                raise VideoError(answer["error"], answer["hint"])
            return answer["how"]
    except subprocess.TimeoutExpired:
        raise VideoError(
            f"{shown(video)} was not cut within {limit:.0f} s", "allow more with --decode-timeout"
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot write {str(target)!r}: {error.strerror or error}", "free space, or cut elsewhere"
        ) from error


def cut_name(video: str, label: str, start_seconds: float) -> str:
    """Such as ``match__slam-dunk__00-01-05.000.mp4``: a name in one folder, whatever video and label are called."""
    minutes, milliseconds = divmod(round(start_seconds * 1000), 60_000)
    clock = f"{minutes // 60:02}-{minutes % 60:02}-{milliseconds / 1000:06.3f}"
    return f"{_plain(Path(video).stem)}__{_plain(label)}__{clock}.mp4"


def free_name(name: str, taken: set[str]) -> str:
    """The name, numbered where it is ``taken`` in any case already; it is taken from now on."""
    stem, number, free = name.removesuffix(".mp4"), 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{stem}-{number}.mp4"
    taken.add(free.casefold())
    return free


def _plain(text: str) -> str:
    """Letters, digits and ``-_.`` of any script; no separator, control, direction mark or leading dot; not too long."""
    kept = (c if unicodedata.category(c)[0] in "LNM" or c in "-_." else "-" if c == " " else "_" for c in text)
    return "".join(kept).lstrip(".-").encode()[:_NAME_BYTES].decode(errors="ignore") or "_"


def main() -> None:
    """The program of the process that cuts: one part, as JSON; its answer is the last line."""
    video, start, end, draft = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        answer = {"how": _write(video, start, end, draft)}
    except Exception as error:
        answer = failure(video, error, "cut")
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _write(path: str, start: float, end: float, draft: str) -> str:
    from xclip_cli.video.probe import probe

    if is_picture(path, read_head(path)):
        raise VideoError(f"{shown(path)} is a picture: there is nothing to cut")
    found = probe(path)
    if _can_be_copied(found):
        with suppress(av.FFmpegError, ValueError):
            if _copy(path, found, start, end, draft):
                return "copied"
    encode(path, found, start, end, draft)
    return "encoded"


def _can_be_copied(found: Probe) -> bool:
    clear = found.seekable and not (found.joined or found.by_dts or found.cropped)
    return clear and found.codec in _VIDEO_CODECS and found.display.orientation == UPRIGHT


def _copy(path: str, found: Probe, start: float, end: float, draft: str) -> bool:
    """Copies packets as they are; False where no key frame is near the start."""
    with open_container(path) as source, av.open(draft, "w", format="mp4") as output:
        stream = source.streams[found.stream]
        source.seek(
            int((start + found.origin_seconds + TOLERANCE_SECONDS) / stream.time_base), stream=stream, backward=True
        )
        packets = source.demux(*(s for s in (stream, _sound(source)) if s is not None))
        outputs, base = {}, None
        for packet in packets:
            if packet.pts is None or packet.dts is None:
                if packet.size:
                    return False
                continue
            seconds = packet.pts * packet.time_base
            if base is None:
                if packet.stream is not stream or not packet.is_keyframe:
                    continue
                if not -TOLERANCE_SECONDS <= start + found.origin_seconds - seconds <= _NEAR_SECONDS:
                    return False
                base = seconds
                for each in (stream, _sound(source)):
                    if each is not None:
                        outputs[each.index] = output.add_stream_from_template(each)
            if packet.stream is stream and packet.dts * packet.time_base >= end + found.origin_seconds:
                break
            if base <= seconds < end + found.origin_seconds:
                _mux(output, packet, outputs[packet.stream.index], base)
        return base is not None


def _sound(container: av.container.InputContainer) -> av.AudioStream | None:
    sounds = (s for s in container.streams.audio if s.codec_context and s.codec_context.name in _AUDIO_CODECS)
    return next(sounds, None)


def _mux(output: av.container.OutputContainer, packet: av.Packet, stream: av.stream.Stream, base: Fraction) -> None:
    """Writes a packet of another file, ``base`` seconds earlier."""
    shift = round(base / packet.time_base)
    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
    packet.stream = stream
    output.mux(packet)


def encode(
    path: str,
    found: Probe,
    start: float,
    end: float,
    draft: str,
    paint: Callable[[float, np.ndarray], np.ndarray] = lambda seconds, picture: picture,
) -> None:
    """Encodes [start, end) of a video anew as an MP4; ``paint(seconds, picture)`` gives the picture to show instead."""
    fps = Fraction(found.info.fps).limit_denominator(1001)
    width, height = (max(2, side - side % 2) for side in (found.info.width, found.info.height))
    with (
        open_container(path) as source,
        closing(open_reader("auto", os.cpu_count() or 1).open(path)) as video,
        av.open(draft, "w", format="mp4") as output,
    ):
        encoder = output.add_stream(_encoder(), rate=fps)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.options = {"crf": "18", "preset": "veryfast"} if encoder.name == "libx264" else {"qscale": "3"}
        sound = _sound(source)
        heard = output.add_stream_from_template(sound) if sound else None
        waiting = (
            _sound_packets(source, sound, start + found.origin_seconds, end + found.origin_seconds)
            if sound
            else iter(())
        )
        packet = next(waiting, None)
        for number in range(max(1, int((end - start) * fps + 0.5))):
            time = start + float(number / fps)
            if number and video.end_seconds is not None and time >= video.end_seconds:
                break
            picture = paint(time, video.display(video.frame_at(time)[0])[:height, :width])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts, frame.time_base = number, 1 / fps
            output.mux(encoder.encode(frame))
            while packet is not None and packet.pts * packet.time_base - found.origin_seconds <= time:
                _mux(output, packet, heard, Fraction(start + found.origin_seconds))
                packet = next(waiting, None)
        output.mux(encoder.encode(None))
        while packet is not None:  # heard while the last picture is seen
            _mux(output, packet, heard, Fraction(start + found.origin_seconds))
            packet = next(waiting, None)


def _sound_packets(container, sound: av.AudioStream, start: float, end: float) -> Iterator[av.Packet]:
    container.seek(int(start / sound.time_base), stream=sound, backward=True)
    for packet in container.demux(sound):
        if packet.pts is None or packet.dts is None or packet.pts * packet.time_base < start:
            continue
        if packet.pts * packet.time_base >= end:
            return
        yield packet


def _encoder() -> str:
    return "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
