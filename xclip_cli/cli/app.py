"""The `xclip` program: registers the commands and turns errors into one line and an exit code."""

import platform
import signal
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from xclip_cli import __version__
from xclip_cli.cli import benchmark, console, labels, models
from xclip_cli.cli.cache import cache
from xclip_cli.cli.calibrate import calibrate
from xclip_cli.cli.finetune import finetune
from xclip_cli.cli.index import index
from xclip_cli.cli.merge import merge
from xclip_cli.cli.sample import sample
from xclip_cli.cli.search import search
from xclip_cli.cli.tag import tag
from xclip_cli.errors import Interrupted, XclipError


class _Group(TyperGroup):
    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # where a command has nothing more exact to say; Typer says nothing
            raise Interrupted("stopped", "no file is left half written: run the same command again") from None


app = typer.Typer(
    name="xclip",
    cls=_Group,
    help="Tag videos with labels of your own choosing, offline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(tag)
app.command()(index)
app.command()(search)
app.command()(merge)
app.command()(finetune)
app.command()(calibrate)
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(labels.app, name="labels")
app.add_typer(models.app, name="models")
app.command()(cache)
app.command()(sample)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xclip-cli {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Tag videos with labels of your own choosing, offline."""


def main() -> None:
    """Runs the program. Exit codes: 0 done, 1 run-time failure or some videos failed, 2 usage, 130 Ctrl-C.

    SIGTERM and SIGHUP do what Ctrl-C does; the exit code is then 128 and the signal's number.
    """
    console.prepare_streams()
    stopped = _stop_on_signals()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where it may still fail in one line
    except BrokenPipeError:  # whoever read the output has read enough
        console.discard_stdout()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + stopped[0] if stopped else 130)
    except Exception as error:
        if console.debugging():
            raise
        error = error if isinstance(error, XclipError) else _unexpected(error)
        console.print_error(error)
        sys.exit(128 + stopped[0] if stopped and isinstance(error, Interrupted) else error.exit_code)


def _stop_on_signals() -> list[int]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does at that moment, unless they are ignored; gives those that came."""
    came: list[int] = []

    def stop(number: int, frame) -> None:
        came.append(number)
        interrupt = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore Ctrl-C
        (interrupt if callable(interrupt) else signal.default_int_handler)(number, frame)

    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, stop)
    return came


def _unexpected(error: Exception) -> XclipError:
    """What nobody foresaw, in one line; a full memory and a file that cannot be used are no faults of the program."""
    if isinstance(error, MemoryError):
        return XclipError("there is not enough memory", "close other programs, or take fewer --workers")
    if isinstance(error, OSError) and error.filename is not None:
        reason = f"{str(error.filename)!r} cannot be used: {error.strerror or error}"
        return XclipError(reason, "XCLIP_DEBUG=1 shows where this happened")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return XclipError(
        f"unexpected {text} (xclip-cli {__version__}, Python {platform.python_version()}, {sys.platform})",
        "this is a fault of xclip-cli: report it where you got it, with what XCLIP_DEBUG=1 shows",
    )
