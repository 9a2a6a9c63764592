"""CSV: one row per video (or segment) and rank, a header and nothing else before it."""

import csv
import io
from collections.abc import Iterable

from xclip_cli.files import printable
from xclip_cli.results import COLUMNS, SCORE_DIGITS, TIME_DIGITS, VideoResult, rows

_DIGITS = {
    "start_seconds": TIME_DIGITS,
    "end_seconds": TIME_DIGITS,
    "score": SCORE_DIGITS,
    "similarity": SCORE_DIGITS,
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if column in _DIGITS:
        return f"{value:.{_DIGITS[column]}f}"
    text = printable(str(value))
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)  # its default terminator \r\n makes it quote a lone \r too
    return text.getvalue().removesuffix("\r\n") + "\n"


class Csv:
    """Text cells that a spreadsheet would run as a formula get a leading apostrophe; numbers have fixed digits."""

    start = _line(COLUMNS)
    between = ""
    stop = ""

    def video(self, result: VideoResult) -> str:
        return "".join(_line(_cell(column, row[column]) for column in COLUMNS) for row in rows(result))
