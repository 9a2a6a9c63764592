"""The clips of a training set as tensors: decoded once, in processes that can be killed, and kept in a cache."""

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.dataset import Sample
from xclip_cli.dataset.sources import THUMBNAIL, Findings, thumbnails
from xclip_cli.errors import OutputError, VideoError
from xclip_cli.files import cache_dir, checked, content_sha256, replacing
from xclip_cli.finetune.augment import augment
from xclip_cli.tagger.preprocess import preprocess, resizing
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.types import Clip

CANDIDATES = 3  # frames of each part of a video that training chooses from; the middle one is what tagging looks at
VIEWS = 4  # of each training clip, where features are kept
CACHE_BYTES = 16 * 2**30
_VERSION = 3

Encode = Callable[[Tensor], tuple[Tensor, ...]]  # (V, T, 3, S, S) -> the frozen front's output on the CPU, V first


class Seen(NamedTuple):
    """What stays known of a clip that was read: its length, and frames as `sources.thumbnails`."""

    seconds: float
    thumbnails: np.ndarray


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
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        known = [self._seen(sample, varied) for sample in samples]
        self._missing = known.count(None)
        for done, (sample, outcome) in enumerate(self._ahead(samples, known, varied), 1):
            if isinstance(outcome, VideoError):
                findings.unreadable[sample] = outcome.message
            else:
                findings.seconds[sample], findings.thumbnails[sample] = outcome
                if sample.path not in findings.sha256:
                    findings.sha256[sample.path] = content_sha256(Path(sample.path))
            on_progress(done, len(samples))
        return findings

    def evaluation(self, sample: Sample) -> tuple[Tensor, ...]:
        """What tagging would look at: the network's input float32 (T, 3, S, S), or the front's output."""
        tensors = self._load(sample, (False, True))
        if self.encode is None:
            return (self._plain(tensors[0].numpy()),)
        return tuple(tensor.float() for tensor in tensors)

    def training(self, sample: Sample, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The same, varied: a frame anywhere in each part of the video, cropped, mirrored and recoloured."""
        if self.encode is None:
            [frames] = self._load(sample, (True,))
            return (self._vary(frames.numpy(), sample, generator),)
        view = 1 + int(torch.randint(VIEWS, (), generator=generator))
        return tuple(tensor.float() for tensor in self._load(sample, (True,), view))

    def _plain(self, frames: np.ndarray) -> Tensor:
        return preprocess(self._candidates(frames)[CANDIDATES // 2], self.spec)[0]

    def _vary(self, frames: np.ndarray, sample: Sample, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(CANDIDATES, (self.num_frames,), generator=generator).numpy()
        picked = self._candidates(frames)[chosen, np.arange(self.num_frames)]
        return augment(picked, self.spec, generator, flip=not sample.has_side)

    def _candidates(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(CANDIDATES, self.num_frames, *frames.shape[1:])

    def _ahead(
        self, samples: Sequence[Sample], known: Sequence[Seen | None], varied: bool
    ) -> Iterator[tuple[Sample, Seen | VideoError]]:
        """What is seen of each clip, in order, or why it cannot be read; decoding runs ahead of what is not known."""
        waiting: deque[tuple[Sample, Seen | Future]] = deque()
        for sample, seen in zip(samples, known, strict=True):
            waiting.append((sample, self._submit(sample) if seen is None else seen))
            if len(waiting) > self.pool.capacity:
                yield self._finish(*waiting.popleft(), varied)
        while waiting:
            yield self._finish(*waiting.popleft(), varied)

    def _submit(self, sample: Sample):
        span = (sample.start_seconds, sample.end_seconds)
        return self.pool.submit(sample.path, self.num_frames, CANDIDATES, *span, resize=resizing(self.spec))

    def _finish(self, sample: Sample, outcome: Seen | Future, varied: bool) -> tuple[Sample, Seen | VideoError]:
        if isinstance(outcome, Seen):
            return sample, outcome
        try:
            clip = outcome.result()
        except VideoError as error:
            return sample, error
        info = clip.info
        seconds = float((sample.end_seconds or info.end_seconds) - (sample.start_seconds or info.start_seconds))
        seen = Seen(seconds, thumbnails(self._candidates(clip.frames)[CANDIDATES // 2]))
        if self._keeping is not False:
            tensors = self._make(clip, sample, varied)
            if self._keeping is None:
                self._keeping = self._make_room(self._missing * sum(tensor.nbytes for tensor in tensors))
            if self._keeping:
                self._write(sample, varied, tensors, seen)
        return sample, seen

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

    def _load(self, sample: Sample, ways: Sequence[bool], view: int = 0) -> tuple[Tensor, ...]:
        """One view of what is kept in the first of these ways (varied or not), or made now where nothing is."""
        import safetensors

        for varied in ways:
            with (
                suppress(OSError, safetensors.SafetensorError, IndexError, RuntimeError),
                safetensors.safe_open(self.path_of(sample, varied), "pt") as f,
            ):
                tensors = tuple(f.get_slice(name)[view] for name in sorted(f.keys()))
                if self._is_sound(tensors):
                    return tensors
        return tuple(tensor[view] for tensor in self._make(self._submit(sample).result(), sample, ways[0]))

    def _is_sound(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether a clip in the cache is of the kind that `_make` gives: anybody may have changed it."""
        if self.encode is None:
            kinds = [(tensor.dtype, tensor.ndim, len(tensor)) for tensor in tensors if tensor.ndim]
            return kinds == [(torch.uint8, 4, CANDIDATES * self.num_frames)] and tensors[0].shape[-1] == 3
        return bool(tensors) and all(t.dtype == torch.float16 and bool(t.isfinite().all()) for t in tensors)

    def _seen(self, sample: Sample, varied: bool) -> Seen | None:
        """Of a clip in the cache, which is marked as used; None where the clip is not in it."""
        import safetensors

        try:
            path = self.path_of(sample, varied)
            with safetensors.safe_open(path, "pt") as file:
                about = file.metadata()
            grey = np.frombuffer(bytes.fromhex(about["thumbnails"]), np.uint8)
            seconds = checked(float(about["seconds"]), float, "seconds")
            seen = Seen(seconds, grey.reshape(self.num_frames, THUMBNAIL, THUMBNAIL))
            self._bytes += path.stat().st_size
        except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
            return None
        with suppress(OSError):
            os.utime(path)
        return seen

    def _write(self, sample: Sample, varied: bool, tensors: tuple[Tensor, ...], seen: Seen) -> None:
        import safetensors
        from safetensors.torch import save_file

        content = {str(i): tensor.contiguous() for i, tensor in enumerate(tensors)}
        about = {"seconds": str(seen.seconds), "thumbnails": seen.thumbnails.tobytes().hex()}
        try:
            with replacing(self.path_of(sample, varied)) as draft:
                save_file(content, draft, about)
        except (OSError, safetensors.SafetensorError) as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> OutputError:
        hint = "free space, or choose another folder: XCLIP_CACHE=/path xclip finetune ..."
        return OutputError(f"the cache {str(self._folder)!r} cannot be written: {error}", hint)

    def path_of(self, sample: Sample, varied: bool) -> Path:
        """The file in the cache. OSError where the clip is gone."""
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
