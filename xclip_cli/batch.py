"""Many videos to one output: folder -> jobs, minus journal -> engine -> results as they finish -> output."""

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from xclip_cli import __version__, outputs
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.journal import Journal, video_key
from xclip_cli.labels import LabelSet
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.timeline import Scored, WindowMemory
from xclip_cli.video.finding import Finder, Found, identity, is_pattern
from xclip_cli.video.source import is_video_name


def find_videos(
    paths: Iterable[str],
    recursive: bool = False,
    listed: Iterable[str] = (),
    output: Path | None = None,
    on_skip: Callable[[str, str], None] | None = None,
) -> Found:
    """The videos that files, folders and glob patterns name, each once, in a fixed order; what was left out is counted.

    A file named by itself is taken whatever its suffix, even if it is missing (it becomes an error row); in a folder
    those with a video suffix count, hidden ones do not. `listed` names are never patterns. The files of an earlier run
    to `output` are not found by a search. `on_skip(path, reason)` hears of every file that is left out.
    Raises UsageError where a folder or a pattern in `paths` holds no video.
    """
    finder = Finder(recursive, _own_files(output), on_skip)
    for path in paths:
        if os.path.isdir(path):
            if not finder.folder(path):
                raise _no_videos(path, recursive)
        elif not is_pattern(path):
            finder.file(path)
        elif not finder.pattern(path):
            raise UsageError(
                f"no file matches the pattern {path!r}",
                "check it; a folder is searched where it is named without * ? [",
            )
    for path in listed:
        if not os.path.isdir(path):
            finder.file(path)
        elif not finder.folder(path):
            finder.give_up(path, _no_videos(path, recursive).message)
    return finder.found()


def _no_videos(folder: str, recursive: bool) -> UsageError:
    return UsageError(
        f"no videos in the folder {folder!r}: none of its files has the suffix of a video (.mp4, .mkv, .mov, ...)",
        "name the files themselves" if recursive else "add --recursive to look into its folders, or name the files",
    )


def _own_files(output: Path | None) -> tuple[str, ...]:
    """The output and its journal, where an earlier run made them; a file that may be a video is nobody's output."""
    if output is None or is_video_name(output.name) or not os.path.exists(Journal(output).path):
        return ()
    journal = Journal(output)
    return str(output), str(journal.path), str(journal.windows_path)


def check_output(output: Path, videos: Sequence[str], overwrite: bool, format_name: str = "csv") -> None:
    """Raises UsageError where `output` is one of the videos, or would replace what no run here made.

    That is a file without a journal, one that was changed since, and rows of videos that are not among these. Where the
    output is a folder of files, each is looked at; a missing folder is made.
    """
    if outputs.is_folder(output, format_name):
        return _check_folder(output, videos, overwrite, format_name)
    if os.path.isdir(output):
        raise UsageError(f"the output {str(output)!r} is a folder: it must be a file", "add a file name, e.g. tags.csv")
    outputs.files(output, format_name, videos)
    journal = Journal(output).path
    made = output, journal, Journal(output).windows_path
    names = {os.path.abspath(path) for path in made}
    files = {identity(path) for path in made if os.path.exists(path)}
    for video in videos:
        if os.path.abspath(video) in names or (files and identity(video) in files):
            raise UsageError(
                f"the output {str(output)!r} would replace the input {video!r}: it must be another file",
                "choose another -o, e.g. tags.csv",
            )
    if os.path.exists(output) and not overwrite and not os.path.exists(journal):
        raise UsageError(
            f"the output {str(output)!r} exists and was not made by a run here", "add --overwrite to replace it"
        )
    if os.path.exists(journal) and not overwrite:
        recorded, made = Journal(output).recorded()
        _check_unchanged(output, made)
        _check_kept(output, recorded, videos)


def _check_folder(output: Path, videos: Sequence[str], overwrite: bool, format_name: str) -> None:
    journal = Journal(output)
    made = journal.recorded()[1] if journal.path.exists() else set()
    inputs = {identity(video) for video in videos}
    for file in outputs.files(output, format_name, videos).values():
        if file.exists() and identity(file) in inputs:
            raise UsageError(f"the output {str(file)!r} would replace an input", "choose another folder for -o")
        if file.exists() and not overwrite and hashlib.sha256(file.read_bytes()).hexdigest() not in made:
            raise UsageError(
                f"{str(file)!r} exists and is not as a run here made it: it is not replaced",
                "choose another folder for -o, or add --overwrite",
            )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(output)!r}: {error.strerror}", "choose another -o") from error


def _check_unchanged(output: Path, made: set[str]) -> None:
    if made and os.path.exists(output) and hashlib.sha256(output.read_bytes()).hexdigest() not in made:
        raise UsageError(
            f"the output {str(output)!r} was changed since the last run: it is not replaced",
            "rename it and run again (nothing is tagged twice), or add --overwrite to start over",
        )


def _check_kept(output: Path, recorded: Iterable[str], videos: Iterable[str]) -> None:
    """Rows of videos that are gone may go; those of others may not."""
    named = {os.path.abspath(video) for video in videos}
    others = [video for video in recorded if video not in named and os.path.lexists(video)]
    if others:
        files = {identity(video) for video in named}
        others = [video for video in others if identity(video) not in files]
    if others:
        count = "1 other video" if len(others) == 1 else f"{len(others)} other videos"
        raise UsageError(
            f"the output {str(output)!r} is of {count} too, such as {others[0]!r}: their rows would be lost",
            "name them as well, choose another -o, or add --overwrite to start over",
        )


