"""Tags of indexed videos, for any labels, without the videos: an engine of `Batch` that decodes nothing."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.errors import UsageError
from xclip_cli.index.build import collection_of
from xclip_cli.index.entries import Stamp
from xclip_cli.index.store import Store
from xclip_cli.labels import LabelSet
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.tagger import Tagger
from xclip_cli.video.source import shown


class IndexedTags:
    """Calling it with videos gives what `Tagger` gives of them, from ``store``; those that it lacks fail.

    ``warnings`` says where the numbers are not those of tagging itself, ``made_with`` why, for a journal. Raises
    UsageError where the index has nothing of the model, or other windows than the settings ask for.
    """

    def __init__(self, store: Store, checkpoint: Checkpoint, settings: TagSettings):
        if (settings.num_clips, settings.num_crops) != (1, 1):
            raise UsageError("an index has one view of a video: no --num-clips or --num-crops with --from-index")
        self._store, self._tagger = store, Tagger(**asdict(settings) | {"model": checkpoint})
        wanted, timeline = collection_of(checkpoint, settings), settings.window_seconds is not None
        self._known = store.find(wanted.model, fingerprint=wanted.fingerprint)
        seen = wanted.recipe._asdict() if timeline else {"dtype": settings.dtype, "reader": settings.reader}
        self._known.require(self._known.recipe._replace(**seen))
        self.warnings: tuple[str, ...] = ()
        self.made_with: dict[str, str] = {}
        if timeline and wanted.prompted:
            self._tagger.model = self._tagger.model.switched(prompt_layers=0)
            self.made_with = {"prompts": "none"}
            self.warnings = (
                f"{wanted.model} prompts its labels with each window's patches, which no index keeps: these scores are "
                "without that, and differ from those of xclip tag without --from-index",
            )

    def __call__(self, videos: Iterable[str], label_set: LabelSet, settings: TagSettings) -> Iterator[VideoResult]:
        """One result per video, in their order."""
        self._tagger.set_labels(label_set)
        for video in videos:
            yield self._tag(video, label_set)

    def _tag(self, video: str, label_set: LabelSet) -> VideoResult:
        stamp = Stamp.of(video)
        with self._store.reading():
            entry = self._store.entry(self._known, os.path.realpath(video))
            found = self._store.read(self._known, entry) if entry is not None and entry.stamp == stamp else None
        if found is not None:
            return self._tagger.tag_embedded(video, found)
        what = "has changed since it was indexed" if entry else "is not in the index"
        error = f"{shown(video)} {what}: run xclip index on it, with --model {self._known.model}"
        if stamp is None:
            error = f"{shown(video)} is not there"
        return VideoResult(video, self._known.model, label_set.name, error=error)
