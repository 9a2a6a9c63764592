"""Thousands of damaged videos, decoded as the program decodes them: what comes of each, how soon, in how much memory.

    python tests/video/fuzz.py --mutants 10000 [--seed 0] [--reader auto] [--processes 2] [--keep FOLDER] [--log FILE]

Number and seed say all about a mutant: ``--first 4711 --mutants 1`` makes one again. What a log holds already is not
done again, and counts in the summary. ``--write FOLDER`` only makes the files, for the commands themselves:

    python tests/video/fuzz.py --mutants 1500 --write mutants
    xclip tag mutants --window auto -o tags.csv; xclip index mutants --index index
"""

import argparse
import json
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from crafted import CRAFTED
from damages import DAMAGES, splice
from numbered_clips import packaged_clips, run_ffmpeg

from xclip_cli.errors import VideoError
from xclip_cli.files import one_line
from xclip_cli.video.display import Resize
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.source import shown
from xclip_cli.video.stream import Windowing

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "12")
CONTAINERS = {
    "mp4": X264,
    "fragmented.mp4": (*X264, "-movflags", "frag_keyframe+empty_moov"),
    "mov": (*X264, "-flags", "+ilme+ildct", "-x264opts", "tff=1"),
    "mkv": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0"),
    "webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "avi": ("-c:v", "mpeg4", "-bf", "2"),
    "ts": X264,
    "mpg": ("-c:v", "mpeg2video", "-bf", "2", "-q:v", "5"),
    "flv": X264,
    "wmv": ("-c:v", "wmv2"),
    "ogv": ("-c:v", "libtheora", "-q:v", "6"),
    "gif": (),
    "png": ("-f", "apng"),
    "webp": ("-c:v", "libwebp_anim"),
    "ivf": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "nut": ("-c:v", "ffv1"),
    "mxf": ("-r", "25", "-c:v", "mpeg2video"),
    "mjpeg": ("-c:v", "mjpeg"),
    "h264": X264,
}
WAYS = (*DAMAGES, "splice", "lie")
SECONDS = 30.0  # the time-out
NUM_FRAMES = 4
RESIZE = Resize(256, "shortest", "bilinear", True, "floor")
_BRIEF_SECONDS = 60.0  # what is not longer is read window by window too, one file in three
_BATCH = 100
_EXCEPTION = re.compile(r"\b[A-Z]\w*(Error|Exception|Warning)\b|\[Errno|Traceback|<class|0x[0-9a-f]{8}")
_ENDS = {"crashed the decoder": "crash", "was not decoded within": "time-out", "not enough memory": "memory"}


class Outcome(NamedTuple):
    """What came of one file. ``kind`` is clip, warned, error, memory, time-out or crash; the peak is in bytes."""

    name: str
    kind: str
    seconds: float
    peak: int
    message: str


def whole_clips(source: Path | str, suffixes: Iterable[str] = tuple(CONTAINERS)) -> dict[str, bytes]:
    """Two seconds of a clip in each of these containers, by suffix."""
    clips = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in suffixes:
            path = Path(folder, f"whole.{suffix}")
            run_ffmpeg("-i", source, "-t", "2", "-vf", "scale=272:152,fps=12", "-an", *CONTAINERS[suffix], path)
            clips[suffix] = path.read_bytes()
    return clips


