"""Tables and figures of reports, in Markdown."""

import re
from collections.abc import Iterable, Sequence

from xclip_cli.files import one_line

_MARKUP = re.compile(r"\\(?=[!-/:-@\[-`{-~])|[`*<>&|~]|\](?=[(\[:])|(?<!\w)_|_(?!\w)|^#")


class Code(str):
    """Text of a code span: what it holds is shown as it is."""


def percent(share: float | None) -> str:
    """With one decimal; a dash for what was not measured."""
    return "-" if share is None else f"{100 * share:.1f}"


def escaped(value: object) -> str:
    """A value on one line, in which nothing is markup, a link or HTML."""
    if isinstance(value, Code):
        fence = "`" * (1 + max(map(len, re.findall("`+", value)), default=0))
        pad = " " if "`" in value else ""
        return f"{fence}{pad}{one_line(value)}{pad}{fence}"
    return _MARKUP.sub(r"\\\g<0>", one_line(str(value)))


def table(heads: Sequence, rows: Iterable[Sequence]) -> str:
    """In Markdown; a cell is one line, whatever a file is called."""
    lines = [list(map(_cell, heads)), ["---"] * len(heads), *(map(_cell, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return escaped(value).replace("|", "\\|") if isinstance(value, Code) else escaped(value)
