"""Output formats: one small class per format, chosen by name or by a file's suffix; and where each result goes."""

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xclip_cli.errors import MissingExtraError, OutputError, UsageError
from xclip_cli.files import replacing
from xclip_cli.outputs.base import Output
from xclip_cli.outputs.csv import Csv, ExcelCsv
from xclip_cli.outputs.json import Json, JsonLines
from xclip_cli.outputs.parquet import Parquet
from xclip_cli.outputs.subtitles import Srt, Vtt
from xclip_cli.results import VideoResult

FORMATS: dict[str, type[Output]] = {
    "csv": Csv,
    "excel": ExcelCsv,
    "json": Json,
    "jsonl": JsonLines,
    "parquet": Parquet,
    "srt": Srt,
    "vtt": Vtt,
}
MOMENT_FORMATS = {name: form for name, form in FORMATS.items() if hasattr(form, "moments")}
_BY_SUFFIX = {form.suffix: name for name, form in FORMATS.items() if form.suffix}


def format_of(path: Path) -> str:
    """The format that a file's suffix names. Raises UsageError for a suffix of no format."""
    if path.suffix.lower() not in _BY_SUFFIX:
        raise UsageError(
            f"{path.name!r} does not say its format: known suffixes are {', '.join(_BY_SUFFIX)}",
            "rename the output or add --format csv",
        )
    return _BY_SUFFIX[path.suffix.lower()]


def check_format(name: str) -> None:
    """Raises MissingExtraError where the format takes a package that is not installed. Imports nothing."""
    extra = FORMATS[name].extra
    if extra and importlib.util.find_spec(extra) is None:
        raise MissingExtraError(f"format {name!r} needs {extra}", f"pip install 'xclip-cli[{name}]'")


def is_folder(output: Path, format_name: str) -> bool:
    """Whether ``output`` is, or will be, a folder with a file of each video: for subtitles, what has no suffix."""
    return FORMATS[format_name].one_video and (os.path.isdir(output) or not output.suffix)


def files(output: Path, format_name: str, videos: Sequence[str]) -> dict[str, Path]:
    """The file that each video's results go to. Raises UsageError where one of one video was asked for several.

    In a folder they are called as the videos, ``clip.srt``, ``clip.mp4.srt`` where another video would have the same
    file, in folders below as the videos lie.
    """
    if not is_folder(output, format_name):
        if FORMATS[format_name].one_video and len(videos) > 1:
            raise UsageError(
                f"{str(output)!r} can hold the subtitles of one video, and {len(videos)} were given",
                f"name a folder for a file of each: -o {output.stem} --format {format_name}",
            )
        return dict.fromkeys(videos, output)
    paths = {video: Path(os.path.abspath(video)) for video in videos}
    root = os.path.commonpath([path.parent for path in paths.values()]) if paths else ""
    taken = Counter(str(name).casefold() for path in paths.values() for name in (path, path.with_suffix("")))
    places = {}
    for video, path in paths.items():
        name = path.stem if taken[str(path.with_suffix("")).casefold()] == 1 else path.name
        places[video] = output / path.parent.relative_to(root) / f"{name}{FORMATS[format_name].suffix}"
    return places


def sha256(format_name: str, results: Iterable[VideoResult]) -> str:
    """The hash, in hex, of what `write` writes."""
    digest = hashlib.sha256()
    for piece in FORMATS[format_name]().pieces(results):
        digest.update(piece)
    return digest.hexdigest()


def write(
    output: Path,
    format_name: str,
    results: Iterable[VideoResult],
    on_whole: Callable[[str], None] = lambda sha256: None,
    follow_link: bool = False,
) -> None:
    """Writes all results to the file `output`, atomically: it is whole or as it was before. Raises OutputError.

    `on_whole` hears the hash, in hex, of what is about to take its place; `follow_link` is as in `files.replacing`.
    """
    if FORMATS[format_name].one_video:
        with _written(output):
            output.parent.mkdir(parents=True, exist_ok=True)  # as the videos lie
    save(output, FORMATS[format_name]().pieces(results), on_whole, follow_link)


def save(
    output: Path,
    pieces: Iterable[bytes],
    on_whole: Callable[[str], None] = lambda sha256: None,
    follow_link: bool = True,
) -> None:
    """Writes the pieces of a document as `write` does."""
    digest = hashlib.sha256()
    with _written(output), replacing(output, follow_link) as draft, open(draft, "wb") as stream:
        for piece in pieces:
            digest.update(piece)
            stream.write(piece)
        on_whole(digest.hexdigest())


@contextmanager
def _written(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {str(output)!r}: {error.strerror or error}",
            "free space or choose another -o; finished videos are in the journal, run the same command again",
        ) from error
