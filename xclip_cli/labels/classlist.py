"""Class lists of data sets: a name a line, or ids and names (`1 ApplyEyeMakeup`, `id,name`)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xclip_cli.errors import UsageError
from xclip_cli.labels import tables
from xclip_cli.labels.tables import letters, normalise

_IDS = ("id", "index", "idx", "number", "no", "class_id", "label_id", "class_index")
_NAMES = ("name", "names", "label", "labels", "class", "classes", "class_name", "label_name", "action", "category")
_ID_HEADS, _NAME_HEADS = ({letters(name) for name in names} for names in (_IDS, _NAMES))
_NUMBERED = re.compile(r"(\d+)(?:[.:)]\s*|\s+)(\S.*)")
_MOST_DIGITS = 18


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

    @property
    def may_have_ids(self) -> bool:
        """Whether every name begins with a number, although these do not count up (`7 rings`, or a subset's ids)."""
        return not self.numbered and len(self.names) > 1 and all(map(_NUMBERED.fullmatch, self.names.values()))

    @cached_property
    def index(self) -> "NameIndex":
        """The ids by name."""
        return NameIndex(self.names.values(), self.names)


class NameIndex:
    """Numbers of class names: found by spelling, else by letters and digits where one class alone has these."""

    def __init__(self, names: Iterable[str], numbers: Iterable[int] | None = None):
        names = list(names)
        self._exact = dict(zip(map(normalise, names), range(len(names)) if numbers is None else numbers, strict=True))
        self._loose: dict[str, int | None] = {}
        for name, number in self._exact.items():
            key = letters(name)
            self._loose[key] = None if key in self._loose or not key else number
        self._asked: dict[str, int | None] = {}

    def get(self, name: str) -> int | None:
        """Return the number of a class, or None."""
        if name not in self._asked:
            exact = self._exact.get(normalise(name))
            self._asked[name] = self._loose.get(letters(name)) if exact is None else exact
        return self._asked[name]


def id_number(where: str, text: str) -> int:
    """Return the id in a text of digits. Raises UsageError, beginning with `where`, for more than 18 digits."""
    if len(text) > _MOST_DIGITS:
        raise UsageError(f"{where}: the id {text[:12]}... has {len(text):,} digits: at most {_MOST_DIGITS} are read")
    return int(text)


def read_class_list(path: Path) -> ClassList:
    """Read a class list. Raises UsageError naming the line, also where a line may be a header or a class."""
    lines = tables.read_lines(path)
    if not lines:
        raise UsageError(f"the class list {str(path)!r} is empty: it must have a class a line")
    heads = [letters(word) for word in lines[0][1].split()]  # perhaps `id name`, separated by blanks
    has_ids = len(lines) > 1 and len(heads) == 2 and heads[0] in _ID_HEADS and heads[1] in _NAME_HEADS
    lines = lines[has_ids:]
    entries = _with_header(path, lines[0][1]) or _numbered_rows(path, lines) or numbered_lines(path, lines, has_ids)
    if entries is None:
        entries = _plain(path, lines)
    numbered = entries[0][1] is not None
    names, places, seen = {}, {}, {}
    for count, (line, number, name) in enumerate(entries):
        number = count if number is None else number
        first = seen.setdefault(normalise(name), name)
        if number in names or len(seen) == count:
            other = f" (first as {first[:60]!r})" if first != name else ""
            what = f"the id {number}" if number in names else f"the class {name[:60]!r}{other}"
            raise UsageError(
                f"{path}, line {line}: {what} is listed twice: ids and classes must differ in more than case and spaces"
            )
        names[number], places[number] = name, line
    return ClassList(path, names, places, numbered)


Entries = list[tuple[int, int | None, str]]  # line, id (None: it has no number), name


def _with_header(path: Path, first: str) -> Entries | None:
    """Of a table whose header names an id and a name, or a name among other columns."""
    if not set(first) & set(tables.DELIMITERS):
        return None
    if not any(letters(head) in _NAME_HEADS for head in first.split(tables.delimiter_of(first))):
        return None
    rows = tables.read_rows(path)
    line, heads = next(rows)
    columns = tables.columns_of(path, line, heads, {"id": _IDS, "name": _NAMES})
    if "name" not in columns:
        return None
    found = []
    for row in tables.rows_by_column(path, heads, columns, rows):
        number = row.cells.get("id")
        where = f"{path}, line {row.line}"
        if not row.cells["name"] or (number is not None and not number.isdecimal()):
            raise UsageError(f"{where}: {' '.join(row.cells.values())[:60]!r} is no id and name", tables.EMPTY_HINT)
        found.append((row.line, None if number is None else id_number(where, number), row.cells["name"]))
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
        where, row = f"{path}, line {line}", [cell for i, cell in enumerate(row) if i < 2 or cell]
        if len(row) != 2 or not all(row):
            what = f"{len(row)} cells" if len(row) != 2 else "the name is empty"
            hint = "put a name that holds the delimiter in quotes, or say which column is which: id,name,..."
            raise UsageError(f"{where}: {what}: it must be an id and a name", hint if all(row) else tables.EMPTY_HINT)
        if not row[column].isdecimal():
            raise UsageError(f"{where}: {row[column][:60]!r} is no id: it must be a number")
        found.append((line, id_number(where, row[column]), row[1 + column]))
    return found


def numbered_lines(path: Path, lines: Sequence[tuple[int, str]], any_numbers: bool = False) -> Entries | None:
    """Of `1 Name` lines that count up from 0 or 1, or have `any_numbers`; None where these may be part of the names."""
    matches = [_NUMBERED.fullmatch(text) for _, text in lines]
    counting = len(lines) > 1 and all(match and len(match[1]) <= _MOST_DIGITS for match in matches)
    if not all(matches) or not (any_numbers or counting):
        return None
    numbers = [id_number(f"{path}, line {line}", m[1]) for (line, _), m in zip(lines, matches, strict=True)]
    if not any_numbers and numbers not in ([*range(len(lines))], [*range(1, len(lines) + 1)]):
        return None
    for (line, _), m in zip(lines, matches, strict=True):
        _check_given(path, line, m[2])
    return [(line, n, m[2]) for (line, _), n, m in zip(lines, numbers, matches, strict=True)]


def _check_given(path: Path, line: int, name: str) -> None:
    if tables.is_missing(name):
        raise UsageError(f"{path}, line {line}: the class {name!r} says that it is missing", tables.EMPTY_HINT)


def _plain(path: Path, lines: Sequence[tuple[int, str]]) -> Entries:
    bare = [(line, text) for line, text in lines if not _NUMBERED.fullmatch(text)]
    if 0 < len(bare) * 2 < len(lines):
        raise UsageError(f"{path}, line {bare[0][0]}: {bare[0][1][:60]!r} has no id, as other lines have", "add it")
    line, first = lines[0]
    if letters(first) in _NAME_HEADS:
        raise UsageError(
            f"{path}, line {line}: {first!r} may be a header or a class: every id hangs on it",
            "delete the line, or give ids: id,name",
        )
    for line, text in lines:
        _check_given(path, line, text)
    return [(line, None, text[1:-1] if text[0] == text[-1] == '"' and len(text) > 2 else text) for line, text in lines]
