"""Clips of a table with a header: `video,label`, and other names of these columns."""

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from xclip_cli.dataset.folders import FileNames, kinetics_file, videos_below
from xclip_cli.dataset.sample import SPLITS, Sample, as_label, seconds, split_named
from xclip_cli.errors import UsageError
from xclip_cli.labels import tables
from xclip_cli.labels.tables import Row
from xclip_cli.video.source import is_video_name

COLUMNS = {
    "video": (
        "video", "videos", "path", "file", "file_name", "file_path", "video_path", "clip", "video_name", "clip_path",
        "video_file", "full_path",
    ),
    "label": ("label", "class", "class_name", "label_name", "category", "action"),
    "start_seconds": ("start_seconds", "time_start", "start_time", "start", "start_sec", "start_s", "begin"),
    "end_seconds": ("end_seconds", "time_end", "end_time", "end", "end_sec", "end_s", "stop"),
    "split": ("split", "subset", "partition"),
    "youtube_id": ("youtube_id", "ytid"),
    "start_frame": ("start_frame", "frame_start", "start_frames"),
    "end_frame": ("end_frame", "frame_end", "end_frames", "stop_frame"),
}  # fmt: skip
_EXAMPLE = "its first line must be video,label (and may add start_seconds,end_seconds,split)"


def has_header(path: Path) -> bool:
    """Return whether the first row names a column of videos and one of labels."""
    _, first = next(iter(tables.read_lines(path)), (0, ""))
    heads = {tables.letters(head) for head in first.split(tables.delimiter_of(first))}
    found = {column for column, names in COLUMNS.items() if heads & {tables.letters(name) for name in names}}
    return "label" in found and bool(found & {"video", "youtube_id"})


def from_table(path: Path, folder: Path, label_of: Callable[[Row, str], str] | None = None) -> list[Sample]:
    """Return the clips of a table, with paths relative to `folder`. `label_of(row, where)` may replace a row's label.

    Raises UsageError naming the line, the value and the rule.
    """
    columns, rows = _read(path)
    by_id = None
    if "video" not in columns:
        by_id = {os.path.splitext(os.path.basename(path))[0]: path for path in videos_below(folder)}
    samples, files = [], FileNames(folder)
    for row in rows:
        where, cells = f"{path}, line {row.line}", row.cells
        for name in ("youtube_id" if by_id is not None else "video", "label"):
            if not cells[name]:
                raise UsageError(f"{where}: {name} is empty", tables.EMPTY_HINT)
        start, end = (seconds(where, name, cells.get(name)) for name in ("start_seconds", "end_seconds"))
        if end is not None and end <= (start or 0):
            raise UsageError(f"{where}: end_seconds is {end}: it must be after the start, {start or 0}")
        label = as_label(label_of(row, where) if label_of else cells["label"])
        split = split_named(cells.get("split", ""))
        if cells.get("split") and split is None:
            rule = f"it must be {', '.join(SPLITS)} or empty"
            raise UsageError(f"{where}: split is {cells['split']!r}: {rule}", "validation and valid mean val")
        if by_id is not None:
            video, start, end = kinetics_file(by_id, folder, cells["youtube_id"], start, end)
        else:
            video = files.find(cells["video"], where)
        samples.append(Sample(video, label, start, end, split))
    return samples


def _read(path: Path) -> tuple[dict[str, int], Iterator[Row]]:
    rows = tables.read_rows(path)
    line, heads = next(rows, (1, []))
    columns = tables.columns_of(path, line, heads, COLUMNS)
    missing = {"video", "label"} - set(columns) - ({"video"} if "youtube_id" in columns else set())
    if missing:
        raise _no_column(path, heads, sorted(missing)[0])
    frames = columns.get("start_frame", columns.get("end_frame"))
    if frames is not None and not {"start_seconds", "end_seconds"} & set(columns):
        raise UsageError(
            f"{path}, line {line}: the column {heads[frames]!r} counts frames, which depend on the reader",
            "give start_seconds and end_seconds",
        )
    first = next(rows, None)
    if first is None:
        raise UsageError(f"{path} has a header and no column of it holds anything: it must have a clip a line")
    return columns, tables.rows_by_column(path, heads, columns, chain([first], rows))


def _no_column(path: Path, heads: list[str], missing: str) -> UsageError:
    hint = "a Kinetics list (path id) needs its label file: --class-list FILE"
    if len(heads) > 1 and is_video_name(heads[0]):
        hint = "add the line video,label above the first"
    elif len(heads) > 1:
        hint = f"it has {', '.join(heads)[:120]}"
    return UsageError(f"{path} has no column {missing!r}: {_EXAMPLE}", hint)
