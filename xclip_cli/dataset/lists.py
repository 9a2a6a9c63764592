"""Clips of a list with lines `path id`, as of Kinetics, UCF101 and MMAction.

A wrong guess whether ids count from 0 or 1 would mislabel every clip, so an ambiguous list is refused.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from xclip_cli.dataset.folders import FileNames
from xclip_cli.dataset.rows import from_table, has_header
from xclip_cli.dataset.sample import Sample, as_label
from xclip_cli.errors import UsageError
from xclip_cli.labels import tables
from xclip_cli.labels.classlist import ClassList, id_number, read_class_list
from xclip_cli.labels.tables import Row
from xclip_cli.video.source import is_video_name

_NUMBER_LAST = re.compile(r"[\s,;，；]+(\d+)\Z")


class _Entry(NamedTuple):
    """A line of a list: the video, its id, and the number between the two, where there is one."""

    line: int
    text: str
    video: str
    number: int | None
    between: int | None = None


def from_list(path: Path, folder: Path, class_list: Path, beside: Path | None = None) -> list[Sample]:
    """Return the clips of a list, or of a table whose labels may be ids, with paths relative to `folder`.

    Ids of the list `beside` count from the same number.
    Raises UsageError naming the line and the rule, also where ids may count from 0 or from 1.
    """
    classes = read_class_list(class_list)
    other_entries = _entries(beside) if beside and beside.is_file() else []
    other_ids = {entry.number for entry in other_entries if entry.number is not None}
    if has_header(path):
        return _from_ids_of_table(path, folder, classes, other_ids)
    entries = _entries(path)
    _check_numbers_between(path, entries, classes)
    _check_ids(path, entries, classes, other_ids)
    files = FileNames(folder)
    return [
        Sample(files.find(entry.video, f"{path}, line {entry.line}"), _label(path, entry, classes)) for entry in entries
    ]


def _entries(path: Path) -> list[_Entry]:
    return [_entry(f"{path}, line {line}", line, text) for line, text in tables.read_lines(path)]


def _entry(where: str, line: int, text: str) -> _Entry:
    found = _NUMBER_LAST.search(text)
    if not found:
        return _Entry(line, text, _unquoted(text), None)
    number, rest = id_number(where, found[1]), text[: found.start()]
    between = _NUMBER_LAST.search(rest)
    if between and not is_video_name(os.path.basename(rest)):
        return _Entry(line, text, _unquoted(rest[: between.start()]), number, id_number(where, between[1]))
    return _Entry(line, text, _unquoted(rest), number)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == '"' else text


def _from_ids_of_table(path: Path, folder: Path, classes: ClassList, other_ids: set[int]) -> list[Sample]:
    """A table's labels may be ids or names of the class list."""
    names, entries = set(classes.names.values()), []

    def number_of(row: Row, where: str) -> str:
        label = row.cells["label"]
        if label not in names and not label.isdecimal():
            raise UsageError(f"{where}: {label!r} is no id and no class of {classes.path.name}")
        if label not in names:
            text, number = " ".join(row.cells.values()), id_number(where, label)
            entries.append(_Entry(row.line, text, row.cells.get("video", ""), number))
        return label

    samples = from_table(path, folder, number_of)
    _check_ids(path, entries, classes, other_ids)
    return [s if s.label in names else replace(s, label=as_label(classes.names[int(s.label)])) for s in samples]


def _check_numbers_between(path: Path, entries: Sequence[_Entry], classes: ClassList) -> None:
    """`path frames id` is read; `path id id` and folders of pictures are refused."""
    between = [entry for entry in entries if entry.between is not None]
    for entry in between:
        if not is_video_name(PurePosixPath(entry.video).name):
            raise _refused(path, entry, "names no video: folders of pictures and several numbers are not read")
    if between and all(entry.between in classes.names for entry in between):
        raise _refused(path, between[0], "has two numbers that may be ids: a clip has one", "leave one: path id")


def _label(path: Path, entry: _Entry, classes: ClassList) -> str:
    if entry.number is not None:
        return as_label(classes.names[entry.number])
    if (label := _class_in_path(entry.video, classes)) is None:
        raise _not_an_entry(path, entry, classes)
    return as_label(label)


def _class_in_path(video: str, classes: ClassList) -> str | None:
    """Return the class that a clip's folder or else its file is named after (`horse.mp4`, `horse_01.mp4`)."""
    parent, _, name = video.replace("\\", "/").rpartition("/")
    number = classes.index.get(parent.rpartition("/")[2])
    if number is None:
        stem = os.path.splitext(name)[0]
        number = classes.index.get(stem)
        number = classes.index.get(stem.rstrip("0123456789_- .")) if number is None else number
    return None if number is None else classes.names[number]


def _check_ids(path: Path, entries: Sequence[_Entry], classes: ClassList, other_ids: set[int]) -> None:
    """Check that every id is one of the class list and that paths do not contradict the ids."""
    numbered = [entry for entry in entries if entry.number is not None]
    if numbered and classes.may_have_ids:
        line, name = classes.lines[0], classes.names[0]
        what = f"{classes.path}, line {line}: is the number of {name[:60]!r} its id, or a part of its name?"
        raise UsageError(what, 'an id: add the first line "id name"; a name: put it in quotes')
    used = {entry.number for entry in numbered} | other_ids
    count = len(classes.names)
    named = [(entry, label) for entry in numbered if (label := _class_in_path(entry.video, classes)) is not None]
    if not classes.numbered and used and 0 not in used and max(used) <= count:
        agree = [classes.names.get(entry.number) == label for entry, label in named]
        if max(used) == count or not agree or not all(agree):
            raise _question(path, named[0][0] if named else numbered[0], classes)
    for entry in numbered:
        if entry.number not in classes.names:
            raise _not_an_entry(path, entry, classes)
    for shift in (1, -1):
        if named and all(classes.names.get(entry.number + shift) == label for entry, label in named):
            entry, label = named[0]
            name, other = classes.path.name, classes.names[entry.number]
            raise _refused(
                path,
                entry,
                f"names {label!r}, and id {entry.number} of {name} is {other!r}: do both count from the same number?",
                f"{label!r} has id {entry.number + shift} there: change the ids of one of the two",
            )


def _question(path: Path, entry: _Entry, classes: ClassList) -> UsageError:
    from_0, from_1 = (classes.names.get(entry.number - first, "no class") for first in (0, 1))
    name = classes.path.name
    return _refused(
        path,
        entry,
        f"is {from_1!r} if ids count from 1 (probably: no id is 0) and {from_0!r} if from 0; {name} has no ids",
        f"give it ids: nl -v 1 -w 1 -s ' ' {name} > classes.txt (-v 0 to count from 0), then --class-list classes.txt",
    )


def _not_an_entry(path: Path, entry: _Entry, classes: ClassList) -> UsageError:
    return _refused(path, entry, f"is not `path id` with an id of {classes.path.name} ({classes.span})")


def _refused(path: Path, entry: _Entry, what: str, hint: str | None = None) -> UsageError:
    return UsageError(f"{path}, line {entry.line}: {entry.text[:80]!r} {what}", hint)
