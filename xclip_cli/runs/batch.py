"""Many videos to one output: folder -> jobs, minus journal -> engine -> results as they finish -> output."""

import errno
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xclip_cli import __version__, outputs
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import check_destination, checked, hash_file, identity, make_folder
from xclip_cli.labels import LabelSet
from xclip_cli.outputs.journal import Journal, MemoryJournal, video_key
from xclip_cli.results import VideoResult
from xclip_cli.runs.find import Finder, Found, is_pattern
from xclip_cli.runs.shards import Part
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.timeline import Scored, WindowMemory
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
    A folder or a pattern in `paths` that holds no video is a warning; UsageError where no video is found at all.
    """
    finder = Finder(recursive, _own_files(output), on_skip)
    empty: list[UsageError] = []
    for path in paths:
        if os.path.isdir(path):
            if not finder.folder(path):
                empty.append(_no_videos(path, recursive))
        elif not is_pattern(path):
            finder.file(path)
        elif not finder.pattern(path):
            hint = "check it; a folder is searched where it is named without * ? ["
            empty.append(UsageError(f"no file matches the pattern {path!r}", hint))
    for path in listed:
        if not os.path.isdir(path):
            finder.file(path)
        elif not finder.folder(path):
            finder.give_up(path, _no_videos(path, recursive).message)
    found = finder.found(error.message for error in empty)
    if empty and not found.videos:
        raise empty[0]
    return found


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
    return str(output), str(journal.path), str(journal.windows_path), str(journal.lock_path)


def check_output(output: Path, videos: Sequence[str], overwrite: bool, format_name: str = "csv") -> None:
    """Raises UsageError where `output` is one of the videos, or would replace what no run here made.

    That is a file without a journal, one that was changed since, and rows of videos that are not among these. Where the
    output is a folder of files, each is looked at; a missing folder is made.
    """
    if outputs.is_folder(output, format_name):
        return _check_folder(output, videos, overwrite, format_name)
    if os.path.isdir(output):
        raise UsageError(f"the output {str(output)!r} is a folder: it must be a file", "add a file name, e.g. tags.csv")
    check_destination(output)
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
        _check_known(output, videos)


def _check_folder(output: Path, videos: Sequence[str], overwrite: bool, format_name: str) -> None:
    journal = Journal(output)
    recorded = journal.recorded() if journal.path.exists() else ()
    made = {sha256 for _, hashes in recorded for sha256 in hashes}
    inputs = {identity(video) for video in videos}
    for file in outputs.files(output, format_name, videos).values():
        if not os.path.exists(file) or os.path.isdir(file):
            continue  # a name that no file can have costs its video alone
        check_destination(file)
        if identity(file) in inputs:
            raise UsageError(f"the output {str(file)!r} would replace an input", "choose another folder for -o")
        if not overwrite and hash_file(file) not in made:
            raise UsageError(
                f"{str(file)!r} exists and is not as a run here made it: it is not replaced",
                "choose another folder for -o, or add --overwrite",
            )
    make_folder(output)


def _check_known(output: Path, videos: Sequence[str]) -> None:
    """Refuses what was changed since the run that its journal is of, and to drop rows of videos that are not named.

    Rows of videos that are gone may go; those of others may not.
    """
    named = {os.path.abspath(video) for video in videos}
    made: set[str] = set()
    others: dict[str, None] = {}
    for video, hashes in Journal(output).recorded():
        made.update(hashes)
        if video is not None and video not in named:
            others[video] = None
    if made and os.path.exists(output) and hash_file(output) not in made:
        raise UsageError(
            f"the output {str(output)!r} was changed since the last run: it is not replaced",
            "rename it and run again (nothing is tagged twice), or add --overwrite to start over",
        )
    lost = [video for video in others if os.path.lexists(video)]
    if lost:
        files = {identity(video) for video in named}
        lost = [video for video in lost if identity(video) not in files]
    if lost:
        count = "1 other video" if len(lost) == 1 else f"{len(lost)} other videos"
        raise UsageError(
            f"the output {str(output)!r} is of {count} too, such as {lost[0]!r}: their rows would be lost",
            "name them as well, choose another -o, or add --overwrite to start over",
        )


Engine = Callable[[Iterable[str], LabelSet, TagSettings], Iterator[VideoResult]]


class Batch:
    """A resumable run over videos: iterate over `run()`, then `write()` the output.

    The journal beside an output records every finished video; a later run with the same model, labels and settings
    tags only what is missing, failed or changed. Those of the videos that `unreadable` gives a reason for fail
    unopened. `engine` tags the rest, and is given each video when it asks for it; None: a Tagger in this process.
    What it has of `made_with` decides its results too, where they are not those of the local one.
    `checkpoint` is the settings' model, where it is open already; `part` says which shard the videos are.
    Raises OutputError and UsageError before anything is tagged.
    """

    def __init__(
        self,
        videos: Sequence[str],
        label_set: LabelSet,
        settings: TagSettings,
        engine: Engine | None = None,
        unreadable: Mapping[str, str] | None = None,
        checkpoint=None,
        part: Part | None = None,
    ):
        self.videos = videos
        self.label_set = label_set
        self.settings = settings
        self.part = part
        self._checkpoint = checkpoint
        self._engine = engine
        self._unreadable = unreadable or {}
        self._memory: WindowMemory | None = None
        self.on_progress: Callable[[float, float], None] = lambda seconds, end: None  # see Tagger
        self.resumed = self.failed = 0
        self.finished = 0  # of the videos, those from the journal included
        self._record: Journal | MemoryJournal | None = None
        self._places: dict[str, int | None] = dict.fromkeys(videos)  # where in the record each one's result is
        self._keys: dict[str, str] = {}  # of the videos that the engine has

    @property
    def results(self) -> Iterator[VideoResult]:
        """The results so far, in the order of the videos, read back one by one while the record of the run is open."""
        return (self._record.read(place) for place in self._places.values() if place is not None)

    def run(self, record: Journal | MemoryJournal, fresh: bool = False) -> Iterator[VideoResult]:
        """Tags what a journal does not hold (all of it if `fresh`) and gives each result as it is finished."""
        self._record = record
        if isinstance(record, Journal):
            self._resume(record, fresh)
        for result in self._outcomes():
            self._places[result.video] = self._record.append(self._keys.pop(result.video), result)
            self.finished += 1
            self.failed += result.error is not None
            yield result

    def _resume(self, journal: Journal, fresh: bool) -> None:
        self._memory = JournalledWindows(journal, self._keys)
        for entry in journal.open(fresh):
            video = entry.result.video
            if video in self._places and entry.key == video_key(video, self._configuration):
                self._places[video] = entry.start if entry.result.error is None else None
        self.finished = self.resumed = sum(place is not None for place in self._places.values())

    def write(self, output: Path, format_name: str, journal: Journal) -> dict[str, str]:
        """Writes the results so far; the journal will know the files again. Raises OutputError.

        In a folder of files, a failed video has none. Gives the videos whose files could not be written, and why: they
        are failed from now on. A full disk is an error of the run.
        """
        if self.part is not None:
            journal.note_shard(self.part.described(self._made_with))
        if not outputs.is_folder(output, format_name):
            note = lambda sha256: journal.note_outputs([sha256])  # noqa: E731
            outputs.write(output, format_name, self.results, note, follow_link=True)
            return {}
        places = outputs.files(output, format_name, self.videos)
        tagged = (result for result in self.results if result.error is None)
        journal.note_outputs(outputs.sha256(format_name, [result]) for result in tagged)
        unwritten: dict[str, str] = {}
        for result in self.results:
            try:
                if result.error is None:
                    outputs.write(places[result.video], format_name, [result])
            except OutputError as error:
                if getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    raise
                unwritten[result.video] = error.message
        self.failed += len(unwritten)
        return unwritten

    def _outcomes(self) -> Iterator[VideoResult]:
        """The unreadable first, then what the engine gives."""
        for video, reason in self._unreadable.items():
            self._begin(video)
            yield VideoResult(video, self.checkpoint.name, self.label_set.name, error=reason)
        if self.finished < len(self._places):
            waiting = (video for video, place in self._places.items() if place is None)
            if self._engine is not None:
                yield from self._engine(map(self._begin, waiting), self.label_set, self.settings)
                return
            from xclip_cli.tagger.tagger import Tagger  # here, since it takes torch

            with Tagger(self.checkpoint, self.label_set, self.settings) as tagger:
                videos = map(self._begin, waiting)
                yield from tagger.tag_many(videos, memory=self._memory, on_progress=self.on_progress)

    def _begin(self, video: str) -> str:
        """Notes what the file is like before it is tagged, so that a change in between is seen by the next run."""
        self._keys[video] = video_key(video, self._configuration)
        return video

    @cached_property
    def checkpoint(self):
        """The model, opened but not loaded. Raises ModelError."""
        if self._checkpoint is not None:
            return self._checkpoint
        from xclip_cli.checkpoint.load import open_checkpoint  # here, since it takes torch

        return open_checkpoint(self.settings.model)

    @cached_property
    def _made_with(self) -> dict[str, str]:
        """What decides the results, besides the videos."""
        return {
            "version": __version__,
            "model": self.checkpoint.name,
            "weights": self.checkpoint.fingerprint,
            "labels": self.label_set.fingerprint,
            "settings": self.settings.fingerprint,
            **getattr(self._engine, "made_with", {}),
        }

    @cached_property
    def _configuration(self) -> str:
        return ":".join(self._made_with.values())


class _Windows(NamedTuple):
    """A note of windows: number ``first`` and on, each array as Base64 of little-endian numbers."""

    first: int
    spans: str
    scenes: str
    scores: str
    similarity: str


class JournalledWindows(WindowMemory):
    """Windows in progress, kept in the journal."""

    _TYPES = Scored(spans="<f8", scenes="<i8", scores="<f4", similarity="<f4")

    def __init__(self, journal: Journal, keys: Mapping[str, str]):
        self._journal, self._keys = journal, keys

    def known(self, path: str, num_labels: int) -> Scored:
        none = Scored.none(num_labels)
        parts, firsts, stop = [none], [0], 0
        try:
            for noted in self._journal.windows(self._keys[path]):
                first, *texts = checked(noted, _Windows)
                coded = zip(texts, self._TYPES, (values.shape[1:] for values in none), strict=True)
                part = Scored(*(np.frombuffer(b64decode(t), kind).reshape(-1, *shape) for t, kind, shape in coded))
                if len({len(array) for array in part}) > 1 or first > stop:
                    return none  # a line is missing
                while firsts[-1] > first:
                    del parts[-1], firsts[-1]
                parts[-1] = parts[-1].before(first - firsts[-1])
                parts.append(part)
                firsts.append(first)
                stop = first + len(part.spans)
        except (ValueError, KeyError):  # damaged: the video is begun again
            return none
        known = Scored.joined(parts)
        return known if _is_plausible(known) else none

    def add(self, path: str, first: int, scored: Scored) -> None:
        arrays = zip(Scored._fields, scored, self._TYPES, strict=True)
        coded = {name: b64encode(array.astype(kind).tobytes()).decode() for name, array, kind in arrays}
        self._journal.append_windows(self._keys[path], {"first": first, **coded})


def _is_plausible(windows: Scored) -> bool:
    """Whether a run may have noted them: numbers in their ranges, windows in order of time."""
    starts, ends = windows.spans.T
    ranges = (windows.scores, 0.0), (windows.similarity, -1.0), (windows.spans, -1e11), (windows.scenes, 0)
    bounded = all((values >= least - 1e-3).all() for values, least in ranges)
    return bool(
        bounded
        and (starts <= ends).all()
        and (np.diff(starts) >= 0).all()
        and max(windows.scores.max(initial=0), windows.similarity.max(initial=0)) <= 1.001
        and ends.max(initial=0) <= 1e11
    )


def in_order(videos: Sequence[str], results: Iterable[VideoResult]) -> Iterator[VideoResult]:
    """The results in the order of the videos, each as soon as all before it are there."""
    early: dict[str, VideoResult] = {}
    position = 0
    for result in results:
        early[result.video] = result
        while position < len(videos) and videos[position] in early:
            yield early.pop(videos[position])
            position += 1
