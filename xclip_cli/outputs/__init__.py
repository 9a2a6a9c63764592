"""Output formats: one small class per format, chosen by name or by a file's suffix."""

from pathlib import Path

from xclip_cli.errors import UsageError
from xclip_cli.outputs.csv import Csv
from xclip_cli.outputs.json import Json, JsonLines

FORMATS = {"csv": Csv, "json": Json, "jsonl": JsonLines}


def format_of(path: Path) -> str:
    """The format that a file's suffix names. Raises UsageError for a suffix of no format."""
    name = path.suffix.lower().lstrip(".")
    if name not in FORMATS:
        raise UsageError(
            f"{path.name!r} does not say its format: known suffixes are .{', .'.join(FORMATS)}",
            "rename the output or add --format csv",
        )
    return name
