"""Tables and figures of reports, in Markdown."""

from collections.abc import Iterable, Sequence


def percent(share: float | None) -> str:
    """With one decimal; a dash for what was not measured."""
    return "-" if share is None else f"{100 * share:.1f}"


def table(heads: Sequence, rows: Iterable[Sequence]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)
