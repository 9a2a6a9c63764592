"""Tagger: the only place where video meets model.

    Tagger("mini").set_labels(["dogs pulling sled", "dunking"]).tag("clip.mp4") -> VideoResult

Labels are encoded once, when they are set; each video then costs one pass of the video encoder.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice

import torch

from xclip_cli.checkpoint import open_checkpoint
from xclip_cli.errors import UsageError, VideoError
from xclip_cli.labels import LabelSet, from_names
from xclip_cli.preprocess import preprocess
from xclip_cli.results import UNKNOWN, Segment, Tag, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.textcache import text_features
from xclip_cli.video.reader import Clip
from xclip_cli.video.worker import DecodePool


def resolve_device(name: str) -> torch.device:
    """The device that `auto|cpu|cuda|cuda:N|mps` means here. Raises UsageError for one that is absent."""
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    device = torch.device(name)
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[device.type]:
        raise UsageError(f"device {name!r} is not available on this machine", "use --device auto or --device cpu")
    return device


class Tagger:
    """Tags videos with one model; options are those of TagSettings.

    Raises ModelError if the model cannot be opened, UsageError for a wrong option.
    """

    def __init__(self, model: str = TagSettings.model, **options):
        self.settings = TagSettings(model=model, **options)
        self.device = resolve_device(self.settings.device)
        self.checkpoint = open_checkpoint(model)
        self.model = self.checkpoint.video_model().to(self.device)
        self.label_set: LabelSet | None = None
        self._text: torch.Tensor | None = None

    def set_labels(self, labels: LabelSet | Sequence[str] | str) -> "Tagger":
        """Chooses what to look for: a LabelSet, a list of names or a comma-separated string; gives the tagger itself.

        Raises LabelError for a label that breaks a rule.
        """
        self.label_set = labels if isinstance(labels, LabelSet) else from_names(labels)
        self._text = text_features(self.label_set, self.checkpoint).to(self.device)
        return self

    def tag(self, path: str) -> VideoResult:
        """The ranked tags of one video; a video that cannot be read gives a result with `error` set."""
        [result] = self.tag_many([path])
        return result

    def tag_many(self, paths: Iterable[str], progress: bool = False) -> Iterator[VideoResult]:
        """One result per path, in order of completion; decoding runs ahead of the model in killable processes.

        `progress` shows a tqdm bar.
        """
        self._require_labels()
        paths = [str(path) for path in paths]
        results = self._run(paths)
        if not progress:
            return results
        from tqdm.auto import tqdm

        return iter(tqdm(results, total=len(paths), unit="video"))

    def _run(self, paths: list[str]) -> Iterator[VideoResult]:
        settings = self.settings
        batch_size = 1 if self.device.type == "cpu" else settings.batch_size
        workers = min(settings.workers, len(paths)) or 1
        with DecodePool(settings.reader, workers, settings.decode_timeout_seconds) as pool:
            for ready in _decode_ahead(pool, paths, batch_size, self.checkpoint.num_frames, settings.num_clips):
                yield from self._tag_decoded(ready)

    def _tag_decoded(self, decoded: list[tuple[str, Clip | VideoError]]) -> Iterator[VideoResult]:
        clips = [(path, clip) for path, clip in decoded if isinstance(clip, Clip)]
        for path, failure in decoded:
            if isinstance(failure, VideoError):
                yield self._result(path, error=failure.message)
        if clips:
            for (path, clip), segment in zip(clips, self.tag_clips([clip for _, clip in clips]), strict=True):
                yield self._result(path, segments=(segment,), warnings=clip.warnings)

    @torch.inference_mode()
    def tag_clips(self, clips: Sequence[Clip]) -> list[Segment]:
        """The tags of decoded videos, each with num_clips x num_frames frames, in one call of the model.

        A video's views (clips in time x crops in space) are averaged: probabilities for `score`, cosines for
        `similarity`.
        """
        self._require_labels()
        views = torch.stack([self._views(clip) for clip in clips])  # (B, V, T, 3, S, S)
        half = self.settings.dtype != "float32"
        with torch.autocast(self.device.type, getattr(torch, self.settings.dtype), enabled=half):
            features = self.model.encode_video(views.flatten(0, 1).to(self.device))
            similarity = self.model.similarity(features, self._text)  # (B * V, N)
            scores = self.model.logits(similarity).float().softmax(dim=-1)
        shape = (len(clips), -1, len(self._text))
        scores = scores.view(shape).mean(dim=1).cpu()
        similarity = similarity.float().view(shape).mean(dim=1).cpu()
        return [
            Segment(0.0, clip.info.duration_seconds, self._rank(scores[i].tolist(), similarity[i].tolist()))
            for i, clip in enumerate(clips)
        ]

    def _views(self, clip: Clip) -> torch.Tensor:
        settings = self.settings
        views = preprocess(clip.frames, self.checkpoint.preprocessing, settings.num_crops)  # (crops, K * T, 3, S, S)
        return views.unflatten(1, (settings.num_clips, -1)).flatten(0, 1)

    def _rank(self, scores: list[float], similarity: list[float]) -> tuple[Tag, ...]:
        """The best `top_k` labels that reach their threshold; `unknown` where a background entry wins or none does."""
        labels, settings = self.label_set.labels, self.settings
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        tags = []
        if order[0] >= len(labels):
            tags.append(Tag(UNKNOWN, scores[order[0]], similarity[order[0]]))
        for i in order:
            if i < len(labels) and scores[i] >= _threshold(labels[i].threshold, settings.threshold):
                tags.append(Tag(self.label_set.display(labels[i], settings.lang), scores[i], similarity[i]))
        return tuple(tags[: settings.top_k]) or (Tag(UNKNOWN, None, None),)

    def _result(self, path: str, **outcome) -> VideoResult:
        return VideoResult(path, self.checkpoint.name, self.label_set.name, **outcome)

    def _require_labels(self) -> None:
        if self.label_set is None:
            raise UsageError("no labels are set", 'call set_labels(["dogs pulling sled", "dunking"]) first')


def _threshold(of_label: float | None, of_all: float | None) -> float:
    return of_label if of_label is not None else of_all or 0.0


def _decode_ahead(
    pool: DecodePool, paths: list[str], batch_size: int, num_frames: int, num_clips: int
) -> Iterator[list[tuple[str, Clip | VideoError]]]:
    """Decoded videos, up to `batch_size` at a time, in order of completion; few are in memory at once."""
    waiting = iter(paths)
    running: dict[Future, str] = {}
    ready: list[tuple[str, Clip | VideoError]] = []
    while True:
        for path in islice(waiting, pool.capacity + batch_size - 1 - len(running) - len(ready)):
            running[pool.submit(path, num_frames, num_clips)] = path
        while running and len(ready) < batch_size:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            ready += [(running.pop(future), _outcome(future)) for future in done]
        if not ready:
            return
        yield ready[:batch_size]
        ready = ready[batch_size:]


def _outcome(future: Future) -> Clip | VideoError:
    try:
        return future.result()
    except VideoError as error:
        return error
