"""JSON (one list) and JSON Lines (one video a line), nesting the names of the columns."""

import json
from collections.abc import Iterable, Iterator, Mapping

from xclip_cli.files import printable
from xclip_cli.outputs.base import Text, plain
from xclip_cli.results import MOMENT_COLUMNS, SCORE_DIGITS, TIME_DIGITS, Segment, Tag, VideoResult


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _tag(rank: int, tag: Tag) -> dict:
    return {
        "rank": rank,
        "label": tag.label,
        "score": _rounded(tag.score, SCORE_DIGITS),
        "similarity": _rounded(tag.similarity, SCORE_DIGITS),
    }


def _segment(segment: Segment) -> dict:
    return {
        "start_seconds": round(segment.start_seconds, TIME_DIGITS),
        "end_seconds": round(segment.end_seconds, TIME_DIGITS),
        "tags": [_tag(rank, tag) for rank, tag in enumerate(segment.tags, start=1)],
    }


def _video(line: str) -> str:
    try:
        return json.loads(line)["video"]
    except (KeyError, TypeError) as error:
        raise ValueError("not a video's line") from error


class JsonLines(Text):
    suffix = ".jsonl"
    mergeable = True
    end = "\n"

    def moments(self, moments: Iterable[Mapping[str, object]]) -> str:
        """A document of the moments that a search found, an object each."""
        values = ({column: plain(column, moment[column]) for column in MOMENT_COLUMNS} for moment in moments)
        lines = self.between.join(json.dumps(value, ensure_ascii=False) + self.end for value in values)
        return self.start + lines + self.stop

    def split(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The videos of a document, and the text of each. Raises ValueError."""
        return ((_video(line), line) for line in lines)

    def video(self, result: VideoResult) -> str:
        values = {
            "video": printable(result.video),
            "model": result.model,
            "labelset": result.labelset,
            "status": result.status,
            "error": result.error and printable(result.error),
            "warnings": [printable(warning) for warning in result.warnings],
            "segments": [_segment(segment) for segment in result.segments],
        }
        return json.dumps(values, ensure_ascii=False) + self.end


class Json(JsonLines):
    suffix = ".json"
    start = "[\n"
    between = ",\n"
    stop = "\n]\n"
    end = ""

    def split(self, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
        inner = (line.strip().removesuffix(",") for line in lines)
        return super().split(line for line in inner if line not in ("[", "", "]"))
