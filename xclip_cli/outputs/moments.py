"""Moments that a question found, as CSV, JSON or JSON Lines: a row each, best first."""

import json
from collections.abc import Callable, Iterable, Mapping

from xclip_cli.outputs import csv
from xclip_cli.outputs.base import plain
from xclip_cli.results import MOMENT_COLUMNS

Row = Mapping[str, object]


def _csv(rows: Iterable[Row]) -> str:
    lines = (csv.line(csv.cell(column, row[column]) for column in MOMENT_COLUMNS) for row in rows)
    return csv.line(MOMENT_COLUMNS) + "".join(lines)


def _excel(rows: Iterable[Row]) -> str:
    return csv.BOM + _csv(rows)


def _json(rows: Iterable[Row]) -> str:
    return "[\n" + ",\n".join(map(_object, rows)) + "\n]\n"


def _json_lines(rows: Iterable[Row]) -> str:
    return "".join(_object(row) + "\n" for row in rows)


def _object(row: Row) -> str:
    return json.dumps({column: plain(column, row[column]) for column in MOMENT_COLUMNS}, ensure_ascii=False)


DOCUMENTS: dict[str, Callable[[Iterable[Row]], str]] = {
    "csv": _csv,
    "excel": _excel,
    "json": _json,
    "jsonl": _json_lines,
}
