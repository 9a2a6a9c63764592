"""The two consoles of the program: data on stdout, everything else on stderr."""

import os
import sys

from rich.console import Console
from rich.markup import escape

from xclip_cli.errors import XclipError

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def print_error(error: XclipError) -> None:
    """One line of what is wrong and, below it, what to do next."""
    err.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.hint:
        err.print(f"[dim]{escape(error.hint)}[/]")


def print_warning(text: str) -> None:
    err.print(f"[yellow]warning:[/] {escape(text)}")


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
