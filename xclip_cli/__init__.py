"""xclip-cli: open-vocabulary video tagging with X-CLIP (ECCV 2022).

The public names are loaded when they are first used, so that ``import xclip_cli`` costs nothing.
"""

import os
import sys
from importlib import import_module

__version__ = "0.1.0"

if "torch" not in sys.modules:
    # Read when torch is loaded: its threads share the cores with the decoders, and to spin while they wait costs more
    # than to compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "Index": "index.index",
    "Encoder": "tagger.encoder",
    "Tagger": "tagger.tagger",
    "LabelSet": "labels",
    "load_model": "checkpoint.load",
    "XclipError": "errors",
}
__all__ = ["__version__", *_HOMES]


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
