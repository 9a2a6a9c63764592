"""Files: bundled folders, the user's cache, writing that is whole or not at all, hashes, names that can be shown."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xclip_cli.errors import XclipError

CACHE_FOLDERS = {
    "clips": "training clips, decoded",
    "text": "features of labels",
    "sha256": "checksums of files",
}
_CACHED = re.compile(r"\.?[0-9a-f]{40,64}(\.safetensors|\.sqlite(-\w+)?)?(\.[\w-]+(\.part)?)?")
_PACKAGE = Path(__file__).resolve().parent
_HARMLESS = "\u00a0\u3000\u200c\u200d"  # blanks, and what joins letters and emoji


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
    """The user's cache: $XCLIP_CACHE, else $XDG_CACHE_HOME/xclip-cli, else ~/.cache/xclip-cli. May not exist yet."""
    if chosen := os.environ.get("XCLIP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xclip-cli"


def index_dir() -> Path:
    """The user's index: $XDG_DATA_HOME/xclip-cli/index, else in ~/.local/share. May not exist yet."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "xclip-cli" / "index"


def cached_files() -> dict[str, list[Path]]:
    """What is in the user's cache, by folder: files that bear the names that we give, drafts too; nobody else's."""
    folders = {name: cache_dir() / name for name in CACHE_FOLDERS}
    return {
        name: sorted(file for file in folder.iterdir() if _CACHED.fullmatch(file.name)) if folder.is_dir() else []
        for name, folder in folders.items()
    }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside `path` for the body to write; then it takes the place of `path`, whole and on the disk.

    Where the body raises, or the disk is full, `path` is as it was and no draft is left. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.part")
    try:
        draft.touch()
        mode = draft.stat().st_mode  # what the user's umask gives: some writers make a file for its owner alone
        yield draft
        draft.chmod(mode)
        with open(draft, "rb+") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, with line ends as they are, whole or not at all. Raises OSError."""
    with replacing(path) as draft:
        draft.write_bytes(text.encode())


def printable(text: str) -> str:
    """Names of files as valid text: bytes that are no UTF-8 appear as \\xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """As `printable`, with control characters written out: a file's name cannot command a terminal or end a line."""
    text = printable(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else repr(c)[1:-1] for c in text)


def content_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; remembered in the user's cache by real path, inode, size and times of change."""
    real = path.resolve()
    stat = real.stat()
    seen = f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"  # ctime: a copied mtime fools none
    note = cache_dir() / "sha256" / hashlib.sha256(os.fsencode(real)).hexdigest()
    try:
        remembered, digest = note.read_text().rsplit(" ", 1)
        if remembered == seen and re.fullmatch("[0-9a-f]{64}", digest):
            return digest
    except (OSError, ValueError):
        pass
    digest = hash_file(real)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, f"{seen} {digest}")
    return digest


def hash_file(path: Path, algorithm: str = "sha256", prefix: bytes = b"") -> str:
    """The hex digest of ``prefix`` and the file's bytes, read in pieces."""
    digest = hashlib.new(algorithm, prefix, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
