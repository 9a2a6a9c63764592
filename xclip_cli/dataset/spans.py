"""Times of a table: seconds, with a decimal point or comma, or h:mm:ss."""

import math
import re

from xclip_cli.errors import UsageError

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")


def seconds(where: str, name: str, text: str | None) -> float | None:
    """The seconds that a cell says; None for an empty one. Raises UsageError beginning with `where`."""
    if not text:
        return None
    if _THOUSANDS.fullmatch(text):
        raise UsageError(
            f"{where}: {name} is {text!r}: it must be a number of seconds, and the comma may be decimal or not",
            f"write {text.replace(',', '.')} or {text.replace(',', '')}",
        )
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, rest = float(clock[1] or 0), int(clock[2]), float(clock[3].replace(",", "."))
        value = 3600 * hours + 60 * minutes + rest if minutes < 60 and rest < 60 else math.nan
    else:
        try:
            value = float(text.replace(",", ".", 1).replace("_", "x"))
        except ValueError:
            value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{where}: {name} is {text[:60]!r}: it must be a number of seconds, 0 or more, or h:mm:ss")
    return value
