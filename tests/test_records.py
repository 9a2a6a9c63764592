"""What is read of a store has the types and the limits that its reader names, or is refused."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from xclip_cli.files import checked, from_json


class Pair(NamedTuple):
    name: str
    seconds: float | None = None


@dataclass(frozen=True)
class Record:
    count: int
    pairs: tuple[Pair, ...] = ()
    more: Any = None


def test_what_is_as_it_should_be_is_given():
    text = '{"count": 3, "pairs": [{"name": "a", "seconds": 1}, ["b", null], {"name": "\\udce9"}], "more": [{}]}'
    assert from_json(text, Record) == Record(3, (Pair("a", 1.0), Pair("b"), Pair("\udce9")), [{}])
    assert type(from_json(text, Record).pairs[0].seconds) is float
    assert checked((5, [], None), Record) == Record(5)


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "3", "null", "[]", '"x"', "{}", '{"count": true}', '{"count": 1.0}', '{"count": "1"}', '{"count": -1}',
        '{"count": 1e999}', '{"count": NaN}', '{"count": 99999999999999999999}', '{"count": 1, "count": 2}',
        '{"count": 1, "x": 2}', '{"count": 1, "pairs": 3}', '{"count": 1, "pairs": {"a": 1}}',
        '{"count": 1, "pairs": ["ab"]}', '{"count": 1, "pairs": [[5, 1]]}', '{"count": 1, "pairs": [["a", NaN]]}',
        '{"count": 1, "pairs": [["a", 1e999]]}', '{"count": 1, "pairs": [["a", -1]]}',
        '{"count": 1, "pairs": [["a", true]]}',
        '{"count": 1, "pairs": [["a", ' + "9" * 400 + "]]}", '{"count": ' + "9" * 9000 + "}", "[" * 100_000,
        '{"count": 1, "more": ' + "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_not_is_a_value_error(text):
    with pytest.raises(ValueError):
        from_json(text, Record)
