"""`xclip cache`: what is kept in the user's cache, where, how much, and a way to clear it."""

from typing import Annotated

import typer

from xclip_cli.cli import console
from xclip_cli.errors import OutputError
from xclip_cli.files import CACHE_FOLDERS, cache_dir, cached_files


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete it all; it is made again when needed.")] = False,
) -> None:
    """What xclip keeps to be faster the next time: where it lies and how much it is."""
    rows = []
    for name, files in cached_files().items():
        size = 0
        for file in files:
            try:
                size += file.stat().st_size
                if clear:
                    file.unlink()
            except FileNotFoundError:  # another process was faster
                continue
            except OSError as error:
                raise OutputError(f"{str(file)!r} cannot be deleted: {error.strerror}") from error
        rows.append((CACHE_FOLDERS[name], str(len(files)), f"{size / 1e6:.1f}", str(cache_dir() / name)))
    console.print_rows(("deleted" if clear else "kept", "files", "MB", "folder"), rows)
