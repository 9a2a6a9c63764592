"""CSV: one row per video (or segment) and rank, a header and nothing else before it."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from xclip_cli.files import printable
from xclip_cli.outputs.base import Text
from xclip_cli.results import COLUMNS, MOMENT_COLUMNS, SCORE_DIGITS, TIME_DIGITS, VideoResult, rows

_DIGITS = {
    "start_seconds": TIME_DIGITS,
    "end_seconds": TIME_DIGITS,
    "score": SCORE_DIGITS,
    "similarity": SCORE_DIGITS,
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
BOM = "\ufeff"  # by which Excel knows UTF-8


def line(cells: Iterable[object]) -> str:
    """A row of any CSV of ours; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)  # its default terminator \r\n makes it quote a lone \r too
    return text.getvalue().removesuffix("\r\n") + "\n"


def table(rows: Iterable[Iterable[object]]) -> str:
    """A whole CSV, its head first: text is guarded, numbers are as they are."""
    return "".join(line(guarded(cell) if isinstance(cell, str) else cell for cell in row) for row in rows)


def guarded(text: str) -> str:
    """Text with an apostrophe before it where a spreadsheet would run it as a formula; a lone dash is none."""
    text = printable(text)
    return "'" + text if text.startswith(_FORMULA_STARTS) and text != "-" else text


class Csv(Text):
    """Text cells are guarded; numbers have fixed digits."""

    suffix = ".csv"
    mergeable = True
    start = line(COLUMNS)
    mark = ""

    def video(self, result: VideoResult) -> str:
        return "".join(line(cell(column, row[column]) for column in COLUMNS) for row in rows(result))

    def moments(self, moments: Iterable[Mapping[str, object]]) -> str:
        """A document of the moments that a search found, a row each."""
        lines = (line(cell(column, moment[column]) for column in MOMENT_COLUMNS) for moment in moments)
        return self.mark + line(MOMENT_COLUMNS) + "".join(lines)

    def split(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The videos of a document, with line ends as they are, and the text of each. Raises ValueError."""
        lines = iter(lines)
        first = next(lines, "").removeprefix(BOM)
        rows = csv.reader(itertools.chain([first], lines), strict=True)
        try:
            if next(rows, None) != list(COLUMNS):
                raise ValueError("another header")
            for video, group in groupby(rows, key=lambda row: row[0]):
                yield video, "".join(map(line, group))
        except (csv.Error, IndexError) as error:
            raise ValueError(str(error)) from error


class ExcelCsv(Csv):
    """The same with a byte-order mark, without which Excel takes the text for that of an old code page."""

    suffix = ""
    start = BOM + Csv.start
    mark = BOM


def cell(column: str, value: object) -> str:
    """One of the columns, as text: numbers have fixed digits; None is empty; true or false."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{_DIGITS[column]}f}" if column in _DIGITS else guarded(str(value))
