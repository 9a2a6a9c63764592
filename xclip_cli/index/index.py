"""Index: the public face of an index on disk, for Python and for the commands."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from xclip_cli.errors import UsageError
from xclip_cli.index.entries import Collection, Recipe
from xclip_cli.index.search import Answer, Query, Scope, collection, find, make_query
from xclip_cli.index.store import Store
from xclip_cli.labels import LabelSet, from_names
from xclip_cli.labels.typed import translate_labels
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.video.source import as_path, as_paths, is_video_name
from xclip_cli.video.stream import Windowing

if TYPE_CHECKING:
    from xclip_cli.index.build import Build, Embed


class Index(AbstractContextManager):
    """The index of one model in ``folder``: add videos once, then search and tag them without decoding them again.

        with Index("my-index") as index:
            index.add(["my-videos"])
            index.search("a dog jumping").moments

    ``model`` is a name or a path. ``window_seconds`` ("auto": two frames a second), ``stride_seconds`` (half a window)
    and ``scenes`` (no window crosses a shot change) say which windows `add` keeps; an index has one kind of windows a
    model. The other options are those of `Tagger`.

    The folder is made by the first `add`. Nothing is loaded before it is needed, and the database is open only during
    a call, so that threads may share an index. `close`, or the end of the ``with`` block, ends the decoder processes.
    Raises UsageError for a wrong option.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        model: str = TagSettings.model,
        *,
        window_seconds: float | str = "auto",
        stride_seconds: float | None = None,
        scenes: bool = False,
        device: str = TagSettings.device,
        dtype: str = TagSettings.dtype,
        batch_size: int = TagSettings.batch_size,
        workers: int = TagSettings.workers,
        reader: str = TagSettings.reader,
        decode_timeout_seconds: float = TagSettings.decode_timeout_seconds,
    ):
        self.folder = Path(as_path(folder))
        self.settings = TagSettings(
            model=model,
            device=device,
            dtype=dtype,
            window_seconds=window_seconds,
            stride_seconds=stride_seconds,
            scenes=scenes,
            batch_size=batch_size,
            workers=workers,
            reader=reader,
            decode_timeout_seconds=decode_timeout_seconds,
        )
        self._fingerprint: str | None = None

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, model={self.settings.model!r})"

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the decoder processes; a later `add` starts new ones."""
        if "encoder" in vars(self):
            self.encoder.close()

    @cached_property
    def checkpoint(self):
        """The opened model. Raises ModelError."""
        from xclip_cli.checkpoint.load import open_checkpoint

        return open_checkpoint(self.settings.model)

    @cached_property
    def encoder(self):
        """The encoder of that model, with its decoder processes. Raises ModelError."""
        from xclip_cli.tagger.encoder import Encoder

        return Encoder(self.checkpoint, self.settings)

    def add(self, paths: Iterable[str] | str | os.PathLike[str], *, recursive: bool = False) -> list[VideoResult]:
        """Add videos, and the videos in folders, that are new or have changed.

        Return a result without segments per video that was read; ``error`` says why it was not added. ``recursive``:
        search folders inside folders, too. What was added stays if a later video fails or the program is killed.
        Raises UsageError for a folder without videos and where the index has other windows; ModelError; StoreError.
        """
        paths = [as_path(paths)] if isinstance(paths, str | os.PathLike) else as_paths(paths)
        videos = [video for path in paths for video in (_videos_in(path, recursive) if os.path.isdir(path) else [path])]
        with Store(self.folder, create=True) as store:
            return list(self.build(store, list(dict.fromkeys(videos)), {}).run())

    def build(
        self,
        store: Store,
        videos: Sequence[str],
        unreadable: Mapping[str, str],
        embed: "Embed | None" = None,
        on_progress: Callable[[float, float], None] = lambda seconds, end: None,
    ) -> "Build":
        """Return the `Build` that adds videos to an open store.

        Without ``embed`` they are decoded and encoded here; ``on_progress(seconds, end)`` is called window by window.
        """
        from xclip_cli.index.build import Build, collection_of

        if embed is None:
            window = self.settings.window_seconds, self.settings.stride_seconds, self.settings.scenes
            windowing = Windowing.of(self.checkpoint.num_frames, *window)
            embed = partial(self.encoder.embed_many, windowing=windowing, on_progress=on_progress)
        return Build(videos, unreadable, embed, store, collection_of(self.checkpoint, self.settings))

    def query(self, text: str | None = None, *, like: str | None = None) -> Query:
        """Return what `search` looks for, prepared once for several searches: a sentence, or an example.

        Raises LabelError for an empty or too long text, VideoError for an example that cannot be read, UsageError
        where the index has nothing of the model, ModelError, StoreError.
        """
        with Store(self.folder) as store:
            known = self._collection(store)
            return make_query(text, like, store, known, self.as_indexed(known.recipe))

    def search(
        self,
        query: str | os.PathLike[str] | Query,
        *,
        top_k: int = 20,
        folder: str | os.PathLike[str] | None = None,
        changed_since: float | None = None,
    ) -> Answer:
        """Return the ``top_k`` moments of indexed videos that are nearest to a query, best first.

        A ``str`` is a sentence. A ``Path`` is an example: ``Path("clip.mp4")``, or ``Path("clip.mp4@12.5")`` for what
        is seen at that second. ``folder`` limits the search to the videos in a folder, or to one video;
        ``changed_since`` to files changed at that time (Unix time in seconds) or later. Scores are cosines (-1..1).
        Raises what `query` raises.
        """
        if not isinstance(query, Query):
            query = self.query(query) if isinstance(query, str) else self.query(like=as_path(query))
        since_ns = 0 if changed_since is None else max(round(changed_since * 1e9), -(2**63))  # SQLite's least integer
        scope = Scope(None if folder is None else os.path.realpath(folder), since_ns)
        with Store(self.folder) as store:
            return find(store, self._collection(store), query, top_k, scope)

    def tag(
        self,
        labels: LabelSet | Sequence[str] | str,
        paths: Iterable[str] | None = None,
        *,
        timeline: bool = False,
        top_k: int = TagSettings.top_k,
        threshold: float | None = None,
        lang: str | None = None,
    ) -> list[VideoResult]:
        """Return the tags of indexed videos, as `Tagger` gives them, in the order of ``paths``.

        ``labels`` are a LabelSet, a list of names or a comma-separated text. Without ``paths``, all videos of the index
        are tagged whose files are there as they were read. ``timeline``: segments, from the windows of the index.
        ``top_k``, ``threshold`` (0..1) and ``lang`` are those of `Tagger`. A video that the index lacks is a result
        with ``error`` set. Raises LabelError, UsageError where the index has nothing of the model, ModelError,
        StoreError.
        """
        from xclip_cli.index.build import IndexedTags

        if not isinstance(labels, LabelSet):
            labels = translate_labels(from_names(labels), self.checkpoint.default_labels)
        with Store(self.folder) as store:
            known = self._collection(store)
            settings = self.as_indexed(known.recipe, timeline)
            settings = replace(settings, top_k=top_k, threshold=threshold, lang=lang)
            if paths is None:
                paths = [entry.path for entry in store.videos(known) if entry.is_unchanged]
            engine = IndexedTags(store, self.checkpoint, settings)
            results = engine(as_paths(paths), labels, settings)
            return [replace(result, warnings=(*engine.warnings, *result.warnings)) for result in results]

    def _collection(self, store: Store) -> Collection:
        if self._fingerprint is None:
            self._fingerprint = collection(store, self.settings.model).fingerprint
        return store.find(self.settings.model, fingerprint=self._fingerprint)

    def as_indexed(self, recipe: Recipe, timeline: bool = False) -> TagSettings:
        """The settings with which the videos of the index were embedded, with its windows where ``timeline``."""
        windows = (recipe.window_seconds, recipe.stride_seconds, recipe.scenes) if timeline else (None, None, False)
        names = "window_seconds", "stride_seconds", "scenes"
        settings = dict(zip(names, windows, strict=True)) | {"dtype": recipe.dtype, "reader": recipe.reader}
        return replace(self.settings, **settings)


def _videos_in(folder: str, recursive: bool) -> list[str]:
    videos = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        videos += [os.path.join(root, name) for name in sorted(files) if is_video_name(name)]
    if not videos:
        raise UsageError(f"no videos in the folder {folder!r}", "name the files themselves, or use recursive=True")
    return videos
