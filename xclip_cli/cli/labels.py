"""`xclip labels`: look at the built-in label sets and check your own label file."""

import typer

app = typer.Typer(help="Look at the built-in label sets; check your own label file.", no_args_is_help=True)
