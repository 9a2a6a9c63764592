import csv
import io
import json
from pathlib import Path

import pytest

from xclip_cli.errors import UsageError
from xclip_cli.outputs import FORMATS, format_of, markdown
from xclip_cli.outputs.csv import guarded, line
from xclip_cli.results import COLUMNS, Segment, Tag, VideoResult, rows


def result(video="a.mp4", label="running", score=0.5, similarity=-0.25, **more):
    return VideoResult(video, "mini", "everyday", (Segment(0.0, 2.5, (Tag(label, score, similarity),)),), **more)


FAILED = VideoResult("b.mp4", "mini", "everyday", error="it is no video")


def text(name, results):
    return b"".join(FORMATS[name]().pieces(results)).decode()


def read_csv(document):
    return list(csv.DictReader(io.StringIO(document, newline="")))


def test_csv_is_a_header_and_one_row_per_rank():
    document = text("csv", [result(), FAILED])
    assert document.splitlines()[0] == ",".join(COLUMNS)
    first, second = read_csv(document)
    assert (first["video"], first["rank"], first["label"], first["status"]) == ("a.mp4", "1", "running", "ok")
    assert (first["score"], first["similarity"], first["end_seconds"]) == ("0.5000", "-0.2500", "2.500")
    assert (second["video"], second["status"], second["error"], second["rank"]) == (
        "b.mp4",
        "error",
        "it is no video",
        "",
    )


@pytest.mark.parametrize("label", ["a, b", 'say "hi"', "two\nlines", "灌篮", " spaced ", "semi;colon"])
def test_a_label_round_trips_through_every_format(label):
    assert read_csv(text("csv", [result(label=label)]))[0]["label"] == label
    assert json.loads(text("json", [result(label=label)]))[0]["segments"][0]["tags"][0]["label"] == label
    assert json.loads(text("jsonl", [result(label=label)]))["segments"][0]["tags"][0]["label"] == label


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_csv_defuses_formulas_in_text_but_not_in_numbers(start):
    row = read_csv(text("csv", [result(video=f"{start}x.mp4", label=f"{start}cmd()")]))[0]
    assert row["label"] == f"'{start}cmd()"
    assert row["video"].startswith("'")
    assert float(row["similarity"]) == -0.25


def test_a_row_of_any_table_is_guarded_where_it_must_be():
    assert line([guarded("=1+1"), guarded("-"), guarded("-x"), -0.5, None, "a,b"]) == "'=1+1,-,'-x,-0.5,,\"a,b\"\n"
    assert guarded("caf\udce9") == r"caf\xe9"


def test_a_cell_in_markdown_is_one_line_and_breaks_no_table():
    text = markdown.table(("a", "b"), [("x|y", "1\n2\x1b[31m"), ("caf\udce9", 3)])
    assert text.splitlines() == ["| a | b |", "| --- | --- |", r"| x\|y | 1\n2\x1b[31m |", r"| caf\xe9 | 3 |"]


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("<img src=x onerror=alert(1)>.mp4", r"\<img src=x onerror=alert(1)\>.mp4"),
        ("[click](javascript:alert(1))", r"[click\](javascript:alert(1))"),
        ("![x][y] &lt;b&gt;", r"![x\][y] \&lt;b\&gt;"),
        ("`code` **bold** ~~gone~~ _a_b_", r"\`code\` \*\*bold\*\* \~\~gone\~\~ \_a_b\_"),
        (r"\<b> C:\dir", r"\\\<b\> C:\dir"),
        ("# head|line", r"\# head\|line"),
        (markdown.Code("xclip <b> `x` |"), r"`` xclip <b> `x` \| ``"),
    ],
)
def test_nothing_in_a_report_is_markup_or_html(name, escaped):
    assert markdown.table(("a",), [(name,)]).splitlines()[2] == f"| {escaped} |"


def test_excel_is_csv_with_a_mark_and_no_suffix_of_its_own():
    plain, marked = ("".join(text(name, [result("自行车.mp4"), FAILED])) for name in ("csv", "excel"))
    assert marked == "\ufeff" + plain and marked.encode().startswith(b"\xef\xbb\xbfvideo,")
    split = {name: list(FORMATS[name]().split(io.StringIO(doc))) for name, doc in (("csv", plain), ("excel", marked))}
    assert split["csv"] == split["excel"] and list(FORMATS["csv"]().split(io.StringIO(marked))) == split["csv"]
    with pytest.raises(UsageError, match=r"known suffixes are \.csv, .json, .jsonl, .parquet, .srt, .vtt"):
        format_of(Path("tags.excel"))


@pytest.mark.parametrize("name", ["csv", "json", "jsonl"])
def test_names_that_are_no_utf8_become_printable(name):
    video = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    assert "caf" in text(name, [result(video=video)]).encode("utf-8").decode("utf-8")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_documents_parse_whatever_their_length(count):
    assert len(json.loads(text("json", [result()] * count))) == count
    assert len(text("jsonl", [result()] * count).splitlines()) == count
    assert len(read_csv(text("csv", [result()] * count))) == count


def test_the_columns_and_the_rows_name_the_same_things():
    assert all(tuple(row) == COLUMNS for outcome in (result(), FAILED) for row in rows(outcome))


def test_a_suffix_names_a_format_or_is_an_error(tmp_path):
    assert format_of(tmp_path / "x.CSV") == "csv"
    with pytest.raises(UsageError, match=r"x\.xls"):
        format_of(tmp_path / "x.xls")
