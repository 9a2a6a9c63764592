"""Parquet: the columns of the CSV with their types, for data frames and databases."""

import io
from collections.abc import Iterable, Iterator
from itertools import islice

from xclip_cli.outputs.base import plain
from xclip_cli.results import COLUMNS, VideoResult, rows

_SECONDS = ("start_seconds", "end_seconds")
_SCORES = ("score", "similarity")
_ROWS_IN_A_GROUP = 100_000


class Parquet:
    """Text is text, whatever a spreadsheet would make of it; numbers are rounded as in the CSV; absent is null."""

    suffix = ".parquet"
    one_video = mergeable = for_terminal = False
    extra = "pyarrow"

    def pieces(self, results: Iterable[VideoResult]) -> Iterator[bytes]:
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([pyarrow.field(name, _type(pyarrow, name)) for name in COLUMNS])
        waiting = (_values(row) for result in results for row in rows(result))
        file = io.BytesIO()
        with parquet.ParquetWriter(file, schema) as writer:
            while group := list(islice(waiting, _ROWS_IN_A_GROUP)):
                writer.write_table(pyarrow.Table.from_pylist(group, schema))
        yield file.getvalue()


def _type(pyarrow, column: str):
    if column == "rank":
        return pyarrow.int32()
    return pyarrow.float64() if column in _SECONDS + _SCORES else pyarrow.string()


def _values(row: dict[str, object]) -> dict[str, object]:
    return {name: plain(name, row[name]) for name in COLUMNS}
