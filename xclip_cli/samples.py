"""Which clips there are and what they show: folders, CSV files and Kinetics lists in, samples out."""

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xclip_cli.errors import UsageError
from xclip_cli.video.source import is_video_name

SPLITS = ("train", "val", "test")
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """A labelled clip: a video, or [start_seconds, end_seconds) of it; ``split`` where its list says one."""

    path: str
    label: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str | None = None

    @property
    def has_side(self) -> bool:
        """Whether mirroring the picture would make the label wrong."""
        return bool(_SIDE.search(self.label.replace("_", " ")))


def read_samples(source: str | Path, class_list: str | Path | None = None) -> list[Sample]:
    """The clips of a folder with one folder per class, of a CSV with a header, or of a Kinetics list (`path id`).

    The CSV's columns are ``video,label[,start_seconds,end_seconds][,split]``; a list needs ``class_list``, a name per
    line or Kinetics' own ``id,name``. Paths are relative to the file. Raises UsageError naming the line and the rule.
    """
    source = Path(source)
    if source.is_dir():
        samples = _from_folder(source)
    elif not source.is_file():
        raise UsageError(f"there is no folder or file {str(source)!r}", "name a folder with one folder per class")
    elif class_list is not None:
        samples = _from_kinetics(source, Path(class_list))
    else:
        samples = _from_csv(source)
    if not samples:
        raise UsageError(f"{str(source)!r} holds no clips: it must hold at least one per class")
    return samples


def _from_folder(folder: Path) -> list[Sample]:
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UsageError(
            f"{str(folder)!r} has no folders: it must have one per class, with the clips in them",
            "or give a CSV: video,label",
        )
    files = ((entry.name, file) for entry in classes for file in sorted(entry.iterdir()))
    return [Sample(str(file), label) for label, file in files if is_video_name(file.name)]


def _from_csv(path: Path) -> list[Sample]:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        try:
            rows = list(csv.DictReader(stream, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no CSV in UTF-8: {error}") from error
    missing = {"video", "label"} - set(rows[0] if rows else ())
    if missing:
        raise UsageError(
            f"{path} has no column {sorted(missing)[0]!r}: its first line must be video,label (and may add "
            "start_seconds,end_seconds,split)",
            "a Kinetics list (path id) needs its label file: --class-list FILE",
        )
    return [_sample(path, line, row) for line, row in enumerate(rows, 2)]


def _sample(path: Path, line: int, row: dict[str, str]) -> Sample:
    where, cells = f"{path}, line {line}", {key: (value or "").strip() for key, value in row.items() if key}
    for name in ("video", "label"):
        if not cells[name]:
            raise UsageError(f"{where}: {name} is empty")
    split = cells.get("split") or None
    if split not in (None, *SPLITS):
        raise UsageError(f"{where}: split is {split!r}: it must be {', '.join(SPLITS)} or empty")
    start, end = (_seconds(where, name, cells.get(name)) for name in ("start_seconds", "end_seconds"))
    if end is not None and end <= (start or 0):
        raise UsageError(f"{where}: end_seconds is {end}: it must be after the start, {start or 0}")
    return Sample(str(path.parent / row["video"]), cells["label"], start, end, split)


def _seconds(where: str, name: str, text: str | None) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"{where}: {name} is {text!r}: it must be a number of seconds, 0 or more")
    return seconds


def _from_kinetics(path: Path, class_list: Path) -> list[Sample]:
    names, samples = _class_names(class_list), []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not text.strip():
            continue
        video, _, number = text.strip().rpartition(" ")  # the last one: names of files may have spaces
        if not video or number not in names:
            raise UsageError(
                f"{path}, line {line}: {text.strip()[:80]!r} is not `path id` with an id of {class_list.name} "
                f"(0 to {len(names) - 1})"
            )
        samples.append(Sample(str(path.parent / video.strip()), names[number]))
    return samples


def _class_names(path: Path) -> dict[str, str]:
    """Id -> name of a list with a name per line, or of Kinetics' CSV with a header `id,name`."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the class list {str(path)!r} cannot be read: {error}") from error
    if lines and lines[0].replace(" ", "").lower() == "id,name":
        return {number.strip(): name.strip() for number, name in csv.reader(lines[1:])}
    return {str(number): name for number, name in enumerate(lines)}


def label_names(samples: Iterable[Sample]) -> list[str]:
    """The labels, each once, in alphabetical order: their places are the class numbers."""
    return sorted({sample.label for sample in samples})
