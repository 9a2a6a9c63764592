"""Which videos a request names: files, folders and patterns in; paths out, and what was left out."""

import fnmatch
import glob
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from xclip_cli.files import identity
from xclip_cli.video.source import is_url, is_video_name, shown

LINK = "link"
_CLUTTER = ("thumbs.db", "desktop.ini")  # what Windows leaves in folders; other systems' litter is hidden by its name
_MAX_SUFFIX_LENGTH = 12


@dataclass(frozen=True)
class Found:
    """The videos in a fixed order, each once, and what is to be said about the others.

    ``unreadable`` holds the folders of which nothing can be read, and why: they stand among the videos, for each is an
    error row. ``skipped`` counts files that were left out, by suffix (".txt", "no suffix", "other suffix") or "link".
    ``roots`` are the folders that were named. ``warnings`` says which folders and patterns hold no video.
    """

    videos: list[str]
    unreadable: dict[str, str]
    skipped: Counter[str]
    roots: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Finder:
    """Collects videos: `file`, `folder` or `pattern` for each path of a request, then `found()`.

    A folder is known by its device and inode, so that loops of links end and no folder is read twice. A file or folder
    that is also reached through a symbolic link is found where it really lies. `own` are files that no search finds.
    """

    def __init__(self, recursive: bool, own: Iterable[str] = (), on_skip: Callable[[str, str], None] | None = None):
        self._recursive = recursive
        self._own = {_place(path) for path in own}
        self._on_skip = on_skip
        self._videos: list[str] = []
        self._unreadable: dict[str, str] = {}
        self._skipped: Counter[str] = Counter()
        self._searched: set[Hashable] = set()  # folders, all videos of which are found
        self._named: defaultdict[Hashable, set[str]] = defaultdict(set)  # folder -> files of it that were named
        self._roots: list[str] = []
        self._links: list[str] = []  # files among the videos that are links
        self._met = 0  # how often a search came upon a video, a folder that is searched already or an unreadable one

    def file(self, path: str) -> bool:
        """Takes a file as it is named, even if it is missing. False where it is found already."""
        key, name = _place(path)
        named = self._named[key]
        if name in named or (self._holds(key, name) and os.path.lexists(path)):
            return False
        named.add(name)
        self._videos.append(path)
        return True

    def folder(self, root: str) -> bool:
        """Takes a folder's videos, with `recursive` those of its folders too. False where there is nothing to take."""
        before = self._met
        self._roots.append(root)
        for folder, files, links in self._walk(root, self._searched):
            named = self._named.get(identity(folder), ())
            for file in files:
                name = os.path.basename(file)
                if not is_video_name(name):
                    self._leave_out(file)
                    continue
                self._met += 1
                if name not in named:
                    self._videos.append(file)
                    if file in links:
                        self._links.append(file)
            if not self._recursive:
                break
        return self._met > before

    def pattern(self, pattern: str) -> bool:
        """Takes the files that a glob pattern matches. False where there are none."""
        unreadable = len(self._unreadable)
        paths = self._expand(os.path.join(pattern, "*") if os.path.basename(pattern) == "**" else pattern)
        files = sorted({path for path in paths if not os.path.isdir(path) and not self._is_own(path)})
        for path in files:
            if self.file(path) and os.path.islink(path):
                self._links.append(path)
        return bool(files) or len(self._unreadable) > unreadable

    def give_up(self, folder: str, reason: str) -> None:
        """Puts a folder among the videos as one that cannot be read."""
        self._met += 1
        if folder not in self._unreadable:
            self._videos.append(folder)
        self._unreadable[folder] = reason

    def found(self, warnings: Iterable[str] = ()) -> Found:
        spare = self._spare_links()
        videos = [path for path in self._videos if path not in spare] if spare else self._videos
        return Found(videos, self._unreadable, self._skipped, tuple(self._roots), tuple(warnings))

    def _holds(self, folder: Hashable, name: str) -> bool:
        return name in self._named.get(folder, ()) or (folder in self._searched and is_video_name(name))

    def _walk(self, root: str, seen: set[Hashable]) -> Iterator[tuple[str, list[str], set[str]]]:
        """Each folder below `root` that is not in `seen`, itself first: its path, files, and which of these are links.

        Links to folders are followed after all that really lies in `root`.
        """
        waiting, linked = [root], deque()
        while waiting or linked:
            through_link = not waiting
            folder = linked.popleft() if through_link else waiting.pop()
            key = identity(folder)
            if key in seen:
                self._met += 1
                if through_link:
                    self._skip(folder, LINK)
                continue
            files, folders, links = self._scan(folder)
            if folder not in self._unreadable:
                seen.add(key)
            yield folder, files, links
            waiting += (path for path in reversed(folders) if path not in links)
            linked += (path for path in folders if path in links)

    def _scan(self, folder: str) -> tuple[list[str], list[str], set[str]]:
        """The files and the folders in a folder, sorted, and which of both are links; without hidden ones."""
        files, folders, links = [], [], set()
        for entry in self._entries(folder):
            if not entry.name.startswith("."):
                path = os.path.join(folder, entry.name)
                (folders if _is_folder(entry) else files).append(path)
                if entry.is_symlink():
                    links.add(path)
        files.sort()
        folders.sort()
        return files, folders, links

    def _entries(self, folder: str) -> Iterator[os.DirEntry]:
        try:
            with os.scandir(folder or ".") as entries:
                yield from entries
        except OSError as error:
            self.give_up(folder or ".", f"the folder {shown(folder)} cannot be listed: {error.strerror or error}")

    def _expand(self, pattern: str) -> Iterator[str]:
        """What a pattern matches; each part of it that exists as it stands is taken as it stands."""
        if os.path.lexists(pattern):
            yield pattern
            return
        parent, part = os.path.split(pattern)
        if parent == pattern:
            return
        for folder in self._expand(parent) if parent else ("",):
            if os.path.lexists(path := os.path.join(folder, part)):
                yield path
            elif glob.has_magic(part) and os.path.isdir(folder or "."):
                yield from self._matches(folder, part)

    def _matches(self, folder: str, part: str) -> Iterator[str]:
        """What one part of a pattern matches in a folder; ``**`` is the folder and all folders below it."""
        if part == "**":
            yield from (below for below, _, _ in self._walk(folder, set()))
            return
        for name in fnmatch.filter((entry.name for entry in self._entries(folder)), part):
            if part.startswith(".") or not name.startswith("."):
                yield os.path.join(folder, name)

    def _spare_links(self) -> set[str]:
        """The links to files that are found elsewhere, under their own name or through an earlier link."""
        spare, targets = set(), set()
        for link in self._links:
            if not os.path.exists(link):
                continue  # its row will say so
            target = identity(link)
            if target in targets or self._holds(*_place(os.path.realpath(link))):
                spare.add(link)
                self._skip(link, LINK)
            targets.add(target)
        return spare

    def _is_own(self, path: str) -> bool:
        return bool(self._own) and _place(path) in self._own

    def _leave_out(self, path: str) -> None:
        name = os.path.basename(path)
        sidecar = name.lower().endswith(".xmp") and is_video_name(name[:-4])  # of --write-sidecars
        if name.lower() not in _CLUTTER and not sidecar and not self._is_own(path):
            suffix = os.path.splitext(name)[1].lower()
            plain = suffix[1:].isalnum() and len(suffix) <= _MAX_SUFFIX_LENGTH
            self._skip(path, suffix if plain else "other suffix" if suffix else "no suffix")

    def _skip(self, path: str, reason: str) -> None:
        self._skipped[reason] += 1
        if self._on_skip is not None:
            self._on_skip(path, reason)


def is_pattern(path: str) -> bool:
    """Whether a part of the path that does not exist as it stands holds ``*``, ``?`` or ``[``; a URL is none."""
    while not (is_url(path) or os.path.lexists(path)):
        parent, part = os.path.split(path)
        if glob.has_magic(part):
            return True
        if parent in ("", path):
            return False
        path = parent
    return False


def _place(path: str) -> tuple[Hashable, str]:
    """Which entry of which folder a path is."""
    folder, name = os.path.split(path)
    return identity(folder), name


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False
