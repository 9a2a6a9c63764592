"""Files: bundled folders, the user's cache, atomic writes, hashes, printable names, checked JSON."""

import errno
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from xclip_cli.errors import OutputError, StoreError, UsageError, XclipError

CACHE_FOLDERS = {
    "clips": "training clips, decoded",
    "text": "features of labels",
    "sha256": "checksums of files",
}
# Errors of a file system without locks. There two runs must not write the same file.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_DRAFT = re.compile(r"\.xclip-([0-9a-f]{8})-(\d{1,20})-[0-9a-f]{8}\.part")
_DRAFT_SECONDS = 86400.0  # a draft of another machine is deleted when it was not written to for so long
_CACHED = re.compile(rf"\.?[0-9a-f]{{40,64}}(\.safetensors)?(\.[\w-]+(\.part)?)?|{_DRAFT.pattern}")
_MOST_NAME_BYTES = 255
_own_drafts: set[str] = set()  # names of the drafts that this process is writing
_PACKAGE = Path(__file__).resolve().parent
_HARMLESS = "\u00a0\u3000\u200c\u200d"  # blanks and joiners of letters and emoji


def _bundled(folder: str) -> Path:
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (parent / folder).is_dir():
            return parent / folder
    raise XclipError(
        f"the bundled folder {folder!r} is missing beside {_PACKAGE}",
        "reinstall: pip install --force-reinstall xclip-cli",
    )


def labelsets_dir() -> Path:
    """The folder of built-in label YAML files."""
    return _bundled("labelsets")


def weights_dir() -> Path:
    """The folder of bundled model files."""
    return _bundled("weights")


def cache_dir() -> Path:
    """Return the user's cache folder: $XCLIP_CACHE, else the platform's, $XDG_CACHE_HOME or ~/.cache on Linux.

    It may not exist yet. Where the user has no home folder, it is a temporary folder of this process.
    """
    if chosen := os.environ.get("XCLIP_CACHE"):
        return Path(chosen)
    return _user_folder("cache") or Path(_temporary_folder().name)


def index_dir() -> Path:
    """Return the folder of the user's index, in the platform's folder for data: ~/.local/share on Linux.

    It may not exist yet. Raises StoreError where the user has no home folder.
    """
    if folder := _user_folder("data"):
        return folder / "index"
    raise StoreError("there is no home folder for the index", "name a folder: --index FOLDER, or set XDG_DATA_HOME")


def _user_folder(kind: str) -> Path | None:
    import platformdirs  # here, for what needs no such folder

    try:
        folder = getattr(platformdirs, f"user_{kind}_path")("xclip-cli", appauthor=False)
    except RuntimeError:  # no HOME, and no entry for the user
        return None
    return None if folder.parts[0] == "~" else folder


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="xclip-", ignore_cleanup_errors=True)


def cached_files() -> dict[str, list[Path]]:
    """Return the files in the user's cache, by folder, drafts included; files with foreign names are left out."""
    folders = {name: cache_dir() / name for name in CACHE_FOLDERS}
    return {
        name: sorted(file for file in folder.iterdir() if _CACHED.fullmatch(file.name)) if folder.is_dir() else []
        for name, folder in folders.items()
    }


