"""XMP sidecars beside videos: tags for photo managers, added to what stands there already, and taken out again.

A sidecar has the video's name and ``.xmp`` after it (``clip.mp4.xmp``). Tags go where programs look for them: the label
into ``dc:subject``, the label below its parents into ``lr:hierarchicalSubject`` (``sport|ball|dunking``) and
``digiKam:TagsList`` (``sport/ball/dunking``). XMP Specification Part 1 (ISO 16684-1), section 7. What was added is
noted in the file, in properties of the same names in a namespace of our own. All else stays as it is, byte for byte.
"""

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from xclip_cli.errors import OutputError
from xclip_cli.files import one_line, replacing
from xclip_cli.labels import LabelSet
from xclip_cli.results import UNKNOWN, VideoResult

Keyword = tuple[str, ...]  # a label below its parents, the broadest first

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ROOTS = ([f"{_RDF} RDF"], ["adobe:ns:meta/ xmpmeta", f"{_RDF} RDF"])
_ARRAYS = (f"{_RDF} Bag", f"{_RDF} Seq", f"{_RDF} Alt")
_MOST_BYTES, _MOST_ELEMENTS, _DEEPEST = 16 * 2**20, 100_000, 200
_AFTER = b"\n "  # what we put behind a description
_EMPTY = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@dataclass(frozen=True)
class _Property:
    prefix: str
    uri: str
    name: str
    array: str
    separator: str | None  # of a hierarchy; None: the label alone

    def value(self, keyword: Keyword) -> str:
        if self.separator is None:
            return keyword[-1]
        return self.separator.join(part.replace(self.separator, "-") for part in keyword)


_TAGS = (
    _Property("dc", "http://purl.org/dc/elements/1.1/", "subject", "Bag", None),
    _Property("lr", "http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject", "Bag", "|"),
    _Property("digiKam", "http://www.digikam.org/ns/1.0/", "TagsList", "Seq", "/"),
)


_NOTES = tuple(_Property("xclip", "urn:xclip-cli:added/1.0/", tags.name, "Bag", None) for tags in _TAGS)
_BY_NAME = {f"{prop.uri} {prop.name}": prop for prop in (*_TAGS, *_NOTES)}


def floor(num_scores: int) -> float:
    """Return the score that a whole video's tag needs where no threshold was given, of so many that add up to 1.

    Twice an even share, at least 0.25 and at most 0.5.
    """
    return min(max(0.25, 2 / num_scores), 0.5)


