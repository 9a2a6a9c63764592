"""Parts of videos, written out as files of their own: what --cut does, and what it says."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from xclip_cli.cli import console, progress
from xclip_cli.errors import OutputError, VideoError


class Part(NamedTuple):
    """[start_seconds, end_seconds) of a video, and what it is called."""

    video: str
    start_seconds: float
    end_seconds: float
    label: str


def write(parts: Sequence[Part], inputs: Iterable[str], folder: Path, timeout_seconds: float, quiet: bool) -> int:
    """Writes each part to a file, names on stderr what fails, and gives how many did; no input is replaced."""
    from xclip_cli.outputs import cut as cutting  # here, since it takes PyAV

    taken = {Path(video).name.casefold() for video in inputs}
    ways: Counter[str] = Counter()
    before, total = 0.0, sum(part.end_seconds - part.start_seconds for part in parts)
    with progress.bar("seconds cut", round(total), quiet, "s/s") as update:
        for part in parts:

            def show(seconds: float, _: float, before: float = before) -> None:
                update(round(before + seconds), failed=ways["failed"])

            name = cutting.free_name(cutting.cut_name(part.video, part.label, part.start_seconds), taken)
            try:
                ways[cutting.cut(*part[:3], folder / name, timeout_seconds, show)] += 1
            except (VideoError, OutputError) as error:
                ways["failed"] += 1
                console.err().print(f"[red]failed:[/] {console.shown(name)}: {console.shown(error.message)}")
            before += part.end_seconds - part.start_seconds
            show(0.0, 0.0, before)
    if not quiet:
        counts = ", ".join(f"{count} {way}" for way, count in sorted(ways.items())) or "none"
        console.print_line(f"segments cut: {counts} -> {folder}")
    return ways["failed"]
