"""Clips in folders: a folder per class, also below `train`, `val` and `test`; and the files that a table names."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from xclip_cli.dataset.sample import Sample, as_label, split_named
from xclip_cli.errors import UsageError
from xclip_cli.files import identity
from xclip_cli.video.source import is_video_name

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def from_folder(root: Path) -> list[Sample]:
    """The clips of every class, with their splits where `root` has folders of that name. Raises UsageError."""
    folders = _folders(root)
    if not folders:
        raise UsageError(
            f"{str(root)!r} has no folders: it must have one per class, with the clips in them",
            "or give a CSV: video,label",
        )
    splits = [folder for folder in folders if split_named(folder.name)]
    are_splits = len(splits) == len(folders) or any(_folders(split) and not _direct_clips(split) for split in splits)
    if not splits or not are_splits:
        return _of_classes(root, folders)
    samples = []
    for folder in folders:
        split, classes = split_named(folder.name), _folders(folder)
        if split is None:
            if _clips(folder, root):
                raise UsageError(
                    f"{str(folder)!r} stands beside {splits[0].name!r}: is it a class, or are they splits?",
                    "put classes into train and val, or name the folder of the classes",
                )
            continue
        if stray := _direct_clips(folder):
            raise UsageError(
                f"{stray[0]!r} is in no class: {folder.name!r} is a split and must have a folder per class",
                "put its clips into folders of their classes",
            )
        samples += [replace(sample, split=split) for sample in _of_classes(folder, classes)]
    return samples


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        _refuse_unlisted(error)


def _direct_clips(folder: Path) -> list[str]:
    return sorted(str(entry) for entry in folder.iterdir() if is_video_name(entry.name) and not entry.is_dir())


def _of_classes(root: Path, classes: list[Path]) -> list[Sample]:
    samples = []
    for folder in classes:
        clips = _clips(folder, root)
        if not clips:
            raise UsageError(
                f"the class folder {str(folder)!r} holds no video: every folder of {str(root)!r} is a class",
                "put clips into it, move it elsewhere, or begin its name with a dot",
            )
        samples += [Sample(clip, as_label(folder.name)) for clip in clips]
    return samples


def _clips(folder: Path, root: Path) -> list[str]:
    """A class's videos, those in folders of folders and behind links too; no link leads into another class."""
    own, all_classes = os.path.realpath(folder), os.path.realpath(root)

    def of_class(path: str) -> bool:
        real = os.path.realpath(path)
        return _within(real, own) or not (_within(real, all_classes) or _within(all_classes, real))

    return list(videos_below(folder, of_class))


def _within(path: str, folder: str) -> bool:
    return os.path.join(path, "").startswith(os.path.join(folder, ""))


class FileNames:
    """The files that the cells of a table name, from its folder; a folder is listed once, however many are missing."""

    def __init__(self, folder: Path):
        self.folder, self._start = folder, "" if folder == Path() else str(folder)
        self._names: dict[str, dict[str, str]] = {}
        self._folders: dict[str, str | None] = {}  # as they are called, by how they are written

    def find(self, name: str, where: str) -> str:
        """The path that `name` gives: as it stands, else with Windows' back slashes or other accents.

        A name that fits no file stays as it is. Raises UsageError, beginning with `where`, for a path on a Windows
        drive.
        """
        path = self._below(name)
        if os.path.lexists(path):
            return path
        if os.sep == "/" and _DRIVE.match(name):
            raise UsageError(
                f"{where}: {name!r} is a path on another machine, of Windows", "give paths from the folder of the list"
            )
        if "\\" in name:
            path = self._below(PureWindowsPath(name).as_posix())
        return self._same_name(path) or path

    def _below(self, name: str) -> str:
        """As pathlib writes it, which is slow: only where a name has parts to leave out."""
        if "./" in name or "//" in name or name.endswith((".", "/")):
            return str(self.folder / name)
        return os.path.join(self._start, name)

    def _same_name(self, path: str) -> str | None:
        """The one that is there and differs only in how letters with accents are written, in any part of the path."""
        parent, name = os.path.split(path)
        if parent not in self._folders:
            found: str | None = ""
            for part in Path(parent).parts:
                found = None if found is None else self._step(found, part)
            self._folders[parent] = found
        folder = self._folders[parent]
        return None if folder is None else self._step(folder, name)

    def _step(self, folder: str, name: str) -> str | None:
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            return path
        other = self._listed(folder or ".").get(unicodedata.normalize("NFC", name))
        return other and os.path.join(folder, other)

    def _listed(self, folder: str) -> dict[str, str]:
        """The names in a folder by their composed spelling; none where it cannot be listed."""
        if folder not in self._names:
            try:
                names = sorted(os.listdir(folder), reverse=True)
            except OSError:
                names = []
            self._names[folder] = {unicodedata.normalize("NFC", name): name for name in names}
        return self._names[folder]


def videos_below(folder: Path, may_enter: Callable[[str], bool] = lambda path: True) -> Iterator[str]:
    """The videos in a folder and, links followed once, in the folders below it that may be entered.

    Raises UsageError for one that cannot be listed.
    """
    seen = {identity(folder)}

    def enters(path: str) -> bool:
        if identity(path) in seen or not may_enter(path):
            return False
        seen.add(identity(path))
        return True

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_unlisted):
        inner = sorted((os.path.islink(os.path.join(parent, name)), name) for name in folders if name[0] != ".")
        folders[:] = [name for _, name in inner if enters(os.path.join(parent, name))]
        yield from (os.path.join(parent, name) for name in sorted(files) if is_video_name(name))


def _refuse_unlisted(error: OSError) -> None:
    """Raises UsageError."""
    raise UsageError(
        f"the folder {error.filename!r} cannot be listed: {error.strerror}", "allow it to be read, or move it elsewhere"
    ) from error


def kinetics_file(
    videos: dict[str, str], folder: Path, youtube_id: str, start: float | None, end: float | None
) -> tuple[str, float | None, float | None]:
    """The file of a clip of Kinetics, and what of it is the clip: all of ID_START_END, a part of ID."""
    name = youtube_id if start is None or end is None else f"{youtube_id}_{int(start):06d}_{int(end):06d}"
    if name not in videos and youtube_id in videos:
        return videos[youtube_id], start, end
    return videos.get(name) or str(folder / f"{name}.mp4"), None, None
