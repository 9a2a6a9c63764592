"""SubRip and WebVTT: the tags of one video for its player, a cue per segment."""

import re
import unicodedata

from xclip_cli.files import one_line
from xclip_cli.outputs.base import Text
from xclip_cli.results import Segment, Tag, VideoResult

_ISOLATE, _POP = "\u2068", "\u2069"
_JOINER = "\u2060"  # has no width
_RIGHT_TO_LEFT = ("R", "AL", "AN")
_SHORTEST_MS = 1  # a cue that ends where it starts is none


class Srt(Text):
    """SubRip has no escapes: what players take for markup or an arrow is broken by a character without width."""

    suffix = ".srt"
    one_video = True
    _comma = ","

    def video(self, result: VideoResult) -> str:
        if result.error is not None:
            return self._failure(one_line(result.error))
        ordered = sorted(result.segments, key=lambda segment: (segment.start_seconds, segment.end_seconds))
        return "".join(self._cue(number, segment) for number, segment in enumerate(ordered, start=1))

    def _cue(self, number: int, segment: Segment) -> str:
        start = round(1000 * segment.start_seconds)
        end = max(round(1000 * segment.end_seconds), start + _SHORTEST_MS)
        lines = "\n".join(self._line(tag) for tag in segment.tags)
        return f"{number}\n{clock(start, self._comma)} --> {clock(end, self._comma)}\n{lines}\n\n"

    def _line(self, tag: Tag) -> str:
        label = self._escaped(one_line(" ".join(tag.label.split())))
        if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in label):
            label = f"{_ISOLATE}{label}{_POP}"  # so that the score stays behind it
        return label if tag.score is None else f"{label} ({tag.score:.2f})"

    def _escaped(self, text: str) -> str:
        return re.sub(r"[<{]|--(?=>)", rf"\g<0>{_JOINER}", text)

    def _failure(self, error: str) -> str:
        return ""


class Vtt(Srt):
    """WebVTT; a ``<track>`` of kind ``subtitles`` or ``chapters``. Why a video failed is a comment."""

    suffix = ".vtt"
    start = "WEBVTT\n\n"
    _comma = "."

    def _escaped(self, text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def _failure(self, error: str) -> str:
        return f"NOTE {self._escaped(error)}\n\n"


def clock(milliseconds: int, comma: str) -> str:
    """hh:mm:ss and, after the comma of the format, milliseconds; hours may have more than two digits."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{comma}{milliseconds:03}"
