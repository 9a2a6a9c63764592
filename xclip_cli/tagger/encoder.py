"""Encoder: pixels -> features. It owns the network, its device and the decoder processes."""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import torch
from PIL.Image import Image
from torch import nn

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.errors import UsageError, VideoError
from xclip_cli.labels import LabelSet
from xclip_cli.model.xclip import VideoFeatures
from xclip_cli.settings import TagSettings, Views, takes
from xclip_cli.tagger.embeddings import Embeddings
from xclip_cli.tagger.preprocess import crops, normalise, resizing
from xclip_cli.tagger.textcache import text_features
from xclip_cli.video.ahead import prefetch
from xclip_cli.video.display import Resize
from xclip_cli.video.memory import NAME, MemoryVideo
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.reader import sample_clip
from xclip_cli.video.stream import Piece, Stream, Windowing
from xclip_cli.video.types import Clip


def resolve_device(name: str) -> torch.device:
    """Return the device that `auto|cpu|cuda|cuda:N|mps` means here. Raises UsageError for one that is absent."""
    count, has_mps = torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if count else "mps" if has_mps else "cpu")
    present = ["cpu", *["cuda"] * bool(count), *(f"cuda:{i}" for i in range(count)), *["mps"] * has_mps]
    if name not in present:
        raise UsageError(f"device {name!r} is not available on this machine", f"use --device {' or '.join(present)}")
    return torch.device(name)


def precision(device: torch.device, dtype: str) -> torch.autocast:
    """The context in which a network computes in `dtype`, one of settings.DTYPES; float32 changes nothing."""
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")