def mutant(number: int, seed: int, clips: Mapping[str, bytes]) -> tuple[str, bytes]:
    """A name and the content: container and way of damage take turns, chance decides the rest."""
    suffixes, rng = list(clips), np.random.default_rng([seed, number])
    suffix, way = suffixes[number % len(suffixes)], WAYS[number // len(suffixes) % len(WAYS)]
    other = clips[suffixes[rng.integers(0, len(suffixes))]]
    if way == "splice":
        content = splice(clips[suffix], rng, other)
    elif way == "lie":  # one container by another's name, often damaged as well
        content = other if rng.integers(0, 2) else DAMAGES[rng.choice(list(DAMAGES))](other, rng)
    else:
        content = DAMAGES[way](clips[suffix], rng)
    return f"{number:06}-{way}.{suffix}", content


def crafted(clips: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for make in CRAFTED:
        name, _, suffix = make.__name__.rpartition("_")
        yield f"{name}.{suffix}", make(clips)


def decode(pool: DecodePool, path: Path, windows: bool) -> Outcome:
    """Decodes a file in the one worker of a pool, also window by window. AssertionError for an answer that is none."""
    _forget_peak(pool)
    began = time.monotonic()
    try:
        clip = pool.submit(path, NUM_FRAMES, resize=RESIZE).result()
        check_clip(path, clip.frames, clip.times_seconds, clip.info)
        kind, message = "warned" if clip.warnings else "clip", "; ".join(clip.warnings)
        for warning in clip.warnings:
            assert one_line(warning) == warning, f"{path}: {warning!r}"
        if windows and clip.info.duration_seconds <= _BRIEF_SECONDS:
            for piece in pool.stream(path, Windowing(NUM_FRAMES, 1.0, 0.5), RESIZE):
                check_clip(path, piece.clip.frames, piece.clip.times_seconds, piece.clip.info)
    except VideoError as error:
        check_message(path, error.message)
        kind = next((kind for end, kind in _ENDS.items() if end in error.message), "error")
        message = error.message
    return Outcome(path.name, kind, time.monotonic() - began, _peak(pool), message)


def check_clip(path, frames, times, info) -> None:
    width, height = RESIZE.target(info.width, info.height)
    assert frames.shape == (len(times), height, width, 3) and frames.dtype == np.uint8, f"{path}: {frames.shape}"
    assert np.isfinite(times).all() and (times >= 0).all(), f"{path}: {times}"
    assert np.isfinite(info.duration_seconds) and info.duration_seconds >= 0, f"{path}: {info}"
    assert np.isfinite(info.fps) and info.fps >= 0 and (info.num_frames or 1) > 0, f"{path}: {info}"


def check_message(path, message: str) -> None:
    """One line that a person can read and that names the file."""
    assert one_line(message) == message and len(message) < 400, repr(message)
    assert shown(str(path)) in message, message
    assert not _EXCEPTION.search(message), message


def _forget_peak(pool: DecodePool) -> None:
    process = next((worker._process for worker in pool._shared.workers), None)
    with suppress(OSError, AttributeError):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _peak(pool: DecodePool) -> int:
    """The most that the worker has held since, in bytes; where it is dead, the most that any dead one had held."""
    process = next((worker._process for worker in pool._shared.workers), None)
    with suppress(OSError, AttributeError, TypeError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    return 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def decode_all(
    files: Iterator[tuple[str, bytes]], reader: str, folder: Path, keep: Path | None = None, seconds: float = SECONDS
) -> list[Outcome]:
    """What comes of each; files are written to the folder, one at a time. What asserts fails is told as ``wrong``."""
    outcomes = []
    with DecodePool(reader, workers=1, timeout_seconds=seconds) as pool:
        for name, content in files:
            path = folder / name
            path.write_bytes(content)
            try:
                outcomes.append(decode(pool, path, windows=len(outcomes) % 3 == 0))
            except AssertionError as error:
                outcomes.append(Outcome(name, "wrong", 0.0, 0, str(error)))
            if keep and outcomes[-1].kind in ("wrong", "crash", "time-out", "memory"):
                path.rename(keep / name)
            else:
                path.unlink()
    return outcomes


def _part(numbers: Sequence[int] | None, seed: int, reader: str, clips: Mapping[str, bytes], keep: Path | None):
    """Of some mutants, or of what is crafted."""
    files = crafted(clips) if numbers is None else (mutant(number, seed, clips) for number in numbers)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = decode_all(files, reader, Path(folder), keep)
    return outcomes


def _container(name: str) -> str:
    return name.partition(".")[2]


def _way(name: str) -> str:
    return name.partition("-")[2].partition(".")[0] or "crafted"


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines: how many of each outcome by container and by way, the slowest, the largest, and all that is bad."""
    kinds = sorted({outcome.kind for outcome in outcomes})
    for part in (_container, _way):
        yield "\t".join((part.__name__[1:], *kinds))
        counts = Counter((part(outcome.name), outcome.kind) for outcome in outcomes)
        for row in sorted({row for row, _ in counts}):
            yield "\t".join((row, *(str(counts[row, kind]) for kind in kinds)))
    total = Counter(outcome.kind for outcome in outcomes)
    yield f"{len(outcomes)} files: " + ", ".join(f"{number} {kind}" for kind, number in total.most_common())
    for outcome in sorted(outcomes, key=lambda outcome: -outcome.seconds)[:5]:
        yield f"{outcome.seconds:.1f} s: {outcome.name}: {outcome.kind}"
    for outcome in sorted(outcomes, key=lambda outcome: -outcome.peak)[:5]:
        yield f"{outcome.peak / 1e6:.0f} MB: {outcome.name}: {outcome.kind}"
    for outcome in outcomes:
        if outcome.kind in ("wrong", "crash", "time-out", "memory"):
            yield f"{outcome.kind}: {outcome.name}: {outcome.message}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", default="auto")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=Path, help="a folder for files that crash, hang or are answered wrongly")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="a file of outcomes, as JSON lines")
    parser.add_argument("--write", type=Path, help="a folder to make the files in, in place of decoding them")
    asked = parser.parse_args()
    outcomes = [Outcome(*json.loads(line)) for line in asked.log.open()] if asked.log.exists() else []
    known = {outcome.name.partition("-")[0] for outcome in outcomes}
    clips = whole_clips(next(path for path in packaged_clips() if path.name == "bikes.mp4"))
    numbers = [n for n in range(asked.first, asked.first + asked.mutants) if f"{n:06}" not in known]
    if asked.write:
        asked.write.mkdir(exist_ok=True)
        for name, content in (*crafted(clips), *(mutant(n, asked.seed, clips) for n in numbers)):
            (asked.write / name).write_bytes(content)
        return
    parts = [numbers[i : i + _BATCH] for i in range(0, len(numbers), _BATCH)]
    run = partial(_part, seed=asked.seed, reader=asked.reader, clips=clips, keep=asked.keep)
    with ProcessPoolExecutor(asked.processes) as processes, asked.log.open("a") as log:
        for done in processes.map(run, [None, *parts]):
            outcomes += done
            log.writelines(json.dumps(outcome) + "\n" for outcome in done)
            log.flush()
            sys.stderr.write(f"\r{len(outcomes)} files")
    print("", *summary(outcomes), sep="\n")


if __name__ == "__main__":
    main()
