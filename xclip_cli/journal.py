"""The append-only record of finished videos that makes a run resumable.

One JSON line per finished video: who it was (path, size, mtime), under which configuration, and its whole result; the
last line also has the hashes of the outputs that were made. A line is written in one call, so that a killed run leaves
at most one torn line, which the next run drops.

Of a long video in progress the windows that are done are kept beside it, in a second file, until the video is finished.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from xclip_cli.errors import OutputError
from xclip_cli.results import Segment, Tag, VideoResult


def video_key(video: str, configuration: str) -> str:
    """Names a video's content under a configuration: another size, mtime, model or label set is another key."""
    try:
        stat = os.stat(video)
        content = [stat.st_size, stat.st_mtime_ns]
    except (OSError, ValueError):
        content = [None, None]
    return json.dumps([video, *content, configuration])


def _result(values: dict) -> VideoResult:
    segments = tuple(
        Segment(s["start_seconds"], s["end_seconds"], tuple(Tag(**tag) for tag in s["tags"]))
        for s in values["segments"]
    )
    return VideoResult(**(values | {"segments": segments, "warnings": tuple(values["warnings"])}))


def _whole_lines(file: BinaryIO, fresh: bool) -> bytes:
    """What is in a file of lines, after a torn last one (all, if `fresh`) was cut off."""
    if fresh:
        file.truncate(0)
    file.seek(0)
    data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        file.truncate(len(whole))
    return whole


class Journal:
    """The journal beside an output file, or in an output folder.

    Raises OutputError where it cannot be read, locked or written.
    """

    def __init__(self, output: Path):
        self.path = output / "tags.journal" if output.is_dir() else output.with_name(output.name + ".journal")
        self.windows_path = self.path.with_name(self.path.name + ".windows")
        self._file = self._windows_file = None
        self._last_line = b""
        self._windows: dict[str, list[dict]] = {}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        if self._file is None:
            return
        if self._windows_file is not None:
            self._windows_file.close()
            if not self._windows:
                self.windows_path.unlink(missing_ok=True)
        self._file.close()  # and with it the lock

    def load(self, fresh: bool = False) -> dict[str, VideoResult]:
        """Opens the journal (emptied first if `fresh`) for this process alone and gives the tagged videos by key.

        Failed videos are not among them: they are tried again.
        """
        try:
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
            self._lock()
            whole = _whole_lines(self._file, fresh)
            if self.windows_path.exists():
                self._load_windows(fresh)
        except OSError as error:
            raise self._unwritable(error) from error
        self._last_line = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        finished = {}
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                finished[entry["key"]] = _result(entry["result"])
        return {key: result for key, result in finished.items() if result.error is None}

    def append(self, key: str, result: VideoResult) -> None:
        path = os.path.abspath(result.video)
        self._write(json.dumps({"key": key, "place": path, "result": asdict(result)}).encode() + b"\n")
        if key in self._windows:
            self._windows.clear()
            self._windows_file.truncate(0)

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
        self._windows_file = open(self.windows_path, "a+b", buffering=0)  # noqa: SIM115
        for line in _whole_lines(self._windows_file, fresh).splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self._windows.setdefault(entry["key"], []).append(entry["windows"])

    def recorded(self) -> tuple[list[str], set[str]]:
        """The absolute paths of all videos that earlier runs finished, and the SHA-256 of each output they made."""
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError as error:
            raise self._unwritable(error) from error
        places, outputs = {}, set()
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                places[entry.get("place") or os.path.abspath(entry["result"]["video"])] = None
                outputs.update(entry.get("outputs", ()))
        return list(places), outputs

    def note_outputs(self, hashes: Iterable[str]) -> None:
        """Remembers in the last line what is about to be written (SHA-256), so that a change by hand is seen later."""
        try:
            known = json.loads(self._last_line).get("outputs", ())
        except (ValueError, AttributeError):
            return
        new = ", ".join(json.dumps(sha256) for sha256 in dict.fromkeys(hashes) if sha256 not in known)
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
