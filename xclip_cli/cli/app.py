"""The `xclip` program: registers the commands and turns errors into one line and an exit code."""

import os
import sys
from typing import Annotated

import typer

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
from xclip_cli.errors import XclipError

app = typer.Typer(
    name="xclip",
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
    """Runs the program. Exit codes: 0 done, 1 run-time failure or some videos failed, 2 usage, 130 Ctrl-C."""
    # Torch's threads share the cores with the decoders: spinning while they wait costs more than twice the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except XclipError as error:
        if console.debugging():
            raise
        console.print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
