"""What every output format offers: text before, for each video, between and after."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from xclip_cli.results import VideoResult


class Output(Protocol):
    """Renders results as text; holds no file and no state, so that a result's text never depends on its neighbours."""

    start: str
    between: str
    stop: str

    def video(self, result: VideoResult) -> str: ...


def render(output: Output, results: Iterable[VideoResult]) -> Iterator[str]:
    """The pieces of a whole document; the first comes before any result is asked for."""
    yield output.start
    for index, result in enumerate(results):
        yield (output.between if index else "") + output.video(result)
    yield output.stop
