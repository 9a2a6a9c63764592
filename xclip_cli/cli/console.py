"""The two consoles of the program: data on stdout, everything else on stderr."""

import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache

from xclip_cli.errors import OutputError, XclipError
from xclip_cli.files import one_line

_BAR_WIDTH = 24


class _Stdout(io.FileIO):
    """Standard output, of which a failed write is an OutputError; a closed pipe stays a BrokenPipeError."""

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            discard_stdout()
            reason = error.strerror or error
            raise OutputError(f"cannot write to standard output: {reason}", "free space, or write elsewhere") from error


class _Stderr(io.FileIO):
    """Standard error; what cannot be written there is lost, and the run goes on."""

    def write(self, data) -> int | None:
        with suppress(OSError):
            return super().write(data)
        return len(data)


def prepare_streams() -> None:
    """Make the standard streams such that text of any alphabet can be written, and that a failure is one plain line.

    A stream that was closed by whoever started the program is one that cannot be read or written.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            os.dup2(nowhere, number)
            if nowhere != number:
                os.close(nowhere)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for name, kind, errors in (("stdout", _Stdout, "replace"), ("stderr", _Stderr, "backslashreplace")):
        stream = getattr(sys, name)
        with suppress(OSError, ValueError, AttributeError):  # no file, or one that takes nothing: left as it is
            stream.flush()
            stream.reconfigure(errors=errors)
            if not stream.isatty():
                raw = io.BufferedWriter(kind(stream.fileno(), "w", closefd=False))
                text = io.TextIOWrapper(raw, stream.encoding, errors, line_buffering=name == "stderr")
                setattr(sys, name, text)


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


def score_bar(share: float) -> str:
    """A bar of 24 letters, in Rich's markup, filled to this share."""
    full, empty = ("█", "░") if sys.stdout.encoding.lower().startswith("utf") else ("#", ".")
    filled = round(max(0.0, share) * _BAR_WIDTH)
    return f"[green]{full * filled}[/][dim]{empty * (_BAR_WIDTH - filled)}[/]"


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


def write(piece: bytes) -> None:
    """A piece of a document on stdout, at once; a terminal gets it without what would command it."""
    if stdout_is_terminal():
        sys.stdout.write("\n".join(map(one_line, piece.decode().removeprefix("\ufeff").split("\n"))))
        sys.stdout.flush()
    else:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


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