class Batch:
    """A resumable run over videos: iterate over `run()`, then `write()` the output.

    With an output, a journal beside it records every finished video; a later run with the same model, labels and
    settings tags only what is missing, failed or changed. Those of the videos that `unreadable` gives a reason for fail
    unopened. `engine` tags the rest, one result per video in any order; None: here. `checkpoint` is the settings'
    model, where it is open already.
    Raises OutputError and UsageError before anything is tagged.
    """

    def __init__(
        self,
        videos: Sequence[str],
        label_set: LabelSet,
        settings: TagSettings,
        engine: Callable[[Sequence[str], LabelSet, TagSettings], Iterator[VideoResult]] | None = None,
        unreadable: Mapping[str, str] | None = None,
        checkpoint=None,
    ):
        self.videos = videos
        self.label_set = label_set
        self.settings = settings
        self._checkpoint = checkpoint
        self._engine = engine or self._tag_here
        self._unreadable = unreadable or {}
        self._memory: WindowMemory | None = None
        self.resumed = 0
        self.failed = 0
        self._results: dict[str, VideoResult] = {}

    @property
    def finished(self) -> int:
        """How many videos have a result, those from the journal included."""
        return len(self._results)

    @property
    def results(self) -> list[VideoResult]:
        """The results so far, in the order of the videos."""
        return [self._results[video] for video in self.videos if video in self._results]

    def run(self, journal: Journal | None = None, fresh: bool = False) -> Iterator[VideoResult]:
        """Tags what the journal does not hold (all of it if `fresh`) and gives each result as it is finished."""
        keys = {}
        if journal is not None:
            configuration = self._configuration()
            keys = {video: video_key(video, configuration) for video in self.videos}
            known = journal.load(fresh)
            self._results = {video: known[key] for video, key in keys.items() if key in known}
            self.resumed = len(self._results)
            self._memory = JournalledWindows(journal, keys)
        remaining = [video for video in self.videos if video not in self._results]
        for result in self._outcomes(remaining):
            if journal is not None:
                journal.append(keys[result.video], result)
            self._results[result.video] = result
            self.failed += result.error is not None
            yield result

    def write(self, output: Path, format_name: str, journal: Journal) -> None:
        """Writes the results so far; the journal will know the files again. Raises OutputError.

        In a folder of files, a failed video has none.
        """
        places = outputs.files(output, format_name, self.videos)
        spread = outputs.is_folder(output, format_name)
        documents: dict[Path, list[VideoResult]] = {} if spread else {output: []}
        for result in self.results:
            if result.error is None or not spread:
                documents.setdefault(places[result.video], []).append(result)
        journal.note_outputs(outputs.sha256(format_name, results) for results in documents.values())
        for file, results in documents.items():
            outputs.write(file, format_name, results)

    def _outcomes(self, videos: Sequence[str]) -> Iterator[VideoResult]:
        """The unreadable first, then what the engine gives."""
        if self._unreadable:
            model = self.checkpoint.name
            for video, reason in self._unreadable.items():
                yield VideoResult(video, model, self.label_set.name, error=reason)
            videos = [video for video in videos if video not in self._unreadable]
        if videos:
            yield from self._engine(videos, self.label_set, self.settings)

    @cached_property
    def checkpoint(self):
        """The model, opened but not loaded. Raises ModelError."""
        from xclip_cli.checkpoint import open_checkpoint  # here, since it takes torch

        return self._checkpoint or open_checkpoint(self.settings.model)

    def _configuration(self) -> str:
        model = self.checkpoint
        parts = (__version__, model.name, model.fingerprint, self.label_set.fingerprint, self.settings.fingerprint)
        return ":".join(parts)

    def _tag_here(self, videos: Sequence[str], label_set: LabelSet, settings: TagSettings) -> Iterator[VideoResult]:
        """One result per video, in order of completion: one Tagger in this process, decoders in others.

        Raises ModelError, LabelError or UsageError before the first.
        """
        from xclip_cli.tagger import Tagger

        tagger = Tagger(**asdict(settings) | {"model": self.checkpoint}).set_labels(label_set)
        yield from tagger.tag_many(videos, memory=self._memory)


class JournalledWindows(WindowMemory):
    """Windows in progress, kept in the journal: their arrays as Base64 of little-endian numbers."""

    _TYPES = Scored(spans="<f8", scenes="<i8", scores="<f4", similarity="<f4")

    def __init__(self, journal: Journal, keys: Mapping[str, str]):
        self._journal, self._keys = journal, keys

    def known(self, path: str, num_labels: int) -> Scored:
        none = known = Scored.none(num_labels)
        try:
            for noted in self._journal.windows(self._keys[path]):
                coded = zip(Scored._fields, self._TYPES, (values.shape[1:] for values in none), strict=True)
                arrays = [np.frombuffer(b64decode(noted[n]), kind).reshape(-1, *shape) for n, kind, shape in coded]
                if len({len(array) for array in arrays}) > 1 or not 0 <= noted["first"] <= len(known.spans):
                    return none  # a line is missing
                known = Scored.joined([known.before(noted["first"]), Scored(*arrays)])
        except (ValueError, KeyError, TypeError):  # damaged: the video is begun again
            return none
        return known

    def add(self, path: str, first: int, scored: Scored) -> None:
        arrays = zip(Scored._fields, scored, self._TYPES, strict=True)
        coded = {name: b64encode(array.astype(kind).tobytes()).decode() for name, array, kind in arrays}
        self._journal.append_windows(self._keys[path], {"first": first, **coded})


def in_order(videos: Sequence[str], results: Iterable[VideoResult]) -> Iterator[VideoResult]:
    """The results in the order of the videos, each as soon as all before it are there."""
    early: dict[str, VideoResult] = {}
    position = 0
    for result in results:
        early[result.video] = result
        while position < len(videos) and videos[position] in early:
            yield early.pop(videos[position])
            position += 1