@contextmanager
def replacing(path: Path, follow_link: bool = False) -> Iterator[Path]:
    """Yield a draft beside `path` for the body to write; then replace `path` with it, atomically and synced to disk.

    If the body raises, `path` is unchanged and the draft is deleted. A replaced file keeps its mode and, if the system
    allows it, its owner. With `follow_link` the target of a link is replaced, otherwise the link itself. Raises
    OSError, also where `path` is not a regular file.
    """
    target = Path(os.path.realpath(path)) if follow_link else Path(path)
    before = _status(target, follow_link)
    _remove_stale_drafts(target.parent)
    draft = target.with_name(f".xclip-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    _own_drafts.add(draft.name)
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE((before or os.stat(draft)).st_mode)  # for a new file what the user's umask gives
        _set_mode(draft, mode | stat.S_IRUSR | stat.S_IWUSR)
        yield draft
        _set_mode(draft, mode | stat.S_IRUSR | stat.S_IWUSR)  # some writers make a file of their own
        with open(draft, "rb+") as stream:
            os.fsync(stream.fileno())
        if before is not None and hasattr(os, "chown"):
            for owner in ((-1, before.st_gid), (before.st_uid, -1)):
                with suppress(OSError):
                    os.chown(draft, *owner)
        _set_mode(draft, mode)
        draft.replace(target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    finally:
        _own_drafts.discard(draft.name)


def _set_mode(path: Path, mode: int) -> None:
    """Change the mode if it differs: file systems without modes refuse to set one."""
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        path.chmod(mode)


def _status(target: Path, follow_link: bool) -> os.stat_result | None:
    """Return the status of the regular file there; None for no file or a link to be replaced. Raises OSError."""
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        if follow_link:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, f"it is {_kind(found.st_mode)}, not a file")
    return found


def _kind(mode: int) -> str:
    kinds = (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket")
    return next((kind for matches, kind in kinds if matches(mode)), "a device")


@cache
def _host() -> str:
    """Return a hash of the machine and, on Linux, of the container: the scope of a process number."""
    import platform  # here, so that light commands start without it

    name = platform.node()
    with suppress(OSError):
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@cache
def _remove_stale_drafts(folder: Path) -> None:
    """Delete the drafts of killed processes; once for each folder and process."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = _DRAFT.fullmatch(entry.name)
            if name and entry.is_file(follow_symlinks=False) and entry.name not in _own_drafts:
                ended = name[1] == _host() and not _is_running(int(name[2]))
                with suppress(OSError):
                    if ended or time.time() - entry.stat(follow_symlinks=False).st_mtime > _DRAFT_SECONDS:
                        os.unlink(entry.path)


def _is_running(process: int) -> bool:
    """Return whether another process of this number runs on this host; true if that is unknown."""
    if process == os.getpid():
        return False
    try:
        if os.name == "posix":
            os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


def check_destination(path: Path, what: str = "the output") -> None:
    """Raise UsageError where no file can be written: a device, FIFO or socket, a loop of links, a name too long.

    Links are followed. A folder passes: the caller's message is better.
    """
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UsageError(f"{what} {str(path)!r} is {_kind(mode)}, not a file", "-o - writes to standard output")
    except FileNotFoundError:
        if os.path.islink(path) and not os.path.isdir(folder := os.path.dirname(os.path.realpath(path))):
            raise UsageError(f"{what} {str(path)!r} is a link into {folder!r}, which is not there", "mend it") from None
    except OSError as error:
        raise UsageError(f"{what} {str(path)!r} cannot be written: {error.strerror}", "choose another name") from error


def make_folder(path: Path) -> None:
    """Make a folder for output and its parents. Raises UsageError for an existing file, else OutputError."""
    if os.path.exists(path) and not os.path.isdir(path):
        raise UsageError(f"the output {str(path)!r} is a file: it must be a folder", "choose another one")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(path)!r}: {error.strerror}", "choose another one") from error


def beside(path: Path, suffix: str) -> Path:
    """Return the path with `suffix` after its name; a name over 255 bytes is cut and ends with a hash."""
    name = os.fsencode(path.name)
    if len(name) + len(suffix) > _MOST_NAME_BYTES:
        digest = hashlib.sha256(name).hexdigest()[:16]
        kept = name[: _MOST_NAME_BYTES - len(suffix) - len(digest) - 1].decode(errors="ignore")
        return path.with_name(f"{kept}-{digest}{suffix}")
    return path.with_name(path.name + suffix)


def open_itself(path: str, flags: int) -> int:
    """Open a regular file, as an ``opener`` of `open`. Raises OSError for a link, a device, a pipe or a folder."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would block
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def write_text(path: Path, text: str, follow_link: bool = False) -> None:
    """Write UTF-8 atomically (see `replacing`), line ends unchanged. Raises OSError."""
    with replacing(path, follow_link) as draft:
        draft.write_bytes(text.encode())


def printable(text: str) -> str:
    """Return a file name as valid text: bytes that are not UTF-8 become \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """Return the text as `printable` does, with control characters escaped, safe for a terminal."""
    text = printable(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else repr(c)[1:-1] for c in text)


def content_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file; cached by real path, inode, size and times of change."""
    real = path.resolve()
    state = real.stat()
    seen = f"{state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"  # ctime: mtime can be copied
    note = cache_dir() / "sha256" / hashlib.sha256(os.fsencode(real)).hexdigest()
    try:
        remembered, digest = note.read_text().rsplit(" ", 1)
        if remembered == seen and re.fullmatch("[0-9a-f]{64}", digest):
            return digest
    except (OSError, ValueError):
        pass
    digest = hash_file(real)  # 0.1 s for 79 MB, 3 s for the largest model
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, f"{seen} {digest}")
    return digest


def hash_file(path: Path, algorithm: str = "sha256", prefix: bytes = b"") -> str:
    """Return the hex digest of ``prefix`` and the file's bytes."""
    digest = hashlib.new(algorithm, prefix, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def identity(path: str | os.PathLike[str]) -> Hashable:
    """Return a key that is equal for two paths of one file or folder; for a missing one, its absolute path."""
    try:
        stat = os.stat(path or ".")
    except (OSError, ValueError):
        return os.path.abspath(path)
    return (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(path)


T = TypeVar("T")
_SECONDS = (-1e11, 1e11)
_INTEGERS = (-(2**63), 2**63 - 1)
_COUNTS = "id size first count width generation num_rows number of videos positions epoch step"
LIMITS = {  # of every field of that name, rounding allowed for
    "score": (-0.001, 1.001),
    "peak_score": (-0.001, 1.001),
    "similarity": (-1.001, 1.001),
    "start_seconds": _SECONDS,
    "end_seconds": _SECONDS,
    "peak_seconds": _SECONDS,
    "duration_seconds": _SECONDS,
    "seconds": (0, 1e11),
    "window_seconds": (1e-6, 1e11),
    "stride_seconds": (1e-6, 1e11),
    **dict.fromkeys(_COUNTS.split(), (0, 2**53)),
}


def from_json(text: str | bytes, kind: type[T]) -> T:
    """Return the JSON text as a ``kind`` (see `checked`). Raises ValueError."""
    try:
        return checked(json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique), kind)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def checked(value: Any, kind: type[T], name: str = "value") -> T:
    """Return plain data as a ``kind``: a dataclass or named tuple, a list or tuple of one type, a plain type or Any.

    Dataclasses and named tuples come as a dict, or as a sequence of all their fields. Raises ValueError for another
    type, a field too many or too few, and a number that is not finite or outside the LIMITS of its name.
    """
    arguments, origin = get_args(kind), get_origin(kind)
    if origin is UnionType:  # with None
        return None if value is None else checked(value, arguments[0], name)
    if origin is not None and isinstance(value, list | tuple):  # list[T] or tuple[T, ...]
        return origin(checked(item, arguments[0], name) for item in value)
    if kind is Any:
        return value
    if (fields := _fields(kind)) is not None:
        return _record(value, kind, fields, name)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{name} is of the type {type(value).__name__}, not {getattr(kind, '__name__', kind)}")
    if kind in (int, float):
        least, most = LIMITS.get(name, _INTEGERS)
        if not least <= value <= most:  # nor is NaN
            raise ValueError(f"{name} must be from {least} to {most}")
    return kind(value)


def _record(value: Any, kind: type[T], fields: Mapping[str, type], name: str) -> T:
    if isinstance(value, list | tuple) and len(value) == len(fields):
        value = dict(zip(fields, value, strict=True))
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no {kind.__name__}")
    if unknown := value.keys() - fields.keys():
        raise ValueError(f"{name} has an unknown field {sorted(unknown)[0][:60]!r}")
    try:
        return kind(**{field: checked(item, fields[field], field) for field, item in value.items()})
    except TypeError as error:
        raise ValueError(f"{name} lacks a field: {error}") from error


@cache
def _fields(kind: type) -> dict[str, type] | None:
    return get_type_hints(kind) if hasattr(kind, "__annotations__") else None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in it")
    return values