def keywords(
    result: VideoResult, label_set: LabelSet, lang: str | None, sure: Collection[str], floor: float = 0.0
) -> list[Keyword]:
    """Return the tags of a video that are worth keeping: the best of each segment, and others that are ``sure``.

    ``sure`` holds names that are shown only above a threshold. The best tag of a whole video needs a score of
    ``floor`` if it is not sure; a timeline's segments have passed a threshold. ``unknown`` is never a tag.
    """
    found = []
    for segment in result.segments:
        if segment.tags[0].label != UNKNOWN:
            best = segment.tags[0]
            passed = best.peak_score is not None or (best.score or 0.0) >= floor
            found += [tag.label for tag in segment.tags if tag.label in sure or (tag is best and passed)]
    by_name = {label.name.casefold(): label for label in label_set.labels}
    shown = {label_set.display(label, lang): label for label in label_set.labels}
    paths = []
    for name in dict.fromkeys(found):
        path, label = [name], shown.get(name)
        while label is not None and label.parent:
            path.insert(0, label_set.display(label.parent, lang))
            label = by_name.get(label.parent.casefold())
        paths.append(tuple(one_line(" ".join(part.split())) for part in path))
    return paths


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar is to hold, and how its tags differ from those that it holds now.

    ``content`` is None where nothing but our tags was in the file: it goes. ``others`` are names of existing files with
    unusual names: that of this sidecar, and those that other programs may take for the video's.
    """

    path: Path
    content: bytes | None
    added: list[str]
    removed: list[str]
    others: list[str]

    def write(self) -> None:
        """Write it, whole or not at all, where anything changes. Raises OutputError."""
        try:
            if self.content is None:
                self.path.unlink()
            elif self.added or self.removed:
                with replacing(self.path) as draft:
                    draft.write_bytes(self.content)
        except OSError as error:
            raise OutputError(f"cannot write {str(self.path)!r}: {error.strerror or error}") from error


class Folder(NamedTuple):
    """The names in a folder, and those of its sidecars by their names in lower case."""

    names: frozenset[str]
    sidecars: Mapping[str, list[str]]

    @classmethod
    def read(cls, path: str) -> "Folder":
        """Without names if the folder cannot be read."""
        sidecars = defaultdict(list)
        try:
            names = frozenset(os.listdir(path or "."))
        except OSError:
            names = frozenset()
        for name in sorted(names):
            if name.casefold().endswith(".xmp"):
                sidecars[name.casefold()].append(name)
        return cls(names, sidecars)

    def sidecar_of(self, video: str) -> tuple[str, list[str]]:
        """The name of a video's sidecar, and existing names but the usual one that may be one's."""
        usual, stem = f"{video}.xmp", f"{os.path.splitext(video)[0]}.xmp"
        same = self.sidecars.get(usual.casefold(), [])
        same = [n for n in same if os.path.splitext(n)[0] not in self.names - {video}]  # of no other video
        chosen = usual if usual in same or not same else same[0]
        return chosen, [n for n in (*same, *self.sidecars.get(stem.casefold(), [])) if n != usual]


def sidecar(video: str, keywords: Sequence[Keyword], read_folder: Callable[[str], Folder] = Folder.read) -> Sidecar:
    """Return the sidecar of a video with these keywords in place of those of earlier runs; nothing is written.

    One that differs in case alone (``CLIP.MP4.XMP``) is taken. A link is followed to the file that it names. Raises
    OutputError for one that is no XMP, or read-only.
    """
    folder, name = os.path.split(video)
    chosen, others = read_folder(folder).sidecar_of(name)
    path = Path(folder, chosen)
    try:
        before = _read(path)
        content, added, removed = replaced(_EMPTY if before is None else before, keywords)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"the sidecar {str(path)!r} is left as it is: {reason}", "mend it, or move it out of the way"
        ) from error
    gone = None if removed and content == _EMPTY else content
    return Sidecar(Path(os.path.realpath(path)), gone, added, removed, others)


def _read(path: Path) -> bytes | None:
    if not os.path.lexists(path):
        return None
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("it is no regular file")
    if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError("it is read-only")
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    return data


def replaced(data: bytes, keywords: Sequence[Keyword]) -> tuple[bytes, list[str], list[str]]:
    """Return the XMP with these keywords in place of those that are noted as ours, labels added, and tags removed.

    A tag that was there before is not ours. Where no tag changes, neither does a byte. Raises ValueError for what is no
    XMP in UTF-8 without a document type.
    """
    before = _Scan(data)
    content = _with_keywords(before.without_ours(), keywords)
    after = _Scan(content)
    if all(sorted(before.values(prop)) == sorted(after.values(prop)) for prop in (*_TAGS, *_NOTES)):
        return data, [], []
    added = [k[-1] for k in keywords if any(prop.value(k) not in before.values(prop) for prop in _TAGS)]
    removed = [[v for v in before.values(prop) if v not in after.values(prop)] for prop in _TAGS]
    return content, added, next(filter(None, removed), [])


def _with_keywords(data: bytes, keywords: Sequence[Keyword]) -> bytes:
    """The XMP with the keywords that it lacks, and a note of them."""
    found = _Scan(data)
    inserted: list[tuple[_Element, bytes]] = []
    missing = []
    for prop, note in zip(_TAGS, _NOTES, strict=True):
        values, array = found.values(prop), found.array(prop)
        new = dict.fromkeys(prop.value(k) for k in keywords if prop.value(k) not in values)
        if not new:
            continue
        if array is not None:
            inserted.append((array, b"".join(_item(array.prefix, value) for value in new)))
        else:
            missing.append(_whole(prop, found.root.prefix or "rdf:", new))
        missing.append(_whole(note, found.root.prefix or "rdf:", new))
    if missing:
        inserted.append((found.root, _description(found.root.prefix, found.about, b"".join(missing))))
    for element, text in sorted(inserted, key=lambda item: -item[0].stop):
        data = element.with_more(data, text)
    return data


def _item(prefix: str, value: str) -> bytes:
    return f"<{prefix}li>{escape(value)}</{prefix}li>".encode()


def _whole(prop: _Property, rdf: str, values: Iterable[str]) -> bytes:
    name, items = f"{prop.prefix}:{prop.name}", b"".join(_item(rdf, value) for value in values).decode()
    text = f"<{rdf}{prop.array}>{items}</{rdf}{prop.array}>"
    return f'   <{name} xmlns:{prop.prefix}="{prop.uri}">{text}</{name}>\n'.encode()


def _description(prefix: str, about: str, properties: bytes) -> bytes:
    rdf, declared = (prefix, "") if prefix else ("rdf:", f' xmlns:rdf="{_RDF}"')  # an attribute has no default
    start = f" <{rdf}Description{declared} {rdf}about={quoteattr(about)}>\n"
    return start.encode() + properties + f"  </{rdf}Description>".encode() + _AFTER


@dataclass(eq=False)
class _Element:
    """An element of the text: its expanded name, its prefix with the colon, and where it lies, in bytes.

    It begins at ``start``, its content ends at ``stop`` and its end tag at ``end``.
    """

    name: str
    prefix: str
    start: int
    attributes: dict[str, str]
    stop: int = 0
    end: int = 0
    texts: list[str] = field(default_factory=list)
    children: list["_Element"] = field(default_factory=list)
    empty: bool = True

    @property
    def text(self) -> str:
        return "".join(self.texts).strip()

    def close(self, data: bytes, position: int) -> None:
        self.stop = position
        whole = self.empty and data[self.start : position].endswith(b"/>")
        self.end = position if whole else data.index(b">", position) + 1

    def with_more(self, data: bytes, text: bytes) -> bytes:
        """The document with text at the end of the element's content."""
        if self.end == self.stop:
            qualified = f"</{self.prefix}{self.name.partition(' ')[2]}>".encode()
            return data[: self.stop - 2] + b">" + text + qualified + data[self.stop :]
        return data[: self.stop] + text + data[self.stop :]


