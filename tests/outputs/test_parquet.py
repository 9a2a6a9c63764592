"""Parquet, read back by pyarrow."""

import io
import sys

import pytest

from xclip_cli import outputs
from xclip_cli.errors import MissingExtraError
from xclip_cli.results import COLUMNS, Segment, Tag, VideoResult

TAGS = (Tag('=cmd() "quoted"\nline', 0.123456, -0.25), Tag("כדורסל", 0.1, 0.0))
RESULTS = [
    VideoResult("caf\udce9.mp4", "mini", "everyday", (Segment(0.0, 2.50049, TAGS),)),
    VideoResult("b.mp4", "mini", "everyday", error="it is no video"),
    VideoResult("c.mp4", "mini", "everyday", (Segment(0.0, 1.0, (Tag("unknown", None, None),)),)),
]


def test_rows_come_back_with_their_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    outputs.write(tmp_path / "tags.parquet", "parquet", RESULTS)
    table = parquet.read_table(tmp_path / "tags.parquet")
    assert tuple(table.column_names) == COLUMNS
    types = {name: str(table.schema.field(name).type) for name in COLUMNS}
    assert [types[name] for name in ("video", "start_seconds", "rank", "score")] == [
        "string",
        "double",
        "int32",
        "double",
    ]
    first, second, failed, unknown = table.to_pylist()
    assert (first["video"], first["label"], first["rank"]) == ("caf\\xe9.mp4", TAGS[0].label, 1)
    assert (first["score"], first["similarity"], first["end_seconds"]) == (0.1235, -0.25, 2.5)
    assert (second["label"], second["rank"], second["status"]) == ("כדורסל", 2, "ok")
    assert (failed["status"], failed["error"], failed["rank"], failed["score"]) == (
        "error",
        "it is no video",
        None,
        None,
    )
    assert (unknown["label"], unknown["score"]) == ("unknown", None)


@pytest.mark.parametrize("results", [[], RESULTS])
def test_the_same_results_are_the_same_bytes_and_none_is_a_table_too(results):
    parquet = pytest.importorskip("pyarrow.parquet")
    first, second = (b"".join(outputs.FORMATS["parquet"]().pieces(results)) for _ in range(2))
    assert first == second
    assert parquet.read_table(io.BytesIO(first)).num_rows == (4 if results else 0)


def test_without_pyarrow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs pyarrow") as caught:
        outputs.check_format("parquet")
    assert "xclip-cli[parquet]" in caught.value.hint
    outputs.check_format("csv")
