"""Text and tables of other programs: read as they were meant, or refused by line."""

import codecs

import pytest

from xclip_cli.errors import UsageError
from xclip_cli.labels import tables


def rows(tmp_path, content, name="t.csv"):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(tables.read_rows(tmp_path / name))


@pytest.mark.parametrize(
    "content",
    [
        "a,b\nc,d\n",
        "\ufeffa,b\r\nc,d\r\n",
        "a;b\rc;d",
        "a\tb\n\n\n c \t d\n",
        " a , b ,\n\n,,\nc,d,\n;;\n".replace(";;", ",,"),
        'sep=;\n"a";"b"\nc;d\n',
        "SEP=\t\na\tb\nc\td\n",
        "\ta;b\nc;d\n",
        "a, b\nc,\u00a0d\u00a0\n",
        codecs.BOM_UTF16_LE + "a\tb\r\nc\td\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "a,b\nc,d\n".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "a,b\nc,d\n".encode("utf-32-le"),
    ],
)
def test_one_table_in_many_dresses(tmp_path, content):
    assert [[cell for cell in cells if cell] for _, cells in rows(tmp_path, content)] == [["a", "b"], ["c", "d"]]


def test_lines_are_those_of_the_file(tmp_path):
    assert [line for line, _ in rows(tmp_path, "\n\na,b\n\n,\n  \nc,d\r\n\r\ne,f")] == [3, 7, 9]
    (tmp_path / "l.txt").write_text("\na\n\n b \n")
    assert tables.read_lines(tmp_path / "l.txt") == [(2, "a"), (4, "b")]


def test_a_delimiter_in_quotes_is_text(tmp_path):
    assert rows(tmp_path, 'a;b\n"x;y";"say ""hi"", you"\n')[1] == (2, ["x;y", 'say "hi", you'])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\nc,caf\xe9\n", r"line 2: not UTF-8, probably cp1252: 'c,café'"),
        ("a,b\r\nc,d\r\ne,测试\r\n".encode("gbk"), r"line 3: not UTF-8, probably gb18030: 'e,测试'"),
        (b"a\rb\r\x81\n", "line 3: not UTF-8, probably latin-1"),
        (b"a,b\nc,d\0\n", "line 2: a NUL byte"),
        ("a,b\nc,d\n".encode("utf-16-le"), "line 1: the file is UTF-16 without its mark"),
        (codecs.BOM_UTF16_LE + b"a\0,\0b", "says that it is utf-16-le and is not"),
        ('a,b\n\n"c,d\ne,f\n', "line 3: a quote is opened and never closed"),
        ('a,b\n"c,d\ne",f\n', "line 2: the cell .* goes on to line 3"),
        ('a,b\n"c"x,d\n', "line 2: "),
        ("a,b\nc,\x1b[31m\n", "line 2: .* control character"),
        ("a,b\n" + "c" * 200_000 + ",d\n", "line 2: field larger than"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_number(tmp_path, content, said):
    with pytest.raises(UsageError, match=said) as caught:
        rows(tmp_path, content)
    assert "\n" not in caught.value.message and str(tmp_path / "t.csv") in caught.value.message and caught.value.hint


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv' cannot be read: No such file"):
        tables.read_text(tmp_path / "none.csv")


KNOWN = {"video": ("video", "path"), "start_seconds": ("start_seconds", "time_start")}


def test_heads_are_known_by_any_of_their_names_and_spellings(tmp_path):
    heads = ["Id", " PATH", "Time-Start", "note"]
    assert tables.columns_of(tmp_path, 1, heads, KNOWN) == {"video": 1, "start_seconds": 2}
    with pytest.raises(UsageError, match="line 1: the columns 'video' and 'Path' both say video"):
        tables.columns_of(tmp_path, 1, ["video", "Path"], KNOWN)
    with pytest.raises(UsageError, match="'start_secnds' is not known: did you mean 'start_seconds'"):
        tables.columns_of(tmp_path, 1, ["start_secnds"], KNOWN)


def test_a_row_may_be_short_and_not_longer_than_its_header(tmp_path):
    def read(row):
        cells = iter([(7, row)])
        return [r.cells for r in tables.rows_by_column(tmp_path, ["a", "b"], {"b": 1}, cells)]

    assert read(["x"]) == [{"b": ""}] and read(["x", "y", "", ""]) == [{"b": "y"}]
    with pytest.raises(UsageError, match="line 7: 3 cells, and the header has 2"):
        read(["x", "rock", "paper"])
