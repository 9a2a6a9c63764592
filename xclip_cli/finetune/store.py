"""The clips of a training set as tensors: decoded once, in processes that can be killed, and kept in a cache."""

import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xclip_cli.errors import OutputError, VideoError
from xclip_cli.files import cache_dir, content_sha256, replacing
from xclip_cli.preprocess import preprocess
from xclip_cli.registry import Preprocessing
from xclip_cli.samples import Sample
from xclip_cli.video.types import Clip
from xclip_cli.video.worker import DecodePool

from .augment import augment

CANDIDATES = 3  # frames of each part of a video that training chooses from; the middle one is what tagging looks at
VIEWS = 4  # of each training clip, where features are kept
CACHE_BYTES = 16 * 2**30
_VERSION = 2
_DRAFT_SECONDS = 3600  # a draft that is older is no longer being written

Encode = Callable[[Tensor], tuple[Tensor, ...]]  # (V, T, 3, S, S) -> the frozen front's output on the CPU, V first


@dataclass
class Findings:
    """What reading the clips brought to light: seconds of each, why some cannot be read, SHA-256 of the files."""

    seconds: dict[Sample, float] = field(default_factory=dict)
    unreadable: dict[Sample, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Clips that were read, or could not be."""
        return len(self.seconds) + len(self.unreadable)

    def add(self, more: "Findings") -> None:
        """Takes in what another reading found."""
        self.seconds |= more.seconds
        self.unreadable |= more.unreadable
        self.sha256 |= more.sha256

    def duplicates(
        self, train: Sequence[Sample], val: Sequence[Sample]
    ) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Pairs of paths of one content: across the splits (a leak: learned from, validated on), and within one."""
        first: dict[tuple[str, float | None], tuple[Sample, bool]] = {}
        across, within = [], []
        for sample, held in [(s, False) for s in train] + [(s, True) for s in val]:
            if sample not in self.seconds:
                continue
            key = self.sha256[sample.path], sample.start_seconds
            if key in first:
                twin, twin_held = first[key]
                (across if held != twin_held else within).append((twin.path, sample.path))
            first.setdefault(key, (sample, held))
        return across, within


class ClipStore:
    """Tensors of samples. What is kept depends on the frozen front of the network.

    Without a front, shrunk frames uint8 (CANDIDATES * T, H, W, 3), varied anew at every use; with one, its output for
    the view of tagging and for VIEWS varied ones, float16. A file is known by path, size, time and span, the rest by
    ``fingerprint``. The folder never holds more than CACHE_BYTES: what was not used for longest goes first, and clips
    of a run for which that is too little are decoded at every use.
    """

    def __init__(
        self,
        spec: Preprocessing,
        num_frames: int,
        pool: DecodePool,
        encode: Encode | None = None,
        fingerprint: str = "",
    ):
        self.spec, self.num_frames, self.pool, self.encode = spec, num_frames, pool, encode
        self._fingerprint = f"{_VERSION} {spec} {num_frames} {fingerprint if encode else None}"
        self._folder = cache_dir() / "clips"
        self._bytes = 0  # of this run's clips that are kept, or will be
        self._missing = 0  # clips that are not kept, when the reading began
        self._keeping: bool | None = None  # whether those that are not kept yet fit in; None before the first is read

    def prepare(self, samples: Sequence[Sample], varied: bool, on_progress: Callable[[int, int], None]) -> Findings:
        """Reads every clip and keeps its tensors; ``varied`` where they are to be learned from. Never fails for a clip.

        ``on_progress(done, total)`` is called after each.
        """
        findings, self._keeping = Findings(), None
        self._folder.mkdir(parents=True, exist_ok=True)
        _remove_drafts(self._folder)
        known = [self._seconds(sample, varied) for sample in samples]
        self._missing = known.count(None)
        for done, (sample, outcome) in enumerate(self._ahead(samples, known, varied), 1):
            if isinstance(outcome, VideoError):
                findings.unreadable[sample] = outcome.message
            else:
                findings.seconds[sample] = outcome
                if sample.path not in findings.sha256:
                    findings.sha256[sample.path] = content_sha256(Path(sample.path))
            on_progress(done, len(samples))
        return findings

    def evaluation(self, sample: Sample) -> tuple[Tensor, ...]:
        """What tagging would look at: the network's input float32 (T, 3, S, S), or the front's output."""
        tensors = self._load(sample, varied=False)
        if self.encode is None:
            return (self._plain(tensors[0].numpy()),)
        return tuple(tensor.float() for tensor in tensors)

    def training(self, sample: Sample, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The same, varied: a frame anywhere in each part of the video, cropped, mirrored and recoloured."""
        if self.encode is None:
            [frames] = self._load(sample, varied=True)
            return (self._vary(frames.numpy(), sample, generator),)
        view = 1 + int(torch.randint(VIEWS, (), generator=generator))
        return tuple(tensor.float() for tensor in self._load(sample, True, view))

    def _plain(self, frames: np.ndarray) -> Tensor:
        return preprocess(self._candidates(frames)[CANDIDATES // 2], self.spec)[0]

    def _vary(self, frames: np.ndarray, sample: Sample, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(CANDIDATES, (self.num_frames,), generator=generator).numpy()
        picked = self._candidates(frames)[chosen, np.arange(self.num_frames)]
        return augment(picked, self.spec, generator, flip=not sample.has_side)

    def _candidates(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(CANDIDATES, self.num_frames, *frames.shape[1:])

    def _ahead(
        self, samples: Sequence[Sample], known: Sequence[float | None], varied: bool
    ) -> Iterator[tuple[Sample, float | VideoError]]:
        """Seconds of each clip, in order, or why it cannot be read; decoding runs ahead of what is not ``known``."""
        waiting: deque[tuple[Sample, float | Future]] = deque()
        for sample, seconds in zip(samples, known, strict=True):
            waiting.append((sample, self._submit(sample) if seconds is None else seconds))
            if len(waiting) > self.pool.capacity:
                yield self._finish(*waiting.popleft(), varied)
        while waiting:
            yield self._finish(*waiting.popleft(), varied)

    def _submit(self, sample: Sample):
        span = (sample.start_seconds, sample.end_seconds)
        return self.pool.submit(sample.path, self.num_frames, CANDIDATES, *span, resize=self.spec.resizing())

    def _finish(self, sample: Sample, outcome: float | Future, varied: bool) -> tuple[Sample, float | VideoError]:
        if isinstance(outcome, float):
            return sample, outcome
        try:
            clip = outcome.result()
        except VideoError as error:
            return sample, error
        seconds = float((sample.end_seconds or clip.info.duration_seconds) - (sample.start_seconds or 0))
        if self._keeping is not False:
            tensors = self._make(clip, sample, varied)
            if self._keeping is None:
                self._keeping = self._make_room(self._missing * sum(tensor.nbytes for tensor in tensors))
            if self._keeping:
                self._write(sample, varied, tensors, seconds)
        return sample, seconds

    def _make_room(self, needed: int) -> bool:
        """Whether so many bytes more may be kept; if so, what was not used for longest makes room for them."""
        if self._bytes + needed > CACHE_BYTES or needed > shutil.disk_usage(self._folder).free / 2:
            return False
        self._bytes += needed
        files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in self._folder.glob("*.safetensors"))
        excess = needed + sum(size for _, size, _ in files) - CACHE_BYTES
        for _, size, file in files:
            if excess <= 0:
                break
            file.unlink(missing_ok=True)
            excess -= size
        return True

    def _make(self, clip: Clip, sample: Sample, varied: bool) -> tuple[Tensor, ...]:
        frames = clip.frames
        if self.encode is None:
            return (torch.from_numpy(frames)[None],)
        views = [self._plain(frames)]
        for view in range(VIEWS if varied else 0):
            views.append(self._vary(frames, sample, seeded(0, view, os.path.basename(sample.path))))
        with torch.inference_mode():
            parts = [self.encode(view.unsqueeze(0)) for view in views]
        return tuple(torch.cat(tensors).half() for tensors in zip(*parts, strict=True))

    def _load(self, sample: Sample, varied: bool, view: int = 0) -> tuple[Tensor, ...]:
        """One view of what is kept, or made now where nothing is."""
        import safetensors

        with (
            suppress(OSError, safetensors.SafetensorError),
            safetensors.safe_open(self._path(sample, varied), "pt") as f,
        ):
            return tuple(f.get_slice(name)[view] for name in sorted(f.keys()))
        return tuple(tensor[view] for tensor in self._make(self._submit(sample).result(), sample, varied))

    def _seconds(self, sample: Sample, varied: bool) -> float | None:
        """Of a clip in the cache, which is marked as used; None where the clip is not in it."""
        import safetensors

        try:
            path = self._path(sample, varied)
            with safetensors.safe_open(path, "pt") as file:
                seconds = float(file.metadata()["seconds"])
            self._bytes += path.stat().st_size
        except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
            return None
        with suppress(OSError):
            os.utime(path)
        return seconds

    def _write(self, sample: Sample, varied: bool, tensors: tuple[Tensor, ...], seconds: float) -> None:
        import safetensors
        from safetensors.torch import save_file

        content = {str(i): tensor.contiguous() for i, tensor in enumerate(tensors)}
        try:
            with replacing(self._path(sample, varied)) as draft:
                save_file(content, draft, {"seconds": str(seconds)})
        except (OSError, safetensors.SafetensorError) as error:
            hint = "free space, or choose another folder: XCLIP_CACHE=/path xclip finetune ..."
            raise OutputError(f"the cache {str(self._folder)!r} cannot be written: {error}", hint) from error

    def _path(self, sample: Sample, varied: bool) -> Path:
        """OSError where the clip is gone."""
        state = os.stat(sample.path)
        stamp = (
            os.path.abspath(sample.path),
            state.st_size,
            state.st_mtime_ns,
            sample.start_seconds,
            sample.end_seconds,
        )
        views = varied and self.encode is not None and (VIEWS, not sample.has_side)
        name = hashlib.sha256(f"{self._fingerprint} {stamp} {views}".encode()).hexdigest()
        return self._folder / f"{name[:40]}.safetensors"


def seeded(*what: object) -> torch.Generator:
    """A generator that depends on these values alone, in every process."""
    digest = hashlib.sha256(repr(what).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def _remove_drafts(folder: Path) -> None:
    """Takes away what killed processes left half written."""
    for draft in folder.glob(".*"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                draft.unlink()
