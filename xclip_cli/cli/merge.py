"""`xclip merge`: the outputs of all shards of a run become the one that a single run would have written."""

from pathlib import Path
from typing import Annotated

import typer

from xclip_cli.cli import console, options


def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="The outputs of all shards.")],
    output: options.MergedOutput,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Merge the outputs of `xclip tag --shard`, in the order of one run over all videos.

    Every file needs its journal beside it, which says what it is. Whatever is not one run, whole, is refused.
    """
    from xclip_cli.runs import shards  # here, so that every other command starts without it

    count = shards.merge(files, output, overwrite)
    if not quiet:
        console.print_line(f"{count} videos of {len(files)} shards -> {output}")
