"""Output formats: one small class per format, chosen by name or by a file's suffix."""

from collections.abc import Iterable
from pathlib import Path

from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import replacing
from xclip_cli.outputs.base import render
from xclip_cli.outputs.csv import Csv
from xclip_cli.outputs.json import Json, JsonLines
from xclip_cli.results import VideoResult

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


def write(output: Path, format_name: str, results: Iterable[VideoResult]) -> None:
    """Writes all results to `output`, atomically: the file is either whole or as it was before. Raises OutputError."""
    try:
        with replacing(output) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(render(FORMATS[format_name](), results))
    except OSError as error:
        raise OutputError(
            f"cannot write {str(output)!r}: {error.strerror or error}",
            "free space or choose another -o; finished videos are in the journal, run the same command again",
        ) from error
