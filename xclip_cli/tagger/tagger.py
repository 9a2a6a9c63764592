"""Tagger: features of a video + labels -> VideoResult.

    Tagger("mini", ["dogs pulling sled", "dunking"]).tag("clip.mp4") -> VideoResult

Labels are encoded once, when the tagger is made; each video then costs one pass of the video encoder.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from PIL.Image import Image

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.errors import ModelError, UsageError, VideoError
from xclip_cli.labels import LabelSet, from_names
from xclip_cli.labels.typed import translate_labels
from xclip_cli.model.xclip import VideoFeatures
from xclip_cli.results import UNKNOWN, Segment, Tag, VideoResult
from xclip_cli.settings import TagSettings, Views, takes
from xclip_cli.tagger import timeline
from xclip_cli.tagger.embeddings import Embeddings
from xclip_cli.tagger.encoder import Encoder, precision
from xclip_cli.tagger.timeline import Scored, WindowMemory
from xclip_cli.video.ahead import prefetch, prefetch_clips
from xclip_cli.video.memory import NAME, MemoryVideo
from xclip_cli.video.reader import sample_clip
from xclip_cli.video.source import as_path, as_paths, check_file
from xclip_cli.video.stream import Piece, Stream, Windowing, check_scenes
from xclip_cli.video.types import Clip

Labels = LabelSet | Sequence[str] | str
OnProgress = Callable[[float, float], None]


@dataclass(frozen=True, eq=False)
class EncodedLabels:
    """A label set as one model sees it: text features float32 (N, E), its temperature, rules of a timeline."""

    label_set: LabelSet
    features: torch.Tensor
    temperature: float
    rules: timeline.Rules | None


class Tagger(AbstractContextManager):
    """Tags videos with labels.

    ``model`` is an Encoder, or what one is made of: a name, a path or an opened Checkpoint. ``labels`` are a LabelSet,
    a list of names or a comma-separated string. Without them, a fine-tuned model uses the labels that it was tuned on;
    other models need labels for each call. Names in a language of the built-in sets get the prompts of these sets.
    ``options`` are fields of TagSettings; they take precedence over ``settings``. An Encoder brings its own Views.

    A tagger is never changed after construction: any thread may call it, each with its own labels. Labels are encoded
    by one thread at a time (see Encoder). It is a context manager, which closes the encoder.
    Raises ModelError if the model cannot be opened, UsageError for a wrong option, LabelError for a wrong label.
    """

    @takes(TagSettings)
    def __init__(
        self,
        model: Encoder | Checkpoint | str = TagSettings.model,
        labels: Labels | None = None,
        settings: TagSettings | None = None,
        **options,
    ):
        if settings is None:
            name = model if isinstance(model, str) else model.name if isinstance(model, Checkpoint) else None
            views = _views(model.settings) if isinstance(model, Encoder) else {}
            settings = TagSettings(**views, model=name or model.checkpoint.name)
        self.settings = replace(settings, **options)
        if self.settings.scenes:
            check_scenes()
        self.encoder = model if isinstance(model, Encoder) else Encoder(model, self.settings)
        if _views(self.encoder.settings) != _views(self.settings):
            raise UsageError("the encoder was made with other options", "give reader, device and the like to Encoder()")
        self.checkpoint = self.encoder.checkpoint
        window = self.settings.window_seconds, self.settings.stride_seconds, self.settings.scenes
        self.windowing = Windowing.of(self.checkpoint.num_frames, *window)
        if labels is not None:
            self.labels = self.encode_labels(labels)

    def __repr__(self) -> str:
        return f"Tagger({self.encoder!r}, labels={self.label_set and self.label_set.name!r})"

    @cached_property
    def labels(self) -> EncodedLabels | None:
        """The labels that this model was tuned on, encoded when first needed; those given to the tagger go before."""
        own = self.checkpoint.default_labels
        return self.encode_labels(own) if own else None

    @property
    def label_set(self) -> LabelSet | None:
        return self.labels and self.labels.label_set

    def encode_labels(self, labels: Labels) -> EncodedLabels:
        """Return labels as `tag` and its like take them, so that many calls need not encode them again."""
        if not isinstance(labels, LabelSet):
            labels = translate_labels(from_names(labels), self.checkpoint.default_labels)
        rules = self._rules(labels) if self.settings.window_seconds is not None else None
        temperature = labels.temperature(self.checkpoint.fingerprint)
        return EncodedLabels(labels, self.encoder.encode_text(labels), temperature, rules)

    def tag(self, path: str, labels: Labels | EncodedLabels | None = None) -> VideoResult:
        """Return the ranked tags of one video; a video that cannot be read gives a result with `error` set.

        ``labels`` are for this call, in place of the tagger's own.
        """
        [result] = self.tag_many([path], labels)
        return result

    def tag_many(
        self,
        paths: Iterable[str],
        labels: Labels | EncodedLabels | None = None,
        *,
        progress: bool = False,
        memory: WindowMemory | None = None,
        on_progress: OnProgress = lambda seconds, end: None,
    ) -> Iterator[VideoResult]:
        """Yield one result per path, in order of completion; decoding runs ahead of the model in killable processes.

        `tag_many` consumes iterators lazily. ``labels`` are for this call. ``progress`` shows a tqdm bar. A timeline
        goes on behind the windows that ``memory`` has of it, and adds its own; ``on_progress(seconds, end)`` is called
        with how far it has come, window by window.
        """
        encoded = self._encoded(labels)
        if isinstance(paths, str | bytes | os.PathLike):
            raise UsageError(f"tag_many takes several paths, not {paths!r}", "tag(path) takes one")
        total = None
        if not isinstance(paths, Iterator):
            paths = as_paths(paths)
            total = len(paths)
        waiting = map(as_path, paths)
        if self.settings.window_seconds is None:
            results = self._run(waiting, encoded)
        else:
            results = self._run_timelines(waiting, encoded, memory or WindowMemory(), on_progress)
        if not progress:
            return results
        from tqdm.auto import tqdm

        return iter(tqdm(results, total=total, unit="video"))

    def tag_frames(
        self, frames: np.ndarray | Sequence[Image], fps: float, labels: Labels | EncodedLabels | None = None
    ) -> VideoResult:
        """Return the tags of frames in memory: those of a file with these frames.

        ``frames`` is uint8 (T, H, W, 3) RGB, or a sequence of PIL pictures; frame i is shown from i / fps seconds on.
        The result's ``video`` is "frames". Raises UsageError for other frames, VideoError for too large ones.
        """
        video, encoded, encoder = MemoryVideo(frames, fps), self._encoded(labels), self.encoder
        if self.settings.window_seconds is not None:
            pieces = video.pieces(self.windowing, encoder.resize)
            return self._timeline(NAME, Scored.none(len(encoded.features)), pieces, encoded, WindowMemory())
        size = self.checkpoint.num_frames, self.settings.num_clips
        clip = sample_clip(video, NAME, *size, resize=encoder.resize)
        segments = tuple(self.tag_clips([clip], labels=encoded))
        return self._result(NAME, encoded, segments=segments, warnings=clip.warnings, reader=clip.reader)

    def close(self) -> None:
        """End the decoder processes of the encoder; a later call starts new ones."""
        self.encoder.close()

    def __exit__(self, *_) -> None:
        self.close()

    def _run(self, paths: Iterator[str], labels: EncodedLabels) -> Iterator[VideoResult]:
        encoder = self.encoder
        requests = ((path, (path, self.checkpoint.num_frames, self.settings.num_clips)) for path in paths)
        with encoder.pool.session() as pool:
            computing: deque[tuple[list, tuple]] = deque()  # clips, and their scores, which were asked of the device
            for decoded in prefetch_clips(pool, requests, encoder.batch_size, encoder.resize):
                clips = [(path, clip) for path, clip in decoded if isinstance(clip, Clip)]
                for path, failed in decoded:
                    if isinstance(failed, VideoError):
                        yield self._result(path, labels, error=failed.message)
                if clips:
                    computing.append((clips, self.launch([clip for _, clip in clips], labels)))
                while len(computing) > encoder.batches_ahead:
                    yield from self._finish(*computing.popleft(), labels)
            while computing:
                yield from self._finish(*computing.popleft(), labels)

    def _finish(
        self, clips: list[tuple[str, Clip]], outputs: tuple[torch.Tensor, ...], labels: EncodedLabels
    ) -> Iterator[VideoResult]:
        spans = [clip.info.span for _, clip in clips]
        for (path, clip), segment in zip(clips, self._ranked(spans, outputs, labels), strict=True):
            yield self._result(path, labels, segments=(segment,), warnings=clip.warnings, reader=clip.reader)

    def _run_timelines(
        self, paths: Iterator[str], labels: EncodedLabels, memory: WindowMemory, on_progress: OnProgress
    ) -> Iterator[VideoResult]:
        """Yield one result per path, in their order: the next videos are decoded while one is computed."""
        with self.encoder.pool.session() as pool:

            def begin(path: str) -> tuple[str, Scored, Stream | VideoError]:
                known = memory.known(path, len(labels.features))
                try:
                    check_file(path)
                except VideoError as error:
                    return path, known, error
                known = known.before(max(0, len(known.spans) - 1))  # the last one again: it says how the video ends
                return path, known, pool.stream(path, self.windowing, self.encoder.resize, len(known.spans))

            for path, known, stream in prefetch(map(begin, paths), self.settings.workers):
                try:
                    if isinstance(stream, VideoError):
                        raise stream
                    yield self._timeline(path, known, stream, labels, memory, on_progress)
                except VideoError as error:
                    yield self._result(path, labels, error=error.message)

    def _timeline(
        self,
        path: str,
        known: Scored,
        stream: Iterable[Piece],
        labels: EncodedLabels,
        memory: WindowMemory,
        on_progress: OnProgress = lambda seconds, end: None,
    ) -> VideoResult:
        tokens: dict[int, torch.Tensor] = {}
        parts, count = [known], len(known.spans)
        for piece in stream:
            parts.append(self.score_windows(piece, tokens, labels))
            if len(piece.spans):
                memory.add(path, count, parts[-1])
                count += len(piece.spans)
            on_progress(piece.clip.times_seconds.max(), piece.clip.stop_seconds)
        clip = piece.clip
        segments = self._segments(Scored.joined(parts), clip.stop_seconds, labels)
        return self._result(path, labels, segments=segments, warnings=clip.warnings, reader=clip.reader)

    def _segments(self, scored: Scored, end: float, labels: EncodedLabels) -> tuple[Segment, ...]:
        segments, label_set = [], labels.label_set
        for found in timeline.segments(scored, labels.rules, end):
            name = label_set.display(label_set.labels[found.label], self.settings.lang)
            tag = Tag(name, found.score, found.similarity, found.peak_score, found.peak_seconds)
            segments.append(Segment(found.start_seconds, found.end_seconds, (tag,)))
        return tuple(segments) or (Segment(float(scored.spans[0, 0]), end, (Tag(UNKNOWN, None, None),)),)

    @torch.inference_mode()
    def tag_embedded(
        self, path: str, embeddings: Embeddings, labels: Labels | EncodedLabels | None = None
    ) -> VideoResult:
        """Return what `tag` gives of a video, from its embeddings: nothing is decoded.

        Embeddings have no patches of windows: a timeline takes a model without prompts.
        """
        encoded, device = self._encoded(labels), self.encoder.device
        whole, windows = (torch.from_numpy(x).to(device) for x in (embeddings.whole[None], embeddings.windows))
        if self.settings.window_seconds is None:
            patches = None if embeddings.patches is None else torch.from_numpy(embeddings.patches[None]).to(device)
            span = embeddings.start_seconds, embeddings.start_seconds + embeddings.duration_seconds
            segments = self._ranked([span], self._scores(VideoFeatures(whole, patches), 1, encoded), encoded)
            warnings = embeddings.warnings
        else:
            batches = windows.split(self.encoder.batch_size)
            outputs = [self._scores(VideoFeatures(batch), len(batch), encoded) for batch in batches]
            scored = Scored(embeddings.spans, embeddings.scenes, *self._joined(outputs))
            segments = self._segments(scored, embeddings.end_seconds, encoded)
            warnings = embeddings.timeline_warnings
        return self._result(path, encoded, segments=tuple(segments), warnings=warnings, reader=embeddings.reader)

    def tag_clips(
        self,
        clips: Sequence[Clip],
        features: VideoFeatures | None = None,
        labels: Labels | EncodedLabels | None = None,
    ) -> list[Segment]:
        """Return the tags of decoded videos, each with num_clips x num_frames frames.

        ``features`` are theirs, if known already. A video's views (clips in time x crops in space) are averaged:
        probabilities for `score`, cosines for `similarity`.
        """
        encoded = self._encoded(labels)
        return self._ranked([clip.info.span for clip in clips], self.launch(clips, encoded, features), encoded)

    def scores(self, clips: Sequence[Clip], labels: Labels | EncodedLabels | None = None) -> np.ndarray:
        """Scores float32 (B, N) of decoded videos: first of the labels, then of the background entries."""
        return self._numbers(self.launch(clips, self._encoded(labels)))[0].numpy()

    @torch.inference_mode()
    def score_windows(self, piece: Piece, tokens: dict[int, torch.Tensor], labels: EncodedLabels) -> Scored:
        """Scores of a piece's windows; ``tokens`` is as in `Encoder.encode_windows`."""
        views = self.settings.num_crops
        outputs = [self._scores(x, len(x.video) // views, labels) for x in self.encoder.encode_windows(piece, tokens)]
        if not outputs:
            return Scored.none(len(labels.features))
        return Scored(piece.spans, piece.scenes, *self._joined(outputs))

    @torch.inference_mode()
    def launch(
        self, clips: Sequence[Clip], labels: EncodedLabels, features: VideoFeatures | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and similarities (B, N) on the device, which may still be computing them."""
        return self._scores(self.encoder.encode(clips) if features is None else features, len(clips), labels)

    def _scores(self, features: VideoFeatures, count: int, labels: EncodedLabels) -> tuple[torch.Tensor, torch.Tensor]:
        """Of so many videos, each with as many views."""
        network = self.encoder.network
        with precision(self.encoder.device, self.settings.dtype):
            similarity = network.similarity(features, labels.features)  # (B * V, N), float32 as the logits
        scores = network.logits(similarity).softmax(dim=-1)
        scores, similarity = (x.unflatten(0, (count, -1)).mean(dim=1) for x in (scores, similarity))
        if labels.temperature != 1:
            scores = (scores.log() / labels.temperature).softmax(dim=-1)
        return scores, similarity

    def _ranked(
        self, spans: list[tuple[float, float]], outputs: tuple[torch.Tensor, torch.Tensor], labels: EncodedLabels
    ) -> list[Segment]:
        rows = zip(spans, *(output.tolist() for output in self._numbers(outputs)), strict=True)
        return [Segment(*span, self._rank(scores, similarity, labels.label_set)) for span, scores, similarity in rows]

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

    def _rank(self, scores: list[float], similarity: list[float], label_set: LabelSet) -> tuple[Tag, ...]:
        """The best `top_k` labels that reach their threshold.

        `unknown` stands before them where a background entry or no one wins clearly, and alone where there are none.
        """
        labels, settings = label_set.labels, self.settings
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        best, second = order[0], order[1] if len(order) > 1 else None
        tags = []
        if best >= len(labels):
            tags.append(Tag(UNKNOWN, scores[best], similarity[best]))
        elif second is not None and scores[best] - scores[second] < settings.min_margin:
            tags.append(Tag(UNKNOWN, None, None))
        for i in order:
            if i < len(labels) and scores[i] >= _threshold(labels[i].threshold, settings.threshold):
                tags.append(Tag(label_set.display(labels[i], settings.lang), scores[i], similarity[i]))
        return tuple(tags[: settings.top_k]) or (Tag(UNKNOWN, None, None),)

    def _rules(self, label_set: LabelSet) -> timeline.Rules:
        settings = self.settings
        given = [settings.threshold if x.threshold is None else x.threshold for x in label_set.labels]
        on = np.array(given, np.float64)  # NaN for None
        off = on / 2 if settings.threshold_low is None else np.fmin(on, settings.threshold_low)
        stride = self.windowing.stride_seconds
        gap = stride if settings.max_gap_seconds is None else settings.max_gap_seconds
        return timeline.Rules(on, off, settings.smooth, settings.min_length_seconds, gap, settings.exclusive)

    def _result(self, path: str, labels: EncodedLabels, **outcome) -> VideoResult:
        return VideoResult(path, self.checkpoint.name, labels.label_set.name, **outcome)

    def _encoded(self, labels: Labels | EncodedLabels | None) -> EncodedLabels:
        """The labels of one call. Raises UsageError where there are none, LabelError."""
        if labels is not None:
            return labels if isinstance(labels, EncodedLabels) else self.encode_labels(labels)
        if self.labels is None:
            raise UsageError("there are no labels", 'give them: Tagger(model, ["dogs pulling sled", "dunking"])')
        return self.labels


def _views(settings: Views) -> dict[str, object]:
    """The options that belong to an encoder."""
    return {field.name: getattr(settings, field.name) for field in fields(Views)}


def _threshold(of_label: float | None, of_all: float | None) -> float:
    return of_label if of_label is not None else of_all or 0.0
