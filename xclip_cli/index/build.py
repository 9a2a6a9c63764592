"""Add new and changed videos to an index, and tag indexed videos without decoding them."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.errors import UsageError, VideoError
from xclip_cli.files import content_sha256, hash_file
from xclip_cli.index.entries import Collection, Recipe, Stamp
from xclip_cli.index.store import Store
from xclip_cli.labels import LabelSet
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.embeddings import Embeddings
from xclip_cli.tagger.encoder import Encoder
from xclip_cli.tagger.tagger import EncodedLabels, Tagger
from xclip_cli.video.source import shown
from xclip_cli.video.stream import Windowing

Embed = Callable[[Iterator[str]], Iterator[tuple[str, Embeddings | VideoError]]]


def collection_of(checkpoint: Checkpoint, settings: TagSettings) -> Collection:
    """Return the empty collection that an index of this model and these windows begins with."""
    window = settings.window_seconds, settings.stride_seconds, settings.scenes
    how = Windowing.of(checkpoint.num_frames, *window)
    weights = None if checkpoint.identity else content_sha256(checkpoint.path)
    recipe = how.window_seconds, how.stride_seconds, how.scenes, settings.dtype, settings.reader
    return Collection(0, checkpoint.name, checkpoint.fingerprint, weights, checkpoint.prompted, Recipe(*recipe))


class Build:
    """Adds videos to an index: iterate over `run()`.

    ``wanted`` comes from `collection_of`. ``embed`` yields the embeddings of videos in any order. ``unreadable`` maps
    videos that are not opened to the reason. Raises UsageError if the index has this model with other windows,
    StoreError.
    """

    def __init__(
        self,
        videos: Sequence[str],
        unreadable: Mapping[str, str],
        embed: Embed,
        store: Store,
        wanted: Collection,
    ):
        self._videos, self._unreadable = videos, unreadable
        self._embed, self._store = embed, store
        self._collection = store.begin(wanted)
        self.before = self.finished = self.failed = self.windows = 0

    def run(self) -> Iterator[VideoResult]:
        """Yield a result without segments per new or changed video; ``error`` says why one was not added."""
        readable = [video for video in self._videos if video not in self._unreadable]
        new = [video for video in readable if not self._is_known(video)]
        self.before = self.finished = len(readable) - len(new)
        for video, reason in self._unreadable.items():
            yield self._result(video, {"error": reason})
        stamps: dict[str, Stamp | None] = {}

        def stamped() -> Iterator[str]:
            for video in new:
                stamps[video] = Stamp.of(video)
                yield video

        for video, embeddings in self._embed(stamped()):
            yield self._result(video, self._outcome(video, stamps.pop(video), embeddings))

    def _result(self, video: str, outcome: dict) -> VideoResult:
        self.finished += 1
        self.failed += "error" in outcome
        return VideoResult(video, self._collection.model, "", **outcome)

    def _outcome(self, video: str, stamp: Stamp | None, embeddings: Embeddings | VideoError) -> dict:
        if isinstance(embeddings, VideoError):
            return {"error": embeddings.message}
        if not all(np.isfinite(features).all() for features in (embeddings.windows, embeddings.whole)):
            return {"error": f"{shown(video)}: the model gives features of it that are no finite numbers"}
        digest = hash_file(Path(video))
        if Stamp.of(video) != stamp:
            return {"error": f"{shown(video)} changed while it was read: run the same command again"}
        self._store.add(self._collection, os.path.realpath(video), stamp, digest, embeddings)
        self.windows += len(embeddings.windows)
        return {"warnings": embeddings.timeline_warnings, "reader": embeddings.reader}

    def _is_known(self, video: str) -> bool:
        """Whether the index has these bytes. A new path or modification time is recorded in it."""
        path, stamp = os.path.realpath(video), Stamp.of(video)
        if stamp is None:
            return False
        entry = self._store.entry(self._collection, path)
        if entry is not None and entry.stamp == stamp:
            return True
        moved = (other for other in self._store.of_size(self._collection, stamp.size) if Stamp.of(other.path) is None)
        candidates = list(moved) if entry is None else [entry] if entry.stamp.size == stamp.size else []
        try:
            digest = candidates and hash_file(Path(path))
        except OSError:
            return False  # its row will say so
        same = next((candidate for candidate in candidates if candidate.sha256 == digest), None)
        if same is not None:
            self._store.rename(same, path, stamp)
        return same is not None


class IndexedTags:
    """An engine that tags videos from their embeddings in ``store``, with the results that `Tagger` gives.

    A video that is not in the index is a result with ``error`` set. ``warnings`` say where scores differ from those of
    `Tagger`; ``made_with`` records that for a journal. Raises UsageError if the index has no collection of the model,
    or one with other windows than the settings.
    """

    def __init__(self, store: Store, checkpoint: Checkpoint, settings: TagSettings):
        if (settings.num_clips, settings.num_crops) != (1, 1):
            raise UsageError("an index has one view of a video: no --num-clips or --num-crops with --from-index")
        self._store, encoder = store, Encoder(checkpoint, settings)
        wanted, timeline = collection_of(checkpoint, settings), settings.window_seconds is not None
        self._collection = store.find(wanted.model, fingerprint=wanted.fingerprint)
        seen = wanted.recipe._asdict() if timeline else {"dtype": settings.dtype, "reader": settings.reader}
        self._collection.require(self._collection.recipe._replace(**seen))
        self.warnings: tuple[str, ...] = ()
        self.made_with: dict[str, str] = {}
        if timeline and wanted.prompted:
            encoder = encoder.with_network(encoder.network.switched(prompt_layers=0))
            self.made_with = {"prompts": "none"}
            self.warnings = (
                f"{wanted.model} prompts its labels with each window's patches, which no index keeps: these scores are "
                "without that, and differ from those of xclip tag without --from-index",
            )
        self._tagger = Tagger(encoder, settings=settings)

    def __call__(self, videos: Iterable[str], label_set: LabelSet, settings: TagSettings) -> Iterator[VideoResult]:
        """Yield one result per video, in input order."""
        labels = self._tagger.encode_labels(label_set)
        for video in videos:
            yield self._tag(video, labels)

    def _tag(self, video: str, labels: EncodedLabels) -> VideoResult:
        stamp = Stamp.of(video)
        with self._store.reading():
            entry = self._store.entry(self._collection, os.path.realpath(video))
            embeddings = (
                self._store.read(self._collection, entry) if entry is not None and entry.stamp == stamp else None
            )
        if embeddings is not None:
            return self._tagger.tag_embedded(video, embeddings, labels)
        what = "has changed since it was indexed" if entry else "is not in the index"
        error = f"{shown(video)} {what}: run xclip index on it, with --model {self._collection.model}"
        if stamp is None:
            error = f"{shown(video)} is not there"
        return VideoResult(video, self._collection.model, labels.label_set.name, error=error)