class _Scan:
    """The elements of an XMP below rdf:RDF and their tags; nothing is resolved, a document type is refused."""

    def __init__(self, data: bytes):
        self.root: _Element | None = None
        self._data, self._count = data, 0
        self._open: list[_Element] = []
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.namespace_prefixes = True
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._doctype
        parser.XmlDeclHandler = self._declaration
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError("it is not UTF-8")
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise ValueError(f"it is no XML ({error})") from error
        if self.root is None:
            raise ValueError("it is XML but no XMP (it has no rdf:RDF)")
        self.about = ""
        self._properties: dict[_Property, list[_Element]] = {}
        for description in self.root.children:
            names = {" ".join(key.split(" ")[:2]): value for key, value in description.attributes.items()}
            self.about = names.get(f"{_RDF} about", names.get("about", self.about))
            if prop := next((_BY_NAME[name] for name in names if name in _BY_NAME), None):
                raise ValueError(f"its {prop.prefix}:{prop.name} is no list")
            for element in description.children:
                if prop := _BY_NAME.get(element.name):
                    self._properties.setdefault(prop, []).append(element)
        for prop in self._properties:
            if self.array(prop) is None:
                raise ValueError(f"its {prop.prefix}:{prop.name} is no list")

    def array(self, prop: _Property) -> _Element | None:
        """The list that holds a property's values."""
        elements = self._properties.get(prop, ())
        return next((array for e in elements for array in e.children if array.name in _ARRAYS), None)

    def values(self, prop: _Property) -> list[str]:
        return [item.text for element in self._properties.get(prop, ()) for item in _items(element)]

    def without_ours(self) -> bytes:
        """The document without the tags that are noted as ours, without the notes, and without what is empty then."""
        gone: set[_Element] = set()
        for prop, note in zip(_TAGS, _NOTES, strict=True):
            ours = Counter(self.values(note))
            for element in self._properties.get(prop, ()):
                for item in _items(element):
                    if ours[item.text] > 0:
                        ours[item.text] -= 1  # a tag that stands there twice is also somebody else's
                        gone.add(item)
                if _items(element) and gone.issuperset(_items(element)):
                    gone.add(element)
            gone.update(self._properties.get(note, ()))
        spans, data = [], self._data
        for description in self.root.children:
            kept = [element for element in description.children if element not in gone]
            whole = bool(description.children) and not kept and not _has_properties(description)
            if whole:
                after = data[description.end :].startswith(_AFTER) and data[: description.start].endswith(b" ")
                spans.append((description.start - after, description.end + after * len(_AFTER)))
                continue
            for element in description.children:
                if element in gone:
                    spans.append((element.start, element.end))
                else:
                    spans += [(item.start, item.end) for item in _items(element) if item in gone]
        for start, end in sorted(spans, reverse=True):
            data = data[:start] + data[end:]
        return data

    def _doctype(self, *_) -> None:
        raise ValueError("it has a document type (<!DOCTYPE), which no XMP has")

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "utf-8").lower() not in ("utf-8", "us-ascii", "ascii"):
            raise ValueError(f"it is {encoding}, not UTF-8")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        uri_and_name, prefix = name, ""
        if name.count(" ") == 2:
            uri_and_name, prefix = name.rsplit(" ", 1)
            prefix += ":"
        if len(self._open) == _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        self._count += 1
        if self._count > _MOST_ELEMENTS:
            raise ValueError(f"it has more than {_MOST_ELEMENTS} elements")
        element = _Element(uri_and_name, prefix, self._parser.CurrentByteIndex, attributes)
        if self._open:
            self._open[-1].empty = False
            if self.root in self._open:
                self._open[-1].children.append(element)
        self._open.append(element)
        if self.root is None and [e.name for e in self._open] in _ROOTS:
            self.root = element

    def _end(self, _: str) -> None:
        self._open.pop().close(self._data, self._parser.CurrentByteIndex)

    def _text(self, text: str) -> None:
        self._open[-1].texts.append(text)
        self._open[-1].empty = False


def _items(element: _Element) -> list[_Element]:
    """The items of a property's lists."""
    lists = (array for array in element.children if array.name in _ARRAYS)
    return [item for array in lists for item in array.children if item.name == f"{_RDF} li"]


def _has_properties(description: _Element) -> bool:
    """Whether its attributes are properties too, beside what it is about."""
    return any(" ".join(key.split(" ")[:2]) not in (f"{_RDF} about", "about") for key in description.attributes)
