"""What a video may be tagged with: label sets from a list, a file or the built-in collection.

A label file is YAML (a list of labels, or a mapping with `name`, `template`, `labels`, `background`), `.txt` with one
label a line, numbered (`1 ApplyEyeMakeup`) or not, or `.csv` with `id,name`.
"""

from .labelfile import builtin, builtin_names, builtin_outline, load
from .labelset import Label, LabelSet, combine, from_names

__all__ = ["Label", "LabelSet", "builtin", "builtin_names", "builtin_outline", "combine", "from_names", "load"]
