"""Tagger: the only place where video meets model.

    Tagger("mini").set_labels(["dogs pulling sled", "dunking"]).tag("clip.mp4") -> VideoResult

Labels are encoded once, when they are set; each video then costs one pass of the video encoder.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import cached_property

import numpy as np
import torch

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.errors import ModelError, UsageError, VideoError
from xclip_cli.labels import LabelSet, from_names
from xclip_cli.labels.typed import understand
from xclip_cli.model.xclip import VideoFeatures
from xclip_cli.results import UNKNOWN, Segment, Tag, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.tagger import timeline
from xclip_cli.tagger.device import precision, resolve_device
from xclip_cli.tagger.embeddings import Embeddings
from xclip_cli.tagger.preprocess import crops, normalise, resizing
from xclip_cli.tagger.textcache import text_features
from xclip_cli.tagger.timeline import Scored, WindowMemory
from xclip_cli.video.ahead import decode_ahead, take_ahead
from xclip_cli.video.display import Resize
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.source import as_path, as_paths, check_file
from xclip_cli.video.stream import Piece, Stream, Windowing, check_scenes
from xclip_cli.video.types import Clip


class Tagger(AbstractContextManager):
    """Tags videos with one model, a name, a path or an opened Checkpoint; options are those of TagSettings.

    Decoder processes are started when first needed, up to ``workers``, and serve all later calls, from any thread. They
    end with `close`, with the tagger or with the program; a tagger is a context manager. ``on_progress(seconds, end)``
    is called with how far a video has come, window by window.
    Raises ModelError if the model cannot be opened, UsageError for a wrong option.
    """

    def __init__(self, model: str | Checkpoint = TagSettings.model, on_progress: Callable | None = None, **options):
        opened = isinstance(model, Checkpoint)
        self.settings = TagSettings(model=model.name if opened else model, **options)
        if self.settings.scenes:
            check_scenes()
        self.device = resolve_device(self.settings.device)
        self.checkpoint = model if opened else open_checkpoint(model)
        self.model = self.checkpoint.video_model().to(self.device)
        self.windowing = Windowing.of(self.settings, self.checkpoint.num_frames)
        self.label_set: LabelSet | None = None
        self.rules: timeline.Rules | None = None
        self._text: torch.Tensor | None = None
        self._temperature = 1.0
        self._on_progress = on_progress or (lambda seconds, end: None)
        # An accelerator computes one batch while the next is cropped and sent; a CPU has nothing to wait for.
        on_cpu = self.device.type == "cpu"
        self.batch_size, self.batches_ahead = (1, 0) if on_cpu else (self.settings.batch_size, 1)

    def set_labels(self, labels: LabelSet | Sequence[str] | str) -> "Tagger":
        """Chooses what to look for: a LabelSet, a list of names or a comma-separated string; gives the tagger itself.

        Without it, a model that was tuned on labels looks for these. Names in a language that built-in sets speak have
        the prompts of their labels. Raises LabelError for a label that breaks a rule.
        """
        own = self.checkpoint.default_labels
        self.label_set = labels if isinstance(labels, LabelSet) else understand(from_names(labels), own)
        self._text = text_features(self.label_set, self.checkpoint).to(self.device)
        self._temperature = self.label_set.temperature(self.checkpoint.fingerprint)
        self.rules = self._rules() if self.settings.window_seconds is not None else None
        return self

    def tag(self, path: str) -> VideoResult:
        """The ranked tags of one video; a video that cannot be read gives a result with `error` set."""
        [result] = self.tag_many([path])
        return result

    def tag_many(
        self, paths: Iterable[str], progress: bool = False, memory: WindowMemory | None = None
    ) -> Iterator[VideoResult]:
        """One result per path, in order of completion; decoding runs ahead of the model in killable processes.

        An iterator is asked for a path when it is about to be decoded. `progress` shows a tqdm bar. A timeline goes on
        behind the windows that `memory` has of it, and adds its own.
        """
        self._require_labels()
        if isinstance(paths, str | bytes | os.PathLike):
            raise UsageError(f"tag_many takes several paths, not {paths!r}", "tag(path) takes one")
        total = None
        if not isinstance(paths, Iterator):
            paths = as_paths(paths)
            total = len(paths)
        waiting = map(as_path, paths)
        results = self._run(waiting) if self.settings.window_seconds is None else self._run_timelines(waiting, memory)
        if not progress:
            return results
        from tqdm.auto import tqdm

        return iter(tqdm(results, total=total, unit="video"))

    def close(self) -> None:
        """End the decoder processes and give up what they decode; a later call starts new ones."""
        self.pool.close()

    def __exit__(self, *_) -> None:
        self.close()

    @cached_property
    def pool(self) -> DecodePool:
        return DecodePool(self.settings.reader, self.settings.workers, self.settings.decode_timeout_seconds)

    def _run(self, paths: Iterator[str]) -> Iterator[VideoResult]:
        requests = ((path, (path, self.checkpoint.num_frames, self.settings.num_clips)) for path in paths)
        with self.pool.session() as pool:
            computing: deque[tuple[list, tuple]] = deque()  # clips, and their scores, which were asked of the device
            for decoded in decode_ahead(pool, requests, self.batch_size, self.resize):
                clips = [(path, clip) for path, clip in decoded if isinstance(clip, Clip)]
                yield from (self._result(path, error=e.message) for path, e in decoded if isinstance(e, VideoError))
                if clips:
                    computing.append((clips, self._launch([clip for _, clip in clips], None)))
                while len(computing) > self.batches_ahead:
                    yield from self._finish(*computing.popleft())
            while computing:
                yield from self._finish(*computing.popleft())

    def _finish(self, clips: list[tuple[str, Clip]], outputs: tuple[torch.Tensor, ...]) -> Iterator[VideoResult]:
        spans = [clip.info.span for _, clip in clips]
        for (path, clip), segment in zip(clips, self._ranked(spans, outputs), strict=True):
            yield self._result(path, segments=(segment,), warnings=clip.warnings, reader=clip.reader)

    def _run_timelines(self, paths: Iterator[str], memory: WindowMemory | None) -> Iterator[VideoResult]:
        """One result per path, in their order: a video at a time meets the model, the next ones are decoded ahead."""
        memory = memory or WindowMemory()
        with self.pool.session() as pool:

            def begin(path: str) -> tuple[str, Scored, Stream | VideoError]:
                known = memory.known(path, len(self._text))
                try:
                    check_file(path)
                except VideoError as error:
                    return path, known, error
                known = known.before(max(0, len(known.spans) - 1))  # the last one again: it says how the video ends
                return path, known, pool.stream(path, self.windowing, self.resize, len(known.spans))

            for path, known, stream in take_ahead(map(begin, paths), self.settings.workers):
                try:
                    if isinstance(stream, VideoError):
                        raise stream
                    yield self._timeline(path, known, stream, memory)
                except VideoError as error:
                    yield self._result(path, error=error.message)

    def _timeline(self, path: str, known: Scored, stream: Stream, memory: WindowMemory) -> VideoResult:
        tokens: dict[int, torch.Tensor] = {}
        parts, count = [known], len(known.spans)
        for piece in stream:
            parts.append(self.score_windows(piece, tokens))
            if len(piece.spans):
                memory.add(path, count, parts[-1])
                count += len(piece.spans)
            self._on_progress(piece.clip.times_seconds.max(), _end(piece.clip))
        segments = self._found(Scored.joined(parts), _end(piece.clip))
        return self._result(path, segments=segments, warnings=piece.clip.warnings, reader=piece.clip.reader)

    def _found(self, scored: Scored, end: float) -> tuple[Segment, ...]:
        segments = []
        for found in timeline.segments(scored, self.rules, end):
            name = self.label_set.display(self.label_set.labels[found.label], self.settings.lang)
            tag = Tag(name, found.score, found.similarity, found.peak_score, found.peak_seconds)
            segments.append(Segment(found.start_seconds, found.end_seconds, (tag,)))
        return tuple(segments) or (Segment(float(scored.spans[0, 0]), end, (Tag(UNKNOWN, None, None),)),)

    def embed_many(self, paths: Iterable[str]) -> Iterator[tuple[str, Embeddings | VideoError]]:
        """What is known of each video before any label, or why it cannot be read, in the order of the paths.

        A video is decoded twice: once over its whole, as `tag` does without windows, and once window by window.
        """
        with self.pool.session() as pool:

            def begin(path: str) -> tuple[str, Future[Clip], Stream]:
                whole = pool.submit(path, self.checkpoint.num_frames, resize=self.resize)
                return path, whole, pool.stream(path, self.windowing, self.resize)

            for path, whole, stream in take_ahead(map(begin, paths), self.settings.workers):
                try:
                    yield path, self._embed(whole, stream)
                except VideoError as error:
                    yield path, error

    def _embed(self, whole: Future[Clip], stream: Stream) -> Embeddings:
        tokens: dict[int, torch.Tensor] = {}
        windows, spans, scenes = [], [], []
        for piece in stream:  # to its end, before the whole may fail: who decodes it waits for that
            windows += [_array(features.video) for features in self.encode_windows(piece, tokens)]
            spans.append(piece.spans)
            scenes.append(piece.scenes)
            self._on_progress(piece.clip.times_seconds.max(), _end(piece.clip))
        clip = whole.result()
        features = self.encode([clip])
        return Embeddings(
            whole=_array(features.video)[0],
            patches=None if features.patches is None else _array(features.patches)[0],
            windows=np.concatenate(windows),
            spans=np.concatenate(spans),
            scenes=np.concatenate(scenes),
            start_seconds=clip.info.start_seconds,
            duration_seconds=clip.info.duration_seconds,
            end_seconds=_end(piece.clip),
            warnings=clip.warnings,
            timeline_warnings=piece.clip.warnings,
            reader=clip.reader,
        )

    @torch.inference_mode()
    def tag_embedded(self, path: str, known: Embeddings) -> VideoResult:
        """As `tag` of a video of which this is known: the same, and nothing is decoded.

        Of windows no patches are known: a timeline takes a model without prompts.
        """
        self._require_labels()
        if self.settings.window_seconds is None:
            patches = None if known.patches is None else self._tensor(known.patches[None])
            features = VideoFeatures(self._tensor(known.whole[None]), patches)
            span = known.start_seconds, known.start_seconds + known.duration_seconds
            [segment] = self._ranked([span], self._scores(features, 1))
            return self._result(path, segments=(segment,), warnings=known.warnings, reader=known.reader)
        batches = self._tensor(known.windows).split(self.batch_size)
        outputs = [self._scores(VideoFeatures(batch), len(batch)) for batch in batches]
        scored = Scored(known.spans, known.scenes, *self._joined(outputs))
        segments = self._found(scored, known.end_seconds)
        return self._result(path, segments=segments, warnings=known.timeline_warnings, reader=known.reader)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)

    def tag_clips(self, clips: Sequence[Clip], features: VideoFeatures | None = None) -> list[Segment]:
        """The tags of decoded videos, each with num_clips x num_frames frames; `features` are theirs, if known already.

        A video's views (clips in time x crops in space) are averaged: probabilities for `score`, cosines for
        `similarity`.
        """
        return self._ranked([clip.info.span for clip in clips], self._launch(clips, features))

    def scores(self, clips: Sequence[Clip]) -> np.ndarray:
        """Scores float32 (B, N) of decoded videos: first of the labels, then of the background entries."""
        return self._numbers(self._launch(clips, None))[0].numpy()

    @property
    def resize(self) -> Resize:
        """What size the model wants frames in: decoders that give them so send less, and the answers are the same."""
        return resizing(self.checkpoint.preprocessing, self.settings.num_crops)

    def pixels(self, clips: Sequence[Clip]) -> torch.Tensor:
        """What the model looks at, uint8 (B, V, T, 3, S, S) on its device: V views of each video."""
        settings, spec = self.settings, self.checkpoint.preprocessing
        views = torch.stack([crops(clip.frames, spec, settings.num_crops) for clip in clips])  # (B, crops, K * T, ...)
        views = views.unflatten(2, (settings.num_clips, -1)).flatten(1, 2)
        if self.device.type == "cuda":
            views = views.pin_memory()  # so that it is sent while the device computes
        return views.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def encode(self, clips: Sequence[Clip]) -> VideoFeatures:
        """What is known of every view (B * V) of decoded videos before any label, on the device."""
        pixels = self.pixels(clips).flatten(0, 1)
        parts = pixels.split(1 if self.device.type == "cpu" else len(pixels))  # a CPU is faster with one at a time
        with precision(self.device, self.settings.dtype):
            features = [self.model.encode_video(normalise(part, self.checkpoint.preprocessing)) for part in parts]
        return VideoFeatures(*(None if x[0] is None else torch.cat(x) for x in zip(*features, strict=True)))

    @torch.inference_mode()
    def score_windows(self, piece: Piece, tokens: dict[int, torch.Tensor]) -> Scored:
        """What the model says of a piece's windows; ``tokens`` is as in `encode_windows`."""
        views = self.settings.num_crops
        outputs = [self._scores(x, len(x.video) // views) for x in self.encode_windows(piece, tokens)]
        return Scored(piece.spans, piece.scenes, *self._joined(outputs)) if outputs else Scored.none(len(self._text))

    @torch.inference_mode()
    def encode_windows(self, piece: Piece, tokens: dict[int, torch.Tensor]) -> list[VideoFeatures]:
        """What is known of a piece's windows before any label, so many views (B * V) at a time, on the device.

        ``tokens`` holds what is known of single frames, by number. The piece's own frames are added to it, and those
        that no later window needs are taken away. Windows of the same frames are computed once.
        """
        views = crops(piece.clip.frames, self.checkpoint.preprocessing, self.settings.num_crops)
        at_once = self.checkpoint.num_frames if self.device.type == "cpu" else len(piece.clip.frames)
        numbers = torch.from_numpy(piece.numbers).split(at_once)
        for frames, some in zip(views.transpose(0, 1).split(at_once), numbers, strict=True):
            pixels = normalise(frames.to(self.device).flatten(0, 1), self.checkpoint.preprocessing)
            with precision(self.device, self.settings.dtype):
                new = self.model.frame_tokens(pixels).unflatten(0, frames.shape[:2])  # (n, V, ...)
            tokens.update(zip(some.tolist(), new, strict=True))
        windows, which = np.unique(piece.index, axis=0, return_inverse=True)  # their order is that of time
        rows = [windows[i : i + self.batch_size] for i in range(0, len(windows), self.batch_size)]
        features = []
        for row in rows:
            stacked = torch.stack([tokens[i] for i in row.ravel().tolist()]).unflatten(0, row.shape)  # (B, T, V, ...)
            with precision(self.device, self.settings.dtype):
                features.append(self.model.encode_tokens(stacked.transpose(1, 2).flatten(0, 1)))
        if len(windows) < len(piece.index):
            features = [_repeated(features, which.ravel(), self.settings.num_crops)]
        for old in [i for i in tokens if i < piece.needed]:
            del tokens[old]
        return features

    @torch.inference_mode()
    def _launch(self, clips: Sequence[Clip], features: VideoFeatures | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and similarities (B, N) on the device, which may still be computing them."""
        self._require_labels()
        return self._scores(self.encode(clips) if features is None else features, len(clips))

    def _scores(self, features: VideoFeatures, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of so many videos, each with as many views."""
        with precision(self.device, self.settings.dtype):
            similarity = self.model.similarity(features, self._text)  # (B * V, N), float32 as the logits
        scores = self.model.logits(similarity).softmax(dim=-1)
        scores, similarity = (x.unflatten(0, (count, -1)).mean(dim=1) for x in (scores, similarity))
        if self._temperature != 1:
            scores = (scores.log() / self._temperature).softmax(dim=-1)
        return scores, similarity

    def _ranked(self, spans: list[tuple[float, float]], outputs: tuple[torch.Tensor, torch.Tensor]) -> list[Segment]:
        rows = zip(spans, *(output.tolist() for output in self._numbers(outputs)), strict=True)
        return [Segment(*span, self._rank(scores, similarity)) for span, scores, similarity in rows]

    def _joined(self, outputs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[np.ndarray, ...]:
        """Scores and similarities of windows that follow each other."""
        whole = torch.cat([scores for scores, _ in outputs]), torch.cat([similarity for _, similarity in outputs])
        return tuple(values.numpy() for values in self._numbers(whole))

    def _numbers(self, outputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and similarities on the CPU. ModelError where they are no numbers: no order of labels follows."""
        scores, similarity = (output.cpu() for output in outputs)
        if scores.isnan().any():
            hint = "try --dtype float32" if self.settings.dtype != "float32" else "take another model, or tune it anew"
            raise ModelError(f"model {self.checkpoint.name!r} gives scores that are no numbers (NaN)", hint)
        return scores, similarity

    def _rank(self, scores: list[float], similarity: list[float]) -> tuple[Tag, ...]:
        """The best `top_k` labels that reach their threshold.

        `unknown` stands before them where a background entry or no one wins clearly, and alone where there are none.
        """
        labels, settings = self.label_set.labels, self.settings
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        best, second = order[0], order[1] if len(order) > 1 else None
        tags = []
        if best >= len(labels):
            tags.append(Tag(UNKNOWN, scores[best], similarity[best]))
        elif second is not None and scores[best] - scores[second] < settings.min_margin:
            tags.append(Tag(UNKNOWN, None, None))
        for i in order:
            if i < len(labels) and scores[i] >= _threshold(labels[i].threshold, settings.threshold):
                tags.append(Tag(self.label_set.display(labels[i], settings.lang), scores[i], similarity[i]))
        return tuple(tags[: settings.top_k]) or (Tag(UNKNOWN, None, None),)

    def _rules(self) -> timeline.Rules:
        settings = self.settings
        given = [settings.threshold if x.threshold is None else x.threshold for x in self.label_set.labels]
        on = np.array(given, np.float64)  # NaN for None
        off = on / 2 if settings.threshold_low is None else np.fmin(on, settings.threshold_low)
        stride = self.windowing.stride_seconds
        gap = stride if settings.max_gap_seconds is None else settings.max_gap_seconds
        return timeline.Rules(on, off, settings.smooth, settings.min_length_seconds, gap, settings.exclusive)

    def _result(self, path: str, **outcome) -> VideoResult:
        return VideoResult(path, self.checkpoint.name, self.label_set.name, **outcome)

    def _require_labels(self) -> None:
        if self.label_set is None and self.checkpoint.default_labels:
            self.set_labels(self.checkpoint.default_labels)
        if self.label_set is None:
            raise UsageError("no labels are set", 'call set_labels(["dogs pulling sled", "dunking"]) first')


def _repeated(batches: list[VideoFeatures], which: np.ndarray, views: int) -> VideoFeatures:
    """The features of these of the windows, each with so many views."""
    rows = torch.from_numpy(which)[:, None] * views + torch.arange(views)
    parts = [None if x[0] is None else torch.cat(x)[rows.flatten().to(x[0].device)] for x in zip(*batches, strict=True)]
    return VideoFeatures(*parts)


def _end(clip: Clip) -> float:
    """Where the video ends, in seconds, as far as the last clip of it knows."""
    return clip.info.end_seconds if clip.end_seconds is None else clip.end_seconds


def _array(features: torch.Tensor) -> np.ndarray:
    return features.float().numpy(force=True)


def _threshold(of_label: float | None, of_all: float | None) -> float:
    return of_label if of_label is not None else of_all or 0.0
