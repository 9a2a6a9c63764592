"""The append-only record of finished videos that makes a run resumable.

One JSON line per finished video: who it was (path, size, mtime), under which configuration, and its whole result; the
last line also has the hashes of the outputs that were made. A line is written in one call, so that a killed run leaves
at most one torn line, which the next run drops. Results are found again by where their lines start, so that a run of a
million videos need not hold them.

Of a long video in progress the windows that are done are kept beside it, in a second file, until the video is finished.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, NamedTuple

from xclip_cli.errors import OutputError
from xclip_cli.files import beside
from xclip_cli.results import Segment, Tag, VideoResult


def video_key(video: str, configuration: str) -> str:
    """Names a video's content under a configuration: another size, mtime, model or label set is another key."""
    try:
        stat = os.stat(video)
        content = [stat.st_size, stat.st_mtime_ns]
    except (OSError, ValueError):
        content = [None, None]
    return json.dumps([video, *content, configuration])


# What a line may bring about that anybody may have changed.
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def _result(values: dict) -> VideoResult:
    """Raises one of ``_DAMAGED`` where the values are not those of a result."""
    segments = tuple(
        Segment(_number(s["start_seconds"]), _number(s["end_seconds"]), tuple(map(_tag, s["tags"])))
        for s in values["segments"]
    )
    result = VideoResult(**(values | {"segments": segments, "warnings": tuple(values["warnings"])}))
    texts = (result.video, result.model, result.labelset, result.reader, *result.warnings, result.error or "")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is none")
    if result.error is None and not (segments and all(segment.tags for segment in segments)):
        raise ValueError("a video without tags")
    return result


def _tag(values: dict) -> Tag:
    tag = Tag(**values)
    if not isinstance(tag.label, str):
        raise TypeError("a label is no text")
    for number, limit in ((tag.score, 1.0), (tag.similarity, 1.0), (tag.peak_score, 1.0), (tag.peak_seconds, math.inf)):
        if number is not None:
            _number(number, limit)
    return tag


def _number(value: float, limit: float = math.inf) -> float:
    """The value, no farther from 0 than the limit, but for what rounding adds."""
    if isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1.001 * limit:
        raise ValueError(f"{value} is no such number")
    return value


def _itself(path: str, flags: int) -> int:
    """Opens a file that is no link: what a link leads to is nobody's journal."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


_SHARD = b'{"shard": '


class Entry(NamedTuple):
    """A line of the journal: where it starts, the video's key (see ``video_key``), and the result."""

    start: int
    key: str
    result: VideoResult


def _line(key: str, result: VideoResult) -> bytes:
    path = os.path.abspath(result.video)
    return json.dumps({"key": key, "place": path, "result": asdict(result)}).encode() + b"\n"


def _outputs(entry: dict) -> list[str]:
    """The hashes that a line holds."""
    hashes = entry.get("outputs", [])
    return [sha256 for sha256 in hashes if isinstance(sha256, str)] if isinstance(hashes, list) else []


def _read(file: BinaryIO, start: int) -> VideoResult:
    file.seek(start)
    return _result(json.loads(file.readline())["result"])


def _last_line(path: Path) -> tuple[int, bytes]:
    """The last whole line of a file and where it ends: what comes after it is torn."""
    stop, last = 0, b""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                stop, last = stop + len(line), line
    return stop, last


class Scratch:
    """What stands for the journal of a run without an output: in memory, above 64 MB in a file without a name."""

    def __init__(self):
        self._file = SpooledTemporaryFile(max_size=2**26)  # noqa: SIM115

    def __enter__(self) -> "Scratch":
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
        self._file = self._reader = self._windows_file = None
        self._last_line = b""
        self._windows: dict[str, list[dict]] = {}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        if self._windows_file is not None and not self._windows:
            self.windows_path.unlink(missing_ok=True)
        for file in (self._windows_file, self._reader, self._file):  # the last one holds the lock
            if file is not None:
                file.close()

    def open(self, fresh: bool = False) -> Iterator[Entry]:
        """Opens the journal (emptied first if `fresh`) for this process alone and gives its lines, the oldest first."""
        try:
            self._file = open(self.path, "a+b", buffering=0, opener=_itself)  # noqa: SIM115
            self._lock()
            stop, self._last_line = (0, b"") if fresh else _last_line(self.path)
            self._file.truncate(stop)
            self._reader = self.path.open("rb")
            if self.windows_path.exists():
                self._load_windows(fresh)
        except OSError as error:
            raise self._unwritable(error) from error
        return self._entries()

    def _entries(self) -> Iterator[Entry]:
        start = 0
        with self.path.open("rb") as file:
            for line in file:
                with contextlib.suppress(*_DAMAGED):
                    entry = json.loads(line)
                    yield Entry(start, entry["key"], _result(entry["result"]))
                start += len(line)

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
        return _read(self._reader, start)

    def windows(self, key: str) -> list[dict]:
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
        self._windows_file = open(self.windows_path, "a+b", buffering=0, opener=_itself)  # noqa: SIM115
        self._windows_file.truncate(0 if fresh else _last_line(self.windows_path)[0])
        with self.windows_path.open("rb") as file:
            for line in file:
                with contextlib.suppress(*_DAMAGED):
                    entry = json.loads(line)
                    self._windows.setdefault(entry["key"], []).append(entry["windows"])

    def recorded(self) -> Iterator[tuple[str | None, list[str]]]:
        """Of each line the absolute path of the video, if it is of one, and the SHA-256 of outputs made after it."""
        try:
            with self.path.open("rb") as file:
                for line in file:
                    with contextlib.suppress(*_DAMAGED):
                        entry = json.loads(line)
                        place = None if "shard" in entry else entry.get("place") or entry["result"]["video"]
                        yield place and os.path.abspath(place), _outputs(entry)
        except OSError as error:
            raise self._unwritable(error) from error

    def shards(self) -> Iterator[tuple[dict, list[str]]]:
        """What was noted of shards with `note_shard`, and the SHA-256 of the outputs that hold them."""
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if line.startswith(_SHARD):
                        with contextlib.suppress(*_DAMAGED):
                            entry = json.loads(line)
                            yield dict(entry["shard"]), _outputs(entry)
        except OSError as error:
            raise self._unwritable(error) from error

    def note_shard(self, shard: dict) -> None:
        """Remembers, as JSON, which shard the outputs are whose hashes are noted next."""
        if not self._last_line.startswith(_SHARD) or json.loads(self._last_line)["shard"] != shard:
            self._write(json.dumps({"shard": shard}).encode() + b"\n")

    def note_outputs(self, hashes: Iterable[str]) -> None:
        """Remembers in the last line what is about to be written (SHA-256), so that a change by hand is seen later."""
        try:
            known = json.loads(self._last_line).get("outputs", ())
            new = ", ".join(json.dumps(sha256) for sha256 in dict.fromkeys(hashes) if sha256 not in known)
        except _DAMAGED:
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
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks; two runs on one output are the user's care
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another run is writing {str(self.path)!r}: one output has one run at a time",
                "wait for it, or choose another -o",
            ) from None

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write the journal {str(self.path)!r}: {error.strerror or error}",
            "free space or choose another -o; what was finished is kept, run the same command again to go on",
        )
