"""Lists of classes: a name a line, or ids and names, as data sets give them (`1 ApplyEyeMakeup`, `id,name`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xclip_cli import tables
from xclip_cli.errors import UsageError

_IDS = ("id", "index", "idx", "number", "no", "class_id", "label_id", "class_index", "classid", "labelid")
_NAMES = ("name", "names", "label", "labels", "class", "classes", "class_name", "label_name", "action", "category")
_NUMBERED = re.compile(r"(\d+)(?:[.:)]\s*|\s+)(\S.*)")


@dataclass(frozen=True)
class ClassList:
    """The classes of a list by id. Where the file has no numbers of its own, not ``numbered``, they count from 0."""

    path: Path
    names: dict[int, str]
    lines: dict[int, int]
    numbered: bool

    @property
    def span(self) -> str:
        return f"{min(self.names)} to {max(self.names)}"


def key(name: str) -> str:
    """What two spellings of a class have in common: letters and digits, without case (TaiChi, tai_chi, tai chi)."""
    return "".join(c for c in name.casefold() if c.isalnum())


def read_class_list(path: Path) -> ClassList:
    """Reads a list. Raises UsageError naming the line where it is none, or where a line may be a header or a class."""
    lines = tables.read_lines(path)
    if not lines:
        raise UsageError(f"the class list {str(path)!r} is empty: it must have a class a line")
    if _is_header(lines[0][1].split()) and len(lines) > 1:
        lines = lines[1:]
    entries = _with_header(path, lines[0][1]) or _numbered_rows(path, lines) or numbered_lines(lines)
    if entries is None:
        entries = _plain(path, lines)
    numbered = entries[0][1] is not None
    names, places = {}, {}
    for count, (line, number, name) in enumerate(entries):
        number = count if number is None else number
        if number in names or name in names.values():
            what = f"the id {number}" if number in names else f"the class {name!r}"
            raise UsageError(f"{path}, line {line}: {what} is listed twice: ids and classes must differ")
        names[number], places[number] = name, line
    return ClassList(path, names, places, numbered)


def _is_header(words: Sequence[str]) -> bool:
    """Whether these are `id name`, separated by blanks."""
    heads = [tables.column_name(word) for word in words]
    return len(heads) == 2 and heads[0] in _IDS and heads[1] in _NAMES


Entries = list[tuple[int, int | None, str]]  # line, id (None: it has no number), name


def _with_header(path: Path, first: str) -> Entries | None:
    """Of a table whose header names an id and a name, or a name among other columns."""
    if not set(first) & set(tables.DELIMITERS):
        return None
    heads = [tables.column_name(cell) for cell in first.split(tables.delimiter_of(first))]
    if not any(head.strip('"') in _NAMES for head in heads):
        return None
    rows = tables.read_rows(path)
    line, heads = next(rows)
    columns = tables.columns_of(path, line, heads, {"id": _IDS, "name": _NAMES})
    if "name" not in columns:
        return None
    found = []
    for row in tables.rows_by_column(path, heads, columns, rows):
        number = row.cells.get("id")
        if not row.cells["name"] or (number is not None and not number.isdecimal()):
            raise UsageError(f"{path}, line {row.line}: {' '.join(row.cells.values())!r} is no id and name")
        found.append((row.line, None if number is None else int(number), row.cells["name"]))
    if not found:
        raise UsageError(f"the class list {str(path)!r} has a header and no classes")
    return found


def _numbered_rows(path: Path, lines: Sequence[tuple[int, str]]) -> Entries | None:
    """Of `id,name` or `name,id` without a header."""
    mark = tables.delimiter_of(lines[0][1])
    cells = [text.split(mark) for _, text in lines]
    column = next((i for i in (0, -1) if all(len(c) > 1 and tables.strip(c[i]).isdecimal() for c in cells)), None)
    if column is None:
        return None
    found = []
    for line, row in tables.read_rows(path):
        while not row[-1]:
            row.pop()
        if len(row) != 2:
            raise UsageError(
                f"{path}, line {line}: {len(row)} cells: it must be an id and a name",
                "put a name that holds the delimiter in quotes, or say which column is which: id,name,...",
            )
        found.append((line, int(row[column]), row[1 + column if column else 1]))
    return found


def numbered_lines(lines: Sequence[tuple[int, str]]) -> Entries | None:
    """Of `1 Name` lines; None where they have no numbers."""
    matches = [_NUMBERED.fullmatch(text) for _, text in lines]
    if not all(matches):
        return None
    return [(line, int(m[1]), m[2]) for (line, _), m in zip(lines, matches, strict=True)]


def _plain(path: Path, lines: Sequence[tuple[int, str]]) -> Entries:
    bare = [(line, text) for line, text in lines if not _NUMBERED.fullmatch(text)]
    if 0 < len(bare) * 2 < len(lines):
        raise UsageError(f"{path}, line {bare[0][0]}: {bare[0][1][:60]!r} has no id, as other lines have", "add it")
    line, first = lines[0]
    if tables.column_name(first.strip('"')) in _NAMES:
        raise UsageError(
            f"{path}, line {line}: {first!r} may be a header or a class: every id hangs on it",
            "delete the line, or give ids: id,name",
        )
    return [(line, None, text[1:-1] if text[0] == text[-1] == '"' and len(text) > 2 else text) for line, text in lines]
