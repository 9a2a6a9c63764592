"""A run on several machines without a common one: each tags its shard, and the shards are merged.

A video's shard is told by its name alone, so that every machine cuts alike and another file moves none.
"""

import codecs
import hashlib
import heapq
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from xclip_cli import outputs
from xclip_cli.errors import UsageError
from xclip_cli.files import check_destination, checked, hash_file, identity
from xclip_cli.outputs.journal import Journal
from xclip_cli.runs.find import Found

_SAME = {  # what shards of one run agree in
    "version": "made with two versions of xclip-cli, {} and {}",
    "model": "of two models, {} and {}",
    "weights": "of two files of one model",
    "labels": "of two label sets",
    "settings": "of two settings: options differ",
}


@dataclass(frozen=True)
class Shard:
    """Number ``number`` of ``of`` shards, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Of "3/16". Raises UsageError."""
        found = re.fullmatch(r"0*(\d{1,6})/0*(\d{1,6})", text.strip(), re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard is {text!r}: it must be NUMBER/COUNT, from 1/COUNT to COUNT/COUNT", "e.g. 3/16")
        return cls(int(found[1]), int(found[2]))

    def holds(self, name: str) -> bool:
        """Whether the video of this name is in it; each name is in one of them."""
        digest = hashlib.sha256(_encoded(name)).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Part:
    """A shard's place in the whole: ``positions`` of its videos among ``videos``, of whose names ``listing`` is a hash.

    The rest says what made its results, once that is known.
    """

    number: int
    of: int
    videos: int
    listing: str
    positions: list[int]
    version: str = ""
    model: str = ""
    weights: str = ""
    labels: str = ""
    settings: str = ""

    def described(self, made_with: Mapping[str, str]) -> dict:
        """As plain data, for the journal."""
        return asdict(replace(self, **made_with))


def cut(found: Found, shard: Shard | None) -> tuple[Found, Part | None]:
    """Those of the videos that are in the shard, and which they are; all, and None, without a shard."""
    if shard is None:
        return found, None
    roots = {os.path.join(root, "") for root in found.roots}
    listing, videos, positions = hashlib.sha256(), [], []
    for position, video in enumerate(found.videos):
        name = name_of(video, roots)
        listing.update(_encoded(name) + b"\0")
        if shard.holds(name):
            videos.append(video)
            positions.append(position)
    mine = set(found.unreadable).intersection(videos)
    unreadable = {video: reason for video, reason in found.unreadable.items() if video in mine}
    part = Part(shard.number, shard.of, len(found.videos), listing.hexdigest(), positions)
    return replace(found, videos=videos, unreadable=unreadable), part


def name_of(video: str, roots: set[str]) -> str:
    """A video's path below the outermost of the folders ``roots`` (each ends with a separator) that it was found in.

    A folder may lie elsewhere on every machine. A video that was named itself has the path that it was named by.
    """
    for end, letter in enumerate(video, start=1):
        if letter == os.sep and video[:end] in roots:
            return video[end:].replace(os.sep, "/")
    return os.path.normpath(video).replace(os.sep, "/")


def merge(files: Sequence[Path], output: Path, overwrite: bool = False) -> int:
    """Writes what one run over all would have written to ``output``, and gives the number of videos.

    Raises UsageError unless the files are all shards of one run, as it wrote them, with their journals beside them;
    OutputError where ``output`` cannot be written.
    """
    format_name = outputs.format_of(output)
    for file in (output, *files):
        if outputs.format_of(file) != format_name or not outputs.FORMATS[format_name].mergeable:
            raise UsageError(f"{str(file)!r} cannot be merged: all files are csv, or all json, or all jsonl")
    check_destination(output)
    if output.exists() and identity(output) in map(identity, files):
        raise UsageError(f"the output {str(output)!r} would replace an input", "choose another -o")
    if output.exists() and not overwrite:
        raise UsageError(f"the output {str(output)!r} exists", "add --overwrite to replace it")
    parts = {file: _made_as(file) for file in files}
    _check(parts)
    if format_name == "csv" and all(map(_has_bom, files)):
        format_name = "excel"
    form = outputs.FORMATS[format_name]()
    outputs.save(output, form.joined(_in_order(parts, form)))
    return next(iter(parts.values())).videos


def _has_bom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def _made_as(file: Path) -> Part:
    """What the run that wrote the file noted of it."""
    journal = Journal(file)
    if not file.is_file():
        raise UsageError(f"there is no file {str(file)!r}", "name the outputs of all shards")
    if not journal.path.is_file():
        raise UsageError(
            f"{str(file)!r} does not say which shard it is: {journal.path.name!r}, which does, is not beside it",
            "copy the journals too, beside the files",
        )
    sha256 = hash_file(file)
    noted = [part for part, hashes in journal.shards() if sha256 in hashes]
    if not noted:
        raise UsageError(
            f"{str(file)!r} is no shard as a run wrote it: it was changed since, or tagged without --shard",
            "run xclip tag --shard again: nothing is tagged twice",
        )
    try:
        part = checked(noted[-1], Part, "shard")
        if not 1 <= part.number <= part.of:
            raise ValueError(f"it is of shard {part.number}/{part.of}")
        if max(part.positions, default=-1) >= part.videos:
            raise ValueError(f"it has video number {max(part.positions) + 1} of {part.videos}")
        return part
    except ValueError as error:
        raise UsageError(f"the journal {str(journal.path)!r} is damaged: {error}", "tag this shard again") from error


def _check(parts: Mapping[Path, Part]) -> None:
    """Refuses what is not one run, whole, each shard once."""
    (first, model), *_ = parts.items()
    seen: dict[int, Path] = {}
    for file, part in parts.items():
        both = f"{str(first)!r} and {str(file)!r}"
        for key, what in _SAME.items():
            if (one := getattr(model, key)) != (other := getattr(part, key)):
                raise UsageError(f"{both} are {what.format(one, other)}", "tag one of them again")
        if part.of != model.of:
            raise UsageError(f"{both} are of {model.of} and of {part.of} shards", "merge those of one run")
        if (part.videos, part.listing) != (model.videos, model.listing):
            raise UsageError(
                f"{both} were cut from different lists of videos ({model.videos} and {part.videos})",
                "run the shards again on the same videos in the same order: nothing is tagged twice",
            )
        if (twin := seen.setdefault(part.number, file)) != file:
            raise UsageError(f"{str(twin)!r} and {str(file)!r} are both shard {part.number}/{part.of}")
    if missing := model.of - len(seen):  # never a list of them: a note may claim any number
        first_missing = next(number for number in itertools.count(1) if number not in seen)
        more = f", and {missing - 1} more" if missing > 1 else ""
        raise UsageError(f"shard {first_missing}/{model.of} is missing{more}", "name the outputs of all shards")


def _in_order(parts: Mapping[Path, Part], form) -> Iterator[str]:
    """The texts of all videos in the order of one run; each must be there once."""
    expected, last = 0, ("", "")
    for position, video, text, file in heapq.merge(*(_texts(file, part, form) for file, part in parts.items())):
        if position < expected:
            raise UsageError(f"the video {video!r} is in both {last[0]!r} and {file!r}", "tag both shards again")
        if position > expected:
            raise UsageError(f"a video after {last[1]!r} is in none of the files", "tag all shards again")
        expected, last = position + 1, (file, video)
        yield text


def _texts(file: Path, part: Part, form) -> Iterator[tuple[int, str, str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        try:
            for position, (video, text) in zip(part.positions, form.split(stream), strict=True):
                yield position, video, text, str(file)
        except ValueError as error:
            raise UsageError(f"{str(file)!r} does not have its {len(part.positions)} videos", "tag it again") from error


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
