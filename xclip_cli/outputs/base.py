"""What every output format offers: the pieces of a document, made of results as they come."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from xclip_cli.files import printable
from xclip_cli.results import SCORE_DIGITS, TIME_DIGITS, VideoResult


class Output(Protocol):
    """An output format. It holds no file and no state: the same results always make the same bytes.

    A format of ``mergeable`` outputs has ``split``; one for the moments of ``xclip search`` has ``moments``.
    """

    suffix: str  # of a file's name, from which the format is chosen; empty: only by --format
    one_video: bool  # a document holds the results of one video
    mergeable: bool  # the outputs of shards can be merged
    for_terminal: bool  # text
    extra: str | None  # the package that it needs

    def pieces(self, results: Iterable[VideoResult]) -> Iterator[bytes]: ...


class Text:
    """Text in UTF-8: before, for each video, between and after; a result's text never depends on its neighbours."""

    suffix = ""
    one_video = mergeable = False
    for_terminal = True
    extra: str | None = None
    start = between = stop = ""

    def video(self, result: VideoResult) -> str:
        raise NotImplementedError

    def pieces(self, results: Iterable[VideoResult]) -> Iterator[bytes]:
        return self.joined(map(self.video, results))

    def joined(self, texts: Iterable[str]) -> Iterator[bytes]:
        """The pieces of a whole document of videos' texts; the first comes before any text is asked for."""
        yield self.start.encode()
        for index, text in enumerate(texts):
            yield ((self.between if index else "") + text).encode()
        yield self.stop.encode()


def plain(column: str, value: object) -> object:
    """A value of a column for formats with types: numbers are rounded as in the CSV, text is valid."""
    if isinstance(value, float):
        return round(value, TIME_DIGITS if column.endswith("_seconds") else SCORE_DIGITS)
    return printable(value) if isinstance(value, str) else value
