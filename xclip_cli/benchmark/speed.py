"""What networks cost, side by side: every one has its turn in every round, so that a slow minute hits them all."""

import json
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xclip_cli import __version__, labels
from xclip_cli.benchmark.measure import Timing, clock, machine, matrix_product, peak_bytes, repeat
from xclip_cli.benchmark.networks import Network, Tagging, tagging
from xclip_cli.benchmark.rivals import choose, rival
from xclip_cli.benchmark.settings import SpeedSettings
from xclip_cli.errors import OutputError
from xclip_cli.files import write_text
from xclip_cli.outputs.csv import table
from xclip_cli.outputs.plots import draw_throughput
from xclip_cli.settings import num_cores
from xclip_cli.tagger.encoder import precision, resolve_device
from xclip_cli.tagger.preprocess import crops, normalise, resizing
from xclip_cli.video.display import Resize
from xclip_cli.video.pool import DecodePool

LABEL_COUNTS = (10, 400)
_CALL_SECONDS = 8.0  # no batch is tried that would keep a network longer
_GAIN = 1.03  # a larger batch that brings less is not worth its memory
_BATCHES = {"cpu": (1, 2, 4), "cuda": (1, 4, 16, 64)}
_COMPARISONS = 3
_SEED = 0

OnProgress = Callable[[str], None]

# What a person sees, key, head and digits: of every network, and of where the time of those of this package goes.
COLUMNS = (
    ("name", "network", None),
    ("weights", "weights", None),
    ("num_frames", "frames", None),
    ("parameters", "M param", 1),
    ("gigamacs", "GMAC", 1),
    ("gigamacs_with_text", "+text", 1),
    ("latency_p50", "p50 ms", 1),
    ("latency_p95", "p95 ms", 1),
    ("throughput", "clips/s", 2),
    ("batch", "batch", None),
    ("of_matrix_percent", "% of matmul", 0),
    ("memory", "MB", 0),
    ("accuracy", "K400 %", 1),
)
PART_COLUMNS = (
    ("name", "one clip, ms", None),
    ("decode", "decode", 1),
    ("preprocess", "preprocess", 1),
    ("latency_p50", "encoder", 1),
    ("text_10", "text, 10 labels", 1),
    ("text_400", "400", 1),
    ("scoring_10", "scoring, 10 labels", 1),
    ("scoring_400", "400", 1),
)
_PARTS = ("decode", "preprocess", *(f"{part}_{count}" for part in ("text", "scoring") for count in LABEL_COUNTS))


@dataclass(frozen=True)
class Speed:
    """A row for each network, see `_row`, and what they ran on."""

    machine: dict[str, str | int | float]
    rows: list[dict[str, Any]]

    def write(self, folder: Path) -> None:
        """``speed.csv``, ``speed.json`` and ``speed.png``. Raises OutputError."""
        title = f"{self.machine['device']}, {self.machine['threads']} threads, {self.machine['dtype']}"
        text = json.dumps({"machine": self.machine, "rows": self.rows}, indent=1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "speed.csv", table([self.rows[0], *(row.values() for row in self.rows)]))
            write_text(folder / "speed.json", text + "\n")
            draw_throughput(self.rows, title, folder / "speed.png")
        except OSError as error:
            raise OutputError(f"cannot write into {str(folder)!r}: {error.strerror}", "choose another -o") from error


def run(settings: SpeedSettings, on_progress: OnProgress) -> Speed:
    """Times the networks; ``on_progress`` hears in a line what is being done. Raises UsageError and ModelError."""
    device, names = resolve_device(settings.device), choose(settings.against)
    dtype = getattr(torch, settings.dtype)
    torch.manual_seed(_SEED)
    with _threads(settings.threads), torch.inference_mode(), precision(device, settings.dtype):
        networks = []
        for name in (*settings.models, *names):
            on_progress(f"building {name}")
            networks.append(tagging(name) if name in settings.models else rival(name))
            networks[-1].module.to(device)
        memory = [_memory(network, device) for network in networks]
        product, gigamacs = matrix_product(device, dtype)
        product()
        *latency, of_product = _latencies(
            [*(_call(n, 1, device) for n in networks), product], device, settings, on_progress
        )
        rate = gigamacs / of_product.median
        best = [_throughput(*pair, device, on_progress) for pair in zip(networks, latency, strict=True)]
        rows = []
        for i, network in enumerate(networks):
            on_progress(f"measuring the other parts of {network.name}")
            parts = _parts(network, settings, device) if isinstance(network, Tagging) else {}
            rows.append(_row(network, latency[i], best[i], memory[i], rate, parts))
    facts = {
        "device": machine(device),
        "cores": num_cores(),
        "threads": settings.threads or torch.get_num_threads(),
        "dtype": settings.dtype,
        "matrix_gigamacs_per_second": round(rate, 3),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "xclip_cli": __version__,
        "rounds": settings.rounds,
        "seed": _SEED,
    }
    return Speed(facts, rows)


