"""Where the bundled label sets and weights, and the user's cache, live."""

import os
from pathlib import Path

from xclip_cli.errors import XclipError

_PACKAGE = Path(__file__).resolve().parent


def _bundled(folder: str) -> Path:
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (parent / folder).is_dir():
            return parent / folder
    raise XclipError(
        f"the bundled folder {folder!r} is missing beside {_PACKAGE}",
        "reinstall: pip install --force-reinstall xclip-cli",
    )


def labelsets_dir() -> Path:
    """The folder of built-in label YAML files."""
    return _bundled("labelsets")


def weights_dir() -> Path:
    """The folder of bundled model files."""
    return _bundled("weights")


def cache_dir() -> Path:
    """The user's cache: $XCLIP_CACHE, else $XDG_CACHE_HOME/xclip-cli, else ~/.cache/xclip-cli. May not exist yet."""
    if chosen := os.environ.get("XCLIP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xclip-cli"