class Encoder(AbstractContextManager):
    """One opened model: features of videos and of texts, from any thread.

    ``model`` is a name, a path or an opened Checkpoint. ``settings`` are Views; single ``options`` of them go before.
    Decoder processes start when first needed, up to ``workers``, and serve all later calls. They end with `close`, with
    the encoder or with the program; an encoder is a context manager.

    Nothing is changed after construction. Threads compute features of videos side by side, without a lock; features of
    texts are computed by one thread at a time; decoders are handed out under the pool's lock.
    Raises ModelError if the model cannot be opened, UsageError for a wrong option.
    """

    @takes(Views)
    def __init__(self, model: str | Checkpoint = TagSettings.model, settings: Views | None = None, **options):
        self.settings = settings or Views(**options)
        self.device = resolve_device(self.settings.device)
        self.checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model)
        self.network: nn.Module = self.checkpoint.video_model().to(self.device)
        self.pool = DecodePool(self.settings.reader, self.settings.workers, self.settings.decode_timeout_seconds)
        self._text_lock = threading.Lock()
        # An accelerator computes one batch while the next is cropped and sent; a CPU has nothing to wait for.
        on_cpu = self.device.type == "cpu"
        self.batch_size, self.batches_ahead = (1, 0) if on_cpu else (self.settings.batch_size, 1)

    def __repr__(self) -> str:
        return f"Encoder({self.checkpoint.name!r}, device={str(self.device)!r}, dtype={self.settings.dtype!r})"

    def close(self) -> None:
        """End the decoder processes and give up what they decode; a later call starts new ones."""
        self.pool.close()

    def __exit__(self, *_) -> None:
        self.close()

    def with_network(self, network: nn.Module) -> "Encoder":
        """Return the same encoder, with the same decoders, but another network."""
        other = copy.copy(self)
        other.network = network
        return other

    def encode_text(self, label_set: LabelSet) -> torch.Tensor:
        """Features float32 (N, E) of labels, then of background entries, on the device. Raises LabelError."""
        with self._text_lock:
            return text_features(label_set, self.checkpoint).to(self.device)

    def embed(self, path: str, windowing: Windowing | None = None) -> Embeddings:
        """Return the features of a whole video and of its windows. Raises VideoError if it cannot be decoded."""
        [(_, found)] = self.embed_many([path], windowing)
        if isinstance(found, VideoError):
            raise found
        return found

    def embed_many(
        self,
        paths: Iterable[str],
        windowing: Windowing | None = None,
        on_progress: Callable[[float, float], None] = lambda seconds, end: None,
    ) -> Iterator[tuple[str, Embeddings | VideoError]]:
        """Yield `(path, Embeddings)` in input order, or `(path, VideoError)` for a video that cannot be decoded.

        Without ``windowing`` windows are those of ``window_seconds="auto"``. ``on_progress(seconds, end)`` is called
        window by window. A video is decoded twice: once over its whole, and once window by window.
        """
        windowing = windowing or Windowing.of(self.checkpoint.num_frames)
        with self.pool.session() as pool:

            def begin(path: str) -> tuple[str, Future[Clip], Stream]:
                whole = pool.submit(path, self.checkpoint.num_frames, resize=self.resize)
                return path, whole, pool.stream(path, windowing, self.resize)

            for path, whole, stream in prefetch(map(begin, paths), self.settings.workers):
                try:
                    yield path, self._embed(whole.result, stream, on_progress)
                except VideoError as error:
                    yield path, error

    def embed_frames(
        self, frames: np.ndarray | Sequence[Image], fps: float, windowing: Windowing | None = None
    ) -> Embeddings:
        """Return what `embed` gives of a file with these frames; they are as in `Tagger.tag_frames`."""
        video = MemoryVideo(frames, fps)
        windowing = windowing or Windowing.of(self.checkpoint.num_frames)
        whole = partial(sample_clip, video, NAME, self.checkpoint.num_frames, resize=self.resize)
        return self._embed(whole, video.pieces(windowing, self.resize))

    def _embed(
        self,
        whole: Callable[[], Clip],
        pieces: Iterable[Piece],
        on_progress: Callable[[float, float], None] = lambda seconds, end: None,
    ) -> Embeddings:
        tokens: dict[int, torch.Tensor] = {}
        windows, spans, scenes = [], [], []
        for piece in pieces:  # to its end, before the whole may fail: who decodes it waits for that
            windows += [_array(features.video) for features in self.encode_windows(piece, tokens)]
            spans.append(piece.spans)
            scenes.append(piece.scenes)
            on_progress(piece.clip.times_seconds.max(), piece.clip.stop_seconds)
        clip = whole()
        features = self.encode([clip])
        return Embeddings(
            whole=_array(features.video)[0],
            patches=None if features.patches is None else _array(features.patches)[0],
            windows=np.concatenate(windows),
            spans=np.concatenate(spans),
            scenes=np.concatenate(scenes),
            start_seconds=clip.info.start_seconds,
            duration_seconds=clip.info.duration_seconds,
            end_seconds=piece.clip.stop_seconds,
            warnings=clip.warnings,
            timeline_warnings=piece.clip.warnings,
            reader=clip.reader,
        )

    @property
    def resize(self) -> Resize:
        """How decoders resize frames: they send less, and the features are the same."""
        return resizing(self.checkpoint.preprocessing, self.settings.num_crops)

    def pixels(self, clips: Sequence[Clip]) -> torch.Tensor:
        """Network input uint8 (B, V, T, 3, S, S) on the device: V views of each video."""
        settings, spec = self.settings, self.checkpoint.preprocessing
        views = torch.stack([crops(clip.frames, spec, settings.num_crops) for clip in clips])  # (B, crops, K * T, ...)
        views = views.unflatten(2, (settings.num_clips, -1)).flatten(1, 2)
        if self.device.type == "cuda":
            views = views.pin_memory()  # so that it is sent while the device computes
        return views.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def encode(self, clips: Sequence[Clip]) -> VideoFeatures:
        """Features of every view (B * V) of decoded videos, each of num_clips x num_frames frames, on the device."""
        pixels = self.pixels(clips).flatten(0, 1)
        parts = pixels.split(1 if self.device.type == "cpu" else len(pixels))  # a CPU is faster with one at a time
        with precision(self.device, self.settings.dtype):
            features = [self.network.encode_video(normalise(part, self.checkpoint.preprocessing)) for part in parts]
        return VideoFeatures(*(None if x[0] is None else torch.cat(x) for x in zip(*features, strict=True)))

    @torch.inference_mode()
    def encode_windows(self, piece: Piece, tokens: dict[int, torch.Tensor]) -> list[VideoFeatures]:
        """Features of a piece's windows, so many views (B * V) at a time, on the device.

        ``tokens`` holds the features of single frames, by number. The piece's own frames are added to it, and those
        that no later window needs are taken away. Windows of the same frames are computed once.
        """
        views = crops(piece.clip.frames, self.checkpoint.preprocessing, self.settings.num_crops)
        at_once = self.checkpoint.num_frames if self.device.type == "cpu" else len(piece.clip.frames)
        numbers = torch.from_numpy(piece.numbers).split(at_once)
        for frames, some in zip(views.transpose(0, 1).split(at_once), numbers, strict=True):
            pixels = normalise(frames.to(self.device).flatten(0, 1), self.checkpoint.preprocessing)
            with precision(self.device, self.settings.dtype):
                new = self.network.frame_tokens(pixels).unflatten(0, frames.shape[:2])  # (n, V, ...)
            tokens.update(zip(some.tolist(), new, strict=True))
        windows, which = np.unique(piece.index, axis=0, return_inverse=True)  # their order is that of time
        rows = [windows[i : i + self.batch_size] for i in range(0, len(windows), self.batch_size)]
        features = []
        for row in rows:
            stacked = torch.stack([tokens[i] for i in row.ravel().tolist()]).unflatten(0, row.shape)  # (B, T, V, ...)
            with precision(self.device, self.settings.dtype):
                features.append(self.network.encode_tokens(stacked.transpose(1, 2).flatten(0, 1)))
        if len(windows) < len(piece.index):
            features = [_repeated(features, which.ravel(), self.settings.num_crops)]
        for old in [i for i in tokens if i < piece.needed]:
            del tokens[old]
        return features


def _repeated(batches: list[VideoFeatures], which: np.ndarray, views: int) -> VideoFeatures:
    """The features of these of the windows, each with so many views."""
    rows = torch.from_numpy(which)[:, None] * views + torch.arange(views)
    parts = [None if x[0] is None else torch.cat(x)[rows.flatten().to(x[0].device)] for x in zip(*batches, strict=True)]
    return VideoFeatures(*parts)


def _array(features: torch.Tensor) -> np.ndarray:
    return features.float().numpy(force=True)
