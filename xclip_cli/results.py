"""What tagging gives, and the one place that names output columns."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

COLUMNS = (
    "video",
    "start_seconds",
    "end_seconds",
    "rank",
    "label",
    "score",
    "similarity",
    "model",
    "labelset",
    "status",
    "error",
)

MOMENT_COLUMNS = ("video", "start_seconds", "end_seconds", "rank", "score", "query", "model", "stands_out")

UNKNOWN = "unknown"
SCORE_DIGITS = 4
TIME_DIGITS = 3


@dataclass(frozen=True)
class Tag:
    """A label with its probability over the label set (softmax, 0..1) and its cosine similarity (-1..1).

    ``label`` is ``unknown``, without numbers, where no label reaches its threshold. In a timeline ``score`` and
    ``similarity`` are means over the segment's windows; ``peak_score`` is the best window's score and ``peak_seconds``
    the middle of that window. Both are None elsewhere.
    """

    label: str
    score: float | None
    similarity: float | None
    peak_score: float | None = None
    peak_seconds: float | None = None


@dataclass(frozen=True)
class Segment:
    """The tags, best first, of the half-open interval [start_seconds, end_seconds) of a video.

    A timeline's segments have one tag each; those of different labels may overlap.
    """

    start_seconds: float
    end_seconds: float
    tags: tuple[Tag, ...]


@dataclass(frozen=True)
class Moment:
    """Where a question is answered: [start_seconds, end_seconds) of a video, a real path.

    ``score`` is the cosine of the question and the best window in there, ``peak_seconds`` that window's middle.
    ``stands_out``: that window fits better than chance explains, see `search.stands_out`.
    """

    video: str
    start_seconds: float
    end_seconds: float
    score: float
    peak_seconds: float
    stands_out: bool


@dataclass(frozen=True)
class VideoResult:
    """One video's outcome: segments, or the one line that says why there are none. ``reader`` names what decoded it."""

    video: str
    model: str
    labelset: str
    segments: tuple[Segment, ...] = ()
    error: str | None = None
    warnings: tuple[str, ...] = ()
    reader: str = ""

    @property
    def status(self) -> str:
        return "ok" if self.error is None else "error"

    def to_dict(self) -> dict[str, object]:
        """Return plain dicts and lists with the names of the JSON output; numbers are not rounded."""
        segments = [
            {
                "start_seconds": segment.start_seconds,
                "end_seconds": segment.end_seconds,
                "tags": [{"rank": rank} | asdict(tag) for rank, tag in enumerate(segment.tags, start=1)],
            }
            for segment in self.segments
        ]
        return asdict(self) | {"status": self.status, "warnings": list(self.warnings), "segments": segments}


def rows(result: VideoResult) -> Iterator[dict[str, object]]:
    """One dict of COLUMNS per segment and rank; a failed video is one row. Absent values are None."""
    common = {"video": result.video, "model": result.model, "labelset": result.labelset, "status": result.status}
    if result.error is not None:
        yield dict.fromkeys(COLUMNS) | common | {"error": result.error}
    for segment in result.segments:
        for rank, tag in enumerate(segment.tags, start=1):
            values = {
                "start_seconds": segment.start_seconds,
                "end_seconds": segment.end_seconds,
                "rank": rank,
                "label": tag.label,
                "score": tag.score,
                "similarity": tag.similarity,
            }
            yield dict.fromkeys(COLUMNS) | common | values


def moment_rows(moments: Iterable[Moment], query: str, model: str) -> Iterator[dict[str, object]]:
    """One dict of MOMENT_COLUMNS per moment."""
    for rank, moment in enumerate(moments, start=1):
        span = moment.video, moment.start_seconds, moment.end_seconds
        values = *span, rank, moment.score, query, model, moment.stands_out
        yield dict(zip(MOMENT_COLUMNS, values, strict=True))
