"""The file that a cell of a table means, as other systems and other programs write names."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath

from xclip_cli.errors import UsageError
from xclip_cli.files import identity
from xclip_cli.video.source import is_video_name

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


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

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse_unlisted):
        inner = sorted((os.path.islink(os.path.join(parent, name)), name) for name in folders if name[0] != ".")
        folders[:] = [name for _, name in inner if enters(os.path.join(parent, name))]
        yield from (os.path.join(parent, name) for name in sorted(files) if is_video_name(name))


def refuse_unlisted(error: OSError) -> None:
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
