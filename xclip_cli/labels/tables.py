"""Text and CSV files from Excel, Windows or scripts; errors name the line and the fix."""

import codecs
import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xclip_cli.errors import UsageError

DELIMITERS = ",;\t，；"
EMPTY_HINT = (
    'fill it in, or delete the row; nan, NA, null and none count as empty: a class of that name needs quotes: "null"'
)
_MISSING = {"nan", "na", "n/a", "null", "none", "<na>", "#n/a", "#na"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_HIGH_BYTES = re.compile(rb"(?:[\x81-\xfe][\x40-\x7e\x80-\xfe])+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_EXCEL_SEPARATOR = re.compile(r"sep=([,;|]?)", re.IGNORECASE)  # a tab at its end is stripped
_SHOWN = 60


@dataclass(frozen=True)
class Row:
    """A row's cells by column, and the line of the file that it begins on."""

    line: int
    cells: Mapping[str, str]


def not_utf8(data: bytes, start: int) -> tuple[int, str, str]:
    """Return the line number of the first byte (at `start`) that is not UTF-8, the probable encoding and the line."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return 1, "utf-16", data.decode("utf-16", "replace").partition("\n")[0]
    line = len(_LINE_END.findall(data[:start])) + 1
    text = data.splitlines()[line - 1]
    for encoding in ("gb18030", "cp1252", "latin-1"):
        paired = not _HIGH_BYTES.sub(b"", text).strip(bytes(range(128)))
        if encoding == "gb18030" and not (paired and len(re.findall(rb"[\x80-\xff]{2}", text))):
            continue
        try:
            return line, encoding, text.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("Latin-1 reads every byte")


def is_missing(text: str) -> bool:
    """Return whether an unquoted cell is what pandas, R or a spreadsheet write for a missing value."""
    return text.casefold() in _MISSING


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, or of UTF-16 with BOM, with "\\n" line ends. Raises UsageError."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{str(path)!r} cannot be read: it must be a regular file")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    mark, encoding = next(((mark, name) for mark, name in _BOMS if data.startswith(mark)), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UsageError(f"{path} says that it is {encoding} and is not: {error.reason}", _save(path)) from None
        line, guess, shown = not_utf8(data, len(mark) + error.start)
        raise UsageError(
            f"{path}, line {line}: not UTF-8, probably {guess}: {shown[:_SHOWN]!r}", _save(path, guess)
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        what = "the file is UTF-16 without its mark, or no text" if text.count("\0") > len(text) / 4 else "a NUL byte"
        raise UsageError(
            f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: {what}", f"delete it, or {_save(path)}"
        )
    return text


def _save(path: Path, encoding: str | None = None) -> str:
    """Return the hint for a wrong encoding."""
    convert = f", or: iconv -f {encoding.upper()} -t UTF-8 {path.name} > utf8{path.suffix}" if encoding else ""
    return f"save it as UTF-8 (Excel: CSV UTF-8){convert}"


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the non-empty lines, stripped, with their numbers. Raises UsageError."""
    lines = ((number, strip(text)) for number, text in enumerate(read_text(path).split("\n"), 1))
    return [(number, text) for number, text in lines if text]


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the non-empty rows, cells stripped, each with the line it begins on. Raises UsageError.

    Accepted separators: comma, semicolon, tab (the most frequent in the first row), or what Excel's `sep=;` names.
    An unquoted missing value, such as `nan` or `N/A`, is an empty cell, as in R and pandas.
    """
    text = read_text(path)
    lines = text.split("\n")
    first = next((strip(line) for line in lines if strip(line)), "")
    chosen = _EXCEL_SEPARATOR.fullmatch(first)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=(chosen[1] or "\t") if chosen else delimiter_of(first),
        skipinitialspace=True,
        strict=True,
    )
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _bad_quote(path, line, str(error)) from None
        if cells is None:
            return
        cells = [strip(cell) for cell in cells]
        if bad := next((cell for cell in cells if "\n" in cell), None):
            raise _bad_quote(path, line, f"the cell {bad[:_SHOWN]!r} goes on to line {reader.line_num}")
        if bad := next((cell for cell in cells if _CONTROL.search(cell)), None):
            raise UsageError(f"{path}, line {line}: {bad[:_SHOWN]!r} holds a control character", "delete it")
        if any(cells) and not (chosen and cells[0].lower() == "sep="):
            raw = lines[line - 1]
            yield line, ["" if is_missing(cell) and f'"{cell}"' not in raw else cell for cell in cells]


def _bad_quote(path: Path, line: int, what: str) -> UsageError:
    what = "a quote is opened and never closed" if "unexpected end" in what else what
    return UsageError(f'{path}, line {line}: {what}: a cell in quotes must end with one (")', 'a " in a text is ""')


def delimiter_of(line: str) -> str:
    """Return the most frequent delimiter outside quotes, the first of equals; a comma if there is none."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=lambda mark: (bare.count(mark), -bare.find(mark)))


def strip(text: str) -> str:
    """Return the text without surrounding blanks, also no-break spaces and byte order marks."""
    return text.strip().strip("\ufeff\u200b").strip()


def normalise(name: str) -> str:
    """Return a name without case, accents composed, full-width letters narrow, blanks as single spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def letters(name: str) -> str:
    """Return the normalised letters and digits of a name: TaiChi, tai_chi and `Tai Chi` are one."""
    return "".join(filter(str.isalnum, normalise(name)))


def columns_of(path: Path, line: int, heads: Sequence[str], known: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the position of each known column in a header; `known` lists the names of each. Others are ignored.

    Raises UsageError where two heads name one column, or where one is nearly a known name.
    """
    owners = {letters(name): (column, name) for column, names in known.items() for name in names}
    found: dict[str, int] = {}
    for position, head in enumerate(heads):
        column, _ = owners.get(letters(head), (None, None))
        if column in found:
            raise UsageError(
                f"{path}, line {line}: the columns {heads[found[column]]!r} and {head!r} both say {column}",
                "delete or rename the one that does not",
            )
        if column:
            found[column] = position
        elif close := difflib.get_close_matches(letters(head), owners, 1, 0.8):
            raise UsageError(
                f"{path}, line {line}: the column {head!r} is not known: did you mean {owners[close[0]][1]!r}?",
                "or rename it",
            )
    return found


def rows_by_column(
    path: Path, heads: Sequence[str], columns: Mapping[str, int], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[Row]:
    """Yield the rows below a header. Missing cells are empty; additional cells must be. Raises UsageError."""
    for line, cells in rows:
        if any(cells[len(heads) :]):
            raise UsageError(
                f"{path}, line {line}: {len(cells)} cells, and the header has {len(heads)}",
                'put a text that holds the delimiter in quotes: "rock, paper"',
            )
        yield Row(line, {name: cells[position] if position < len(cells) else "" for name, position in columns.items()})
