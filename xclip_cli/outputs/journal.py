"""The append-only record of finished videos that makes a run resumable.

One JSON line per finished video: who it was (path, size, mtime), under which configuration, and its whole result; the
last line also has the hashes of the outputs that were made. A line is written in one call, so that a killed run leaves
at most one torn line, which the next run drops. Results are found again by where their lines start, so that a run of a
million videos need not hold them.

Of a long video in progress the windows that are done are kept beside it, in a second file, until the video is finished.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, NamedTuple

from xclip_cli.errors import OutputError
from xclip_cli.files import NO_LOCKS, beside, from_json, open_itself
from xclip_cli.results import UNKNOWN, VideoResult


def video_key(video: str, configuration: str) -> str:
    """Names a video's content under a configuration: another size, mtime, model or label set is another key."""
    try:
        state = os.stat(video)
        content = [state.st_size, state.st_mtime_ns]
    except (OSError, ValueError):
        content = [None, None]
    return json.dumps([video, *content, configuration])


class _Line(NamedTuple):
    """A line of the journal is of a video or of a shard; ``outputs`` are the SHA-256 of files made after it."""

    key: str | None = None
    place: str | None = None
    result: VideoResult | None = None
    shard: dict | None = None
    outputs: Any = ()

    @property
    def hashes(self) -> list[str]:
        """What is a text of the outputs."""
        return [text for text in self.outputs if isinstance(text, str)] if isinstance(self.outputs, list) else []

    @classmethod
    def read(cls, text: bytes) -> "_Line":
        """Raises ValueError where the line is not one that this program writes."""
        line = from_json(text, cls)
        if (line.key is None) == (line.shard is None) or (line.key is None) != (line.result is None):
            raise ValueError("it is neither of a video nor of a shard")
        if line.result is not None:
            _check_result(line.result)
        return line


class _WindowsLine(NamedTuple):
    """A line of the file of windows: those of an unfinished video."""

    key: str
    windows: Any


def _check_result(result: VideoResult) -> None:
    """Raises ValueError for what no run makes."""
    if result.error is None and not (result.segments and all(segment.tags for segment in result.segments)):
        raise ValueError("a video without tags")
    for segment in result.segments:
        if not segment.start_seconds <= segment.end_seconds:
            raise ValueError("a segment ends before it starts")
        if any(tag.label != UNKNOWN and None in (tag.score, tag.similarity) for tag in segment.tags):
            raise ValueError("a label without a score")


class Entry(NamedTuple):
    """A line of the journal: where it starts, the video's key (see ``video_key``), and the result."""

    start: int
    key: str
    result: VideoResult


def _line(key: str, result: VideoResult) -> bytes:
    path = os.path.abspath(result.video)
    return json.dumps({"key": key, "place": path, "result": asdict(result)}).encode() + b"\n"


def _read(file: BinaryIO, start: int) -> VideoResult:
    file.seek(start)
    return _Line.read(file.readline()).result


def _last_line(path: Path) -> tuple[int, bytes]:
    """The last whole line of a file and where it ends: what comes after it is torn."""
    stop, last = 0, b""
    with open(path, "rb", opener=open_itself) as file:
        for line in file:
            if line.endswith(b"\n"):
                stop, last = stop + len(line), line
    return stop, last


class MemoryJournal:
    """What stands for the journal of a run without an output: in memory, above 64 MB in a file without a name."""

    def __init__(self):
        self._file = SpooledTemporaryFile(max_size=2**26)  # noqa: SIM115

    def __enter__(self) -> "MemoryJournal":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def append(self, key: str, result: VideoResult) -> int:
        """Adds a result; gives what `read` finds it by."""
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(_line(key, result))
        return start

    def read(self, start: int) -> VideoResult:
        return _read(self._file, start)


