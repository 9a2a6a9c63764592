"""Videos -> an index: what is new or changed meets the model, what is known is left alone."""

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
    """What an index would hold of the model and these windows, before it holds anything."""
    window = settings.window_seconds, settings.stride_seconds, settings.scenes
    how = Windowing.of(checkpoint.num_frames, *window)
    weights = None if checkpoint.identity else content_sha256(checkpoint.path)
    recipe = how.window_seconds, how.stride_seconds, how.scenes, settings.dtype, settings.reader
    return Collection(0, checkpoint.name, checkpoint.fingerprint, weights, checkpoint.prompted, Recipe(*recipe))


class Build:
    """A run over videos that ends with them in an index: iterate over `run()`.

    ``wanted`` is what `collection_of` gives; ``embed`` reads videos so, in any order; those that ``unreadable`` gives a
    reason for fail unopened. Raises UsageError where the index has this model with other windows, StoreError.
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
        self._known = store.begin(wanted)
        self.before = self.finished = self.failed = self.windows = 0

    def run(self) -> Iterator[VideoResult]:
        """One result, without segments, per video that the index did not know; ``error`` says why it takes one not."""
        readable = [video for video in self._videos if video not in self._unreadable]
        new = [video for video in readable if not self._is_known(video)]
        self.before = self.finished = len(readable) - len(new)
        for video, reason in self._unreadable.items():
            yield self._result(video, {"error": reason})
        stamps: dict[str, Stamp | None] = {}

        def begun() -> Iterator[str]:
            for video in new:
                stamps[video] = Stamp.of(video)
                yield video

        for video, found in self._embed(begun()):
            yield self._result(video, self._outcome(video, stamps.pop(video), found))

    def _result(self, video: str, outcome: dict) -> VideoResult:
        self.finished += 1
        self.failed += "error" in outcome
        return VideoResult(video, self._known.model, "", **outcome)

    def _outcome(self, video: str, stamp: Stamp | None, found: Embeddings | VideoError) -> dict:
        if isinstance(found, VideoError):
            return {"error": found.message}
        if not all(np.isfinite(features).all() for features in (found.windows, found.whole)):
            return {"error": f"{shown(video)}: the model gives features of it that are no finite numbers"}
        digest = hash_file(Path(video))
        if Stamp.of(video) != stamp:
            return {"error": f"{shown(video)} changed while it was read: run the same command again"}
        self._store.add(self._known, os.path.realpath(video), stamp, digest, found)
        self.windows += len(found.windows)
        return {"warnings": found.timeline_warnings, "reader": found.reader}

    def _is_known(self, video: str) -> bool:
        """Whether the index has these bytes; if only their path or time of change is new, that is noted in it."""
        path, stamp = os.path.realpath(video), Stamp.of(video)
        if stamp is None:
            return False
        entry = self._store.entry(self._known, path)
        if entry is not None and entry.stamp == stamp:
            return True
        moved = (other for other in self._store.of_size(self._known, stamp.size) if Stamp.of(other.path) is None)
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
    """Calling it with videos gives what `Tagger` gives of them, from ``store``; those that it lacks fail.

    ``warnings`` says where the numbers are not those of tagging itself, ``made_with`` why, for a journal. Raises
    UsageError where the index has nothing of the model, or other windows than the settings ask for.
    """

    def __init__(self, store: Store, checkpoint: Checkpoint, settings: TagSettings):
        if (settings.num_clips, settings.num_crops) != (1, 1):
            raise UsageError("an index has one view of a video: no --num-clips or --num-crops with --from-index")
        self._store, encoder = store, Encoder(checkpoint, settings)
        wanted, timeline = collection_of(checkpoint, settings), settings.window_seconds is not None
        self._known = store.find(wanted.model, fingerprint=wanted.fingerprint)
        seen = wanted.recipe._asdict() if timeline else {"dtype": settings.dtype, "reader": settings.reader}
        self._known.require(self._known.recipe._replace(**seen))
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
        """One result per video, in their order."""
        labels = self._tagger.encode_labels(label_set)
        for video in videos:
            yield self._tag(video, labels)

    def _tag(self, video: str, labels: EncodedLabels) -> VideoResult:
        stamp = Stamp.of(video)
        with self._store.reading():
            entry = self._store.entry(self._known, os.path.realpath(video))
            found = self._store.read(self._known, entry) if entry is not None and entry.stamp == stamp else None
        if found is not None:
            return self._tagger.tag_embedded(video, found, labels)
        what = "has changed since it was indexed" if entry else "is not in the index"
        error = f"{shown(video)} {what}: run xclip index on it, with --model {self._known.model}"
        if stamp is None:
            error = f"{shown(video)} is not there"
        return VideoResult(video, self._known.model, labels.label_set.name, error=error)
