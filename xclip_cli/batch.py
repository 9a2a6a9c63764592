"""Many videos to one output: folder -> jobs, minus journal -> engine -> results as they finish -> output."""

import contextlib
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from xclip_cli import __version__
from xclip_cli.engines import local
from xclip_cli.errors import UsageError
from xclip_cli.journal import Journal, video_key
from xclip_cli.labels import LabelSet
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.video.source import is_video_name


def find_videos(paths: Iterable[str], recursive: bool = False) -> list[str]:
    """The videos that files, folders and glob patterns name, each once, in a fixed order.

    A file named by itself is taken whatever its suffix, even if it is missing (it becomes an error row); in a folder
    those with a video suffix count, hidden ones do not. Raises UsageError where a folder or a pattern holds no video.
    """
    found: dict[str, None] = {}
    for path in paths:
        if os.path.isdir(path):
            found.update(dict.fromkeys(_in_folder(path, recursive)))
        elif not os.path.lexists(path) and glob.has_magic(path):
            found.update(dict.fromkeys(_in_pattern(path, recursive)))
        else:
            found[path] = None
    return list(found)


def _in_folder(folder: str, recursive: bool) -> list[str]:
    def unreadable(error: OSError):
        raise UsageError(f"cannot list the folder {error.filename!r}: {error.strerror}", "check its permissions")

    videos = []
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        videos += [os.path.join(parent, name) for name in sorted(files) if is_video_name(name)]
    if not videos:
        raise UsageError(
            f"no videos in the folder {folder!r}: none of its files has the suffix of a video (.mp4, .mkv, .mov, ...)",
            "add --recursive to look into its folders, or name the files"
            if not recursive
            else "name the files themselves",
        )
    return videos


def _in_pattern(pattern: str, recursive: bool) -> list[str]:
    videos = [path for path in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(path)]
    if not videos:
        raise UsageError(f"no file matches the pattern {pattern!r}", "quote a name that holds * ? or [ as it stands")
    return videos


def check_output(output: Path, sources: Iterable[str], overwrite: bool) -> None:
    """Raises UsageError where `output` would touch an input, or would replace a file that no journal calls ours."""
    target = output.resolve()
    if output.is_dir():
        raise UsageError(f"the output {str(output)!r} is a folder: it must be a file", "add a file name, e.g. tags.csv")
    if output.exists() and not overwrite and not Journal(output).path.exists():
        raise UsageError(
            f"the output {str(output)!r} exists and was not made by a run here", "add --overwrite to replace it"
        )
    for source in map(Path, sources):
        with contextlib.suppress(OSError, RuntimeError):  # a symlink loop resolves to nothing that can be overwritten
            resolved = source.resolve()
            if target == resolved or (resolved.is_dir() and target.is_relative_to(resolved)):
                raise UsageError(
                    f"the output {str(output)!r} lies inside the input {str(source)!r}: it must be elsewhere",
                    "choose another -o, e.g. one folder up",
                )


class Batch:
    """A resumable run over videos: iterate over `run()`, then `write()` the output.

    With an output, a journal beside it records every finished video; a later run with the same model, labels and
    settings tags only what is missing, failed or changed. Raises OutputError and UsageError before anything is tagged.
    """

    def __init__(self, videos: Sequence[str], label_set: LabelSet, settings: TagSettings, engine: Callable = local.run):
        self.videos = videos
        self.label_set = label_set
        self.settings = settings
        self._engine = engine
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
        remaining = [video for video in self.videos if video not in self._results]
        if remaining:
            for result in self._engine(remaining, self.label_set, self.settings):
                if journal is not None:
                    journal.append(keys[result.video], result)
                self._results[result.video] = result
                self.failed += result.error is not None
                yield result

    def _configuration(self) -> str:
        from xclip_cli.checkpoint import open_checkpoint

        model = open_checkpoint(self.settings.model)
        parts = (__version__, model.name, model.fingerprint, self.label_set.fingerprint, self.settings.fingerprint)
        return ":".join(parts)


def in_order(videos: Sequence[str], results: Iterable[VideoResult]) -> Iterator[VideoResult]:
    """The results in the order of the videos, each as soon as all before it are there."""
    early: dict[str, VideoResult] = {}
    position = 0
    for result in results:
        early[result.video] = result
        while position < len(videos) and videos[position] in early:
            yield early.pop(videos[position])
            position += 1
