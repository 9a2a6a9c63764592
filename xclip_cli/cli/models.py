"""`xclip models`: which models there are, and which of them are on this machine."""

import typer

app = typer.Typer(help="List, show, download and verify models.", no_args_is_help=True)
