"""Tables and figures of reports, in Markdown."""

from collections.abc import Iterable, Sequence

from xclip_cli.files import one_line


def percent(share: float | None) -> str:
    """With one decimal; a dash for what was not measured."""
    return "-" if share is None else f"{100 * share:.1f}"


def table(heads: Sequence, rows: Iterable[Sequence]) -> str:
    """In Markdown; a cell is one line, whatever a file is called."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(one_line(str(cell)).replace("|", "\\|") for cell in row) + " |" for row in lines)
