"""The report: one page, all in one file, on which people look at videos, their tags and when they happen.

The template, the style and the script lie beside this file. The page may run that script alone and load nothing but the
videos where they lie (its content security policy), whatever files and labels are called.
"""

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from xclip_cli.errors import OutputError
from xclip_cli.files import one_line, replacing
from xclip_cli.results import SCORE_DIGITS, TIME_DIGITS, UNKNOWN, Segment, Tag, VideoResult

GENERATOR = "xclip-cli report"
_FOLDER = Path(__file__).parent
_NUM_COLOURS = 8  # as many as style.css has; further labels are grey


@dataclass(frozen=True)
class Strip:
    """Pictures of a video side by side, as one JPEG of so many pixels.

    They are evenly spread over its ``duration_seconds``, from ``start_seconds`` on.
    """

    jpeg: bytes
    width: int
    height: int
    num_pictures: int
    duration_seconds: float
    start_seconds: float = 0.0

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + self.duration_seconds


class Mark(NamedTuple):
    """A segment on the timeline: its best label and how sure that is; ``lane`` keeps it off those it overlaps."""

    label: str
    score: float | None
    start: float
    end: float
    lane: int
    colour: str


class Row(NamedTuple):
    """A label of a video: its best score and, in a timeline, for how many seconds it holds."""

    label: str
    score: float | None
    seconds: float | None
    colour: str


class Card(NamedTuple):
    """What the template shows of one video."""

    name: str
    folder: str
    url: str
    seconds: float
    score: float
    error: str | None
    warnings: Sequence[str]
    rows: Sequence[Row]
    marks: Sequence[Mark]
    num_lanes: int
    strip: Strip | None
    picture: str


def write(
    path: Path, results: Sequence[VideoResult], strips: Mapping[str, Strip], title: str = "Tagged videos"
) -> None:
    """Writes the page of these results, whole or not at all; ``strips`` are by video. Raises OutputError."""
    try:
        with replacing(path, follow_link=True) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(page(results, strips, path.parent, title))
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r}: {error.strerror or error}", "free space or choose another"
        ) from error


def is_report(path: Path) -> bool:
    """Whether a file was written here."""
    with path.open("rb") as file:
        return f'content="{GENERATOR}"'.encode() in file.read(4096)


def page(results: Sequence[VideoResult], strips: Mapping[str, Strip], folder: Path, title: str) -> Iterator[str]:
    """The pieces of the page, which is to lie in ``folder``; the same input gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clock": clock, "number": _number}
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    best, seconds = _prevalence(results)
    every = {tag.label for result in results for segment in result.segments for tag in segment.tags} - {UNKNOWN}
    common = sorted(every, key=lambda label: (-best[label], -seconds[label], label))
    colours = {label: f"c{n}" for n, label in enumerate(common[:_NUM_COLOURS], start=1)}
    yield from environment.get_template("template.html").generate(
        title=title,
        generator=GENERATOR,
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        cards=(_card(result, strips.get(result.video), colours, folder) for result in results),
        num_videos=len(results),
        num_failed=sum(result.error is not None for result in results),
        seconds=sum(strip.duration_seconds for strip in strips.values()),
        models=sorted({one_line(result.model) for result in results}),
        labelsets=sorted({one_line(result.labelset) for result in results}),
        chips=[(one_line(label), best[label], colour) for label, colour in colours.items() if best[label]],
        labels=[one_line(label) for label in sorted(every)],
    )


def _prevalence(results: Sequence[VideoResult]) -> tuple[Counter[str], Counter[str]]:
    """In how many videos each label is the best of a segment, and for how many seconds together."""
    best, seconds = Counter(), Counter()
    for result in results:
        best.update({segment.tags[0].label for segment in result.segments})
        for segment in result.segments:
            seconds[segment.tags[0].label] += segment.end_seconds - segment.start_seconds
    return best, seconds


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _card(result: VideoResult, strip: Strip | None, colours: Mapping[str, str], folder: Path) -> Card:
    rows, marks = _rows(result, colours), _marks(result, colours)
    name, parent = os.path.basename(result.video), os.path.dirname(result.video)
    return Card(
        name=one_line(name or result.video),
        folder=one_line(parent),
        url=url(result.video, folder),
        seconds=max([strip.end_seconds if strip else 0.0, *(mark.end for mark in marks)]),
        score=max((row.score or 0.0 for row in rows), default=0.0),
        error=result.error and one_line(result.error),
        warnings=[one_line(warning) for warning in result.warnings],
        rows=rows,
        marks=marks,
        num_lanes=max((mark.lane for mark in marks), default=-1) + 1,
        strip=strip,
        picture="data:image/jpeg;base64," + base64.b64encode(strip.jpeg).decode() if strip else "",
    )


def url(video: str, folder: Path) -> str:
    """Where a page in ``folder`` finds the video: a relative address, in which no part of a name is a command."""
    try:
        path = os.path.relpath(video, folder)
    except ValueError:  # another drive of Windows
        return Path(video).resolve().as_uri()
    return "./" + quote(os.fsencode(path.replace(os.sep, "/")))


def _rows(result: VideoResult, colours: Mapping[str, str]) -> list[Row]:
    """A row per label, best first; how long a label holds is said where the video has a timeline."""
    best: dict[str, float | None] = {}
    seconds: Counter[str] = Counter()
    for segment in result.segments:
        for tag in segment.tags:
            score = _best_score(tag)
            before = best.get(tag.label)
            best[tag.label] = score if before is None else max(before, score or 0.0)
            seconds[tag.label] += segment.end_seconds - segment.start_seconds
    tags = [tag for segment in result.segments for tag in segment.tags]
    timed = len(result.segments) > 1 or any(tag.peak_score is not None for tag in tags)
    ordered = sorted(best, key=lambda label: -(best[label] or 0.0)) if timed else best
    return [Row(one_line(x), best[x], seconds[x] if timed else None, _colour(x, colours)) for x in ordered]


def _marks(result: VideoResult, colours: Mapping[str, str]) -> list[Mark]:
    """Segments in order of time, each in the first lane that is free."""
    ends: list[float] = []
    marks = []
    for segment in sorted(result.segments, key=_when):
        tag = segment.tags[0]
        lane = next((n for n, end in enumerate(ends) if end <= segment.start_seconds), len(ends))
        ends[lane : lane + 1] = [segment.end_seconds]
        span = round(segment.start_seconds, TIME_DIGITS), round(segment.end_seconds, TIME_DIGITS)
        marks.append(Mark(one_line(tag.label), _best_score(tag), *span, lane, _colour(tag.label, colours)))
    return marks


def _when(segment: Segment) -> tuple[float, float]:
    return segment.start_seconds, -segment.end_seconds


def _best_score(tag: Tag) -> float | None:
    score = tag.score if tag.peak_score is None else tag.peak_score
    return None if score is None else round(score, SCORE_DIGITS)


def _colour(label: str, colours: Mapping[str, str]) -> str:
    return "unknown" if label == UNKNOWN else colours.get(label, "c0")
