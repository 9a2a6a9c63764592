"""The two consoles of the program: data on stdout, everything else on stderr."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache

from xclip_cli.errors import XclipError
from xclip_cli.files import one_line


@cache
def out():
    """Rich's console on stdout; made when first used, since most short commands need no Rich."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)


@cache
def err():
    """Rich's console on stderr."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_error(error: XclipError) -> None:
    """One line of what is wrong and, below it, what to do next."""
    err().print(f"[bold red]error:[/] {shown(error.message)}")
    if error.hint:
        err().print(f"[dim]{shown(error.hint)}[/]")


def print_warning(text: str) -> None:
    """One line that starts with `warning:`."""
    err().print(f"[yellow]warning:[/] {shown(text)}")


def print_line(text: str) -> None:
    """One line on stderr, as it is."""
    err().print(one_line(text), markup=False)


def print_named(style: str, name: str, text: str) -> None:
    """One line that starts with a name in this style; a million of them take no time where stderr is no terminal."""
    if err().is_terminal:
        err().print(f"[{style}]{name}[/] {shown(text)}")
    else:
        sys.stderr.write(f"{name} {one_line(text)}\n")


def shown(text: str) -> str:
    """Text for Rich to show as it is, on one line: a name that holds [red] or an escape sequence stays a name."""
    from rich.markup import escape

    return escape(one_line(text))


def clock(seconds: float) -> str:
    """h:mm:ss.s"""
    minutes, seconds = divmod(round(seconds, 1), 60)
    return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{seconds:04.1f}"


def print_rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for a terminal, tab-separated lines for a program; white space inside a cell becomes a space."""
    rows = [[one_line(" ".join(cell.split())) for cell in row] for row in rows]
    if not stdout_is_terminal():
        for row in (heads, *rows):
            sys.stdout.write("\t".join(row) + "\n")
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(*heads, box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*map(escape, row))
    out().print(table)


def print_table(columns: Sequence[tuple[str, str, int | None]], rows: Sequence[Mapping]) -> None:
    """As `print_rows`; a column is a key of the rows, a head, and digits unless it is text. None is a dash."""

    def cell(value, digits: int | None) -> str:
        return "-" if value is None else str(value) if digits is None else f"{value:.{digits}f}"

    cells = [[cell(row[key], digits) for key, _, digits in columns] for row in rows]
    print_rows([head for _, head, _ in columns], cells)


def discard_stdout() -> None:
    """Sends what stdout still holds nowhere, so that a write that failed is not tried again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def debugging() -> bool:
    """True where XCLIP_DEBUG=1 asks for tracebacks."""
    return os.environ.get("XCLIP_DEBUG", "") not in ("", "0")


def stdout_is_terminal() -> bool:
    return sys.stdout.isatty()