def _row(
    network: Network, latency: Timing, best: tuple[int, float], memory: int | None, rate: float, parts: dict
) -> dict[str, Any]:
    """Millions of parameters, 1e9 multiply-adds, milliseconds, clips a second, megabytes of one network.

    ``ours`` counts as of this package. ``spread_percent`` is half the distance between the quartiles of the latency, in
    percent of it; ``of_matrix_percent`` what the encoder reaches of the machine's matrix-product rate. The parts are of
    one clip, and of so many labels; None where a network has no such part, or it was not measured.
    """
    macs, (batch, throughput) = network.gigamacs(), best
    ours = isinstance(network, Tagging)
    return {
        "name": network.name,
        "ours": ours,
        "weights": network.weights,
        "num_frames": network.num_frames,
        "side": network.shape[-1],
        "parameters": network.parameters / 1e6,
        "gigamacs": macs,
        "gigamacs_with_text": network.gigamacs_with_text() if ours else None,
        "latency_p50": 1000 * latency.median,
        "latency_p95": 1000 * latency.percentile(95),
        "spread_percent": 100 * latency.spread,
        "batch": batch,
        "throughput": throughput,
        "of_matrix_percent": 100 * macs * throughput / rate,
        "memory": memory and memory / 1e6,
        "accuracy": network.accuracy,
        **dict.fromkeys(_PARTS),
        **parts,
    }


def _call(network: Network, batch: int, device: torch.device) -> Callable[[], object]:
    clips = torch.randn(batch, *network.shape, generator=torch.Generator().manual_seed(_SEED)).to(device)
    return lambda: network.encode(network.module, clips)


def _memory(network: Network, device: torch.device) -> int | None:
    """Bytes of the weights and of one clip's pass."""
    needed = peak_bytes(_call(network, 1, device), device)
    return needed and needed + sum(p.nbytes for p in network.module.parameters())


def _latencies(
    calls: Sequence[Callable[[], object]], device: torch.device, settings: SpeedSettings, on_progress: OnProgress
) -> list[Timing]:
    """Of each call, all of which were made once before; fast ones have several turns a round."""
    timings = [Timing() for _ in calls]
    for turn in range(settings.rounds):
        on_progress(f"one clip at a time, round {turn + 1} of {settings.rounds}")
        for call, timing in zip(calls, timings, strict=True):
            timing.seconds.append(clock(call, device))
            while len(timing.seconds) < 4 * (turn + 1) and timing.median < 0.5:
                timing.seconds.append(clock(call, device))
    return timings


def _throughput(network: Network, latency: Timing, device: torch.device, on_progress: OnProgress) -> tuple[int, float]:
    """The best batch and its clips a second; a larger one is tried while it brings something.

    Each is compared with single clips beside it, and what it gains counts on top of the rounds' median.
    """
    best, gain = 1, 1.0
    for batch in _BATCHES.get(device.type, _BATCHES["cpu"])[1:]:
        if batch / gain * latency.median > _CALL_SECONDS:
            break
        on_progress(f"{network.name}, {batch} clips at a time")
        try:
            found = _gain(network, batch, device)
        except torch.OutOfMemoryError:
            on_progress(f"{network.name}, {batch} clips at a time: out of memory")
            break
        if found < _GAIN * gain:
            break
        best, gain = batch, found
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the next network's
    return best, gain / latency.median


def _gain(network: Network, batch: int, device: torch.device) -> float:
    """How many times as fast a batch is as its clips one by one."""
    single, many = _call(network, 1, device), _call(network, batch, device)
    many()
    return statistics.median(batch * clock(single, device) / clock(many, device) for _ in range(_COMPARISONS))


def _parts(network: Tagging, settings: SpeedSettings, device: torch.device) -> dict[str, float]:
    """Milliseconds of what stands beside the encoder: decode, preprocess, and text and scoring by number of labels."""
    frames, seconds = _decoded(settings, network.num_frames, resizing(network.preprocessing))
    spec, parts = network.preprocessing, {"decode": seconds}

    def prepare():
        return normalise(crops(frames, spec).to(device), spec)

    parts["preprocess"] = repeat(prepare, device).median
    features = network.module.encode_video(prepare())
    names = [label.name for label in labels.builtin("kinetics400").labels]
    for count in LABEL_COUNTS:
        texts = names[:count]
        with torch.autocast(device.type, enabled=False):  # as when tagging: features are cached in full precision
            parts[f"text_{count}"] = repeat(lambda texts=texts: network.text_encoder(texts), device, 2).median
            text = network.text_encoder(texts).to(device)
        score = repeat(lambda text=text: network.module.similarity(features, text), device, 5)
        parts[f"scoring_{count}"] = score.median
    return {name: 1000 * value for name, value in parts.items()}


def _decoded(settings: SpeedSettings, num_frames: int, resize: Resize | None = None) -> tuple[np.ndarray, float]:
    """The frames of one clip, resized as ``resize`` says, and the median of the seconds that a process needs for it."""
    with tempfile.TemporaryDirectory() as folder, DecodePool(settings.reader, workers=1) as pool:
        video = settings.video or _made_clip(Path(folder) / "clip.mp4")

        def decode() -> np.ndarray:
            return pool.submit(video, num_frames, resize=resize).result().frames

        frames = decode()  # the process starts with the first
        timing = repeat(decode, torch.device("cpu"))
    return frames, timing.median


def _made_clip(path: Path, seconds: int = 10, size: tuple[int, int] = (640, 360), fps: int = 30) -> str:
    """A drifting pattern under noise, the same on every machine."""
    import cv2

    random = np.random.default_rng(_SEED)
    ground = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), size, interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    for i in range(seconds * fps):
        noise = random.integers(0, 16, ground.shape, np.uint8)
        writer.write(np.roll(ground, 2 * i, axis=1) // 2 + noise)
    writer.release()
    return str(path)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