class Journal:
    """The journal beside an output file, or in an output folder.

    Raises OutputError where it cannot be read, locked or written.
    """

    def __init__(self, output: Path):
        folder = os.path.isdir(output)
        self.path = output / "tags.journal" if folder else beside(output, ".journal")
        self.windows_path = output / "tags.journal.windows" if folder else beside(output, ".journal.windows")
        self.lock_path = output / "tags.journal.lock" if folder else beside(output, ".journal.lock")
        self._file = self._reader = self._windows_file = self._file_lock = None
        self._last_line = b""
        self._windows: dict[str, list[Any]] = {}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        for file in (self._windows_file, self._reader, self._file):
            if file is not None:
                file.close()
        if self._windows_file is not None and not self._windows:
            self.windows_path.unlink(missing_ok=True)
        if self._file_lock is not None and self._file_lock.is_locked:
            with suppress(OSError):  # Windows keeps what is open
                self.lock_path.unlink()
            self._file_lock.release()

    def open(self, fresh: bool = False) -> Iterator[Entry]:
        """Opens the journal (emptied first if `fresh`) for this process alone and gives its lines, the oldest first."""
        try:
            self._file = open(self.path, "a+b", buffering=0, opener=open_itself)  # noqa: SIM115
            self._lock()
            stop, self._last_line = (0, b"") if fresh else _last_line(self.path)
            self._file.truncate(stop)
            self._reader = open(self.path, "rb", opener=open_itself)  # noqa: SIM115
            if self.windows_path.exists():
                self._load_windows(fresh)
        except OSError as error:
            raise self._unwritable(error) from error
        return (Entry(start, line.key, line.result) for start, line in self._lines() if line.result is not None)

    def load(self, fresh: bool = False) -> dict[str, VideoResult]:
        """As `open`, and gives the tagged videos by key. Failed ones are not among them: they are tried again."""
        finished = {entry.key: entry.result for entry in self.open(fresh)}
        return {key: result for key, result in finished.items() if result.error is None}

    def append(self, key: str, result: VideoResult) -> int:
        """Adds a finished video; gives what `read` finds it by."""
        start = self._file.seek(0, os.SEEK_END)
        self._write(_line(key, result))
        if key in self._windows:
            self._windows.clear()
            self._windows_file.truncate(0)
        return start

    def read(self, start: int) -> VideoResult:
        """The result whose line starts there."""
        try:
            return _read(self._reader, start)
        except (OSError, ValueError) as error:
            raise self._unwritable(OSError(f"it was changed while it was in use: {error}")) from error

    def windows(self, key: str) -> list[Any]:
        """What earlier runs noted of an unfinished video with `append_windows`."""
        return self._windows.get(key, [])

    def append_windows(self, key: str, windows: dict) -> None:
        """Notes some windows of a video in progress, as JSON; forgotten once it is finished."""
        try:
            if self._windows_file is None:
                self._load_windows(fresh=True)
            self._windows.setdefault(key, [])
            line = json.dumps({"key": key, "windows": windows}).encode() + b"\n"
            if self._windows_file.write(line) != len(line):
                raise OSError("the disk is full")
        except OSError as error:
            raise self._unwritable(error) from error

    def _load_windows(self, fresh: bool) -> None:
        self._windows_file = open(self.windows_path, "a+b", buffering=0, opener=open_itself)  # noqa: SIM115
        self._windows_file.truncate(0 if fresh else _last_line(self.windows_path)[0])
        with open(self.windows_path, "rb", opener=open_itself) as file:
            for line in file:
                with suppress(ValueError):
                    entry = from_json(line, _WindowsLine)
                    self._windows.setdefault(entry.key, []).append(entry.windows)

    def recorded(self) -> Iterator[tuple[str | None, list[str]]]:
        """Of each line the absolute path of the video, if it is of one, and the SHA-256 of outputs made after it."""
        for _, line in self._lines():
            place = None if line.result is None else line.place or line.result.video
            yield place and os.path.abspath(place), line.hashes

    def shards(self) -> Iterator[tuple[dict, list[str]]]:
        """What was noted of shards with `note_shard`, and the SHA-256 of the outputs that hold them."""
        return ((line.shard, line.hashes) for _, line in self._lines() if line.shard is not None)

    def _lines(self) -> Iterator[tuple[int, _Line]]:
        """The lines that are not damaged, each with where it starts. Raises OutputError."""
        start = 0
        try:
            with open(self.path, "rb", opener=open_itself) as file:
                for line in file:
                    with suppress(ValueError):
                        yield start, _Line.read(line)
                    start += len(line)
        except OSError as error:
            raise self._unwritable(error) from error

    def note_shard(self, shard: dict) -> None:
        """Remembers, as JSON, which shard the outputs are whose hashes are noted next."""
        with suppress(ValueError):
            if _Line.read(self._last_line).shard == shard:
                return
        self._write(json.dumps({"shard": shard}).encode() + b"\n")

    def note_outputs(self, hashes: Iterable[str]) -> None:
        """Remembers in the last line what is about to be written (SHA-256), so that a change by hand is seen later."""
        try:
            known = _Line.read(self._last_line).outputs
            new = ", ".join(json.dumps(sha256) for sha256 in dict.fromkeys(hashes) if sha256 not in known)
        except (ValueError, TypeError):
            return
        end = b"]}\n" if known else b"}\n"
        if new and self._last_line.endswith(end):
            more = (f", {new}" if known else f', "outputs": [{new}').encode() + b"]}\n"
            try:
                with open(self.path, "r+b", buffering=0) as file:  # the other one can only append
                    file.seek(-len(end), os.SEEK_END)
                    file.write(more)  # over the end of the line, in one call: a kill leaves it as it was
            except OSError as error:
                raise self._unwritable(error) from error
            self._last_line = self._last_line.removesuffix(end) + more

    def _write(self, line: bytes) -> None:
        try:
            written = self._file.write(line)
        except OSError as error:
            raise self._unwritable(error) from error
        if written != len(line):
            raise self._unwritable(OSError("the disk is full"))
        self._last_line = line

    def _lock(self) -> None:
        from filelock import FileLock, Timeout  # here, for runs without an output

        self._file_lock = FileLock(self.lock_path, thread_local=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a file system without locks
                self._file_lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"another run is writing {str(self.path)!r}: one output has one run at a time",
                "wait for it, or choose another -o",
            ) from None
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", None) not in (None, *NO_LOCKS):
                raise

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write the journal {str(self.path)!r}: {error.strerror or error}",
            "free space or choose another -o; what was finished is kept, run the same command again to go on",
        )
