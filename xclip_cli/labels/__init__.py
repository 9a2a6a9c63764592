"""What a video may be tagged with: label sets from a list, a file or the built-in collection.

A label file is YAML (a list of labels, or a mapping with `name`, `template`, `labels`, `background`, `calibration`),
`.txt` with one label a line, numbered (`1 ApplyEyeMakeup`) or not, or `.csv` with `id,name`.
"""

from xclip_cli.labels.labelfile import builtin, builtin_names, builtin_outline, dump, load
from xclip_cli.labels.labelset import Calibration, Label, LabelSet, combine, from_names

__all__ = [
    "Calibration",
    "Label",
    "LabelSet",
    "builtin",
    "builtin_names",
    "builtin_outline",
    "combine",
    "dump",
    "from_names",
    "load",
]
