"""XMP sidecars beside videos: tags for photo managers, added to what stands there already.

A sidecar has the video's name and ``.xmp`` after it (``clip.mp4.xmp``). Tags go where programs look for them: the label
into ``dc:subject``, the label below its parents into ``lr:hierarchicalSubject`` (``sport|ball|dunking``) and
``digiKam:TagsList`` (``sport/ball/dunking``). XMP Specification Part 1 (ISO 16684-1), section 7. What a file holds
stays as it is, byte for byte: tags are put in between.
"""

import os
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
_MOST_BYTES, _DEEPEST = 16 * 2**20, 200
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


_PROPERTIES = (
    _Property("dc", "http://purl.org/dc/elements/1.1/", "subject", "Bag", None),
    _Property("lr", "http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject", "Bag", "|"),
    _Property("digiKam", "http://www.digikam.org/ns/1.0/", "TagsList", "Seq", "/"),
)


def keywords(result: VideoResult, label_set: LabelSet, lang: str | None, sure: Collection[str]) -> list[Keyword]:
    """The tags of a video that are worth keeping: the best of each segment, and others that are ``sure``.

    ``sure`` holds names that are shown only above a threshold. Where the answer is ``unknown`` there are none.
    """
    found = []
    for segment in result.segments:
        if segment.tags[0].label != UNKNOWN:
            found += [tag.label for rank, tag in enumerate(segment.tags) if rank == 0 or tag.label in sure]
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
    """What a sidecar is to hold: its bytes, and the labels that it did not hold before."""

    path: Path
    content: bytes
    added: list[str]

    def write(self) -> None:
        """Writes it, whole or not at all, where anything was added. Raises OutputError."""
        if self.added:
            try:
                with replacing(self.path) as draft:
                    draft.write_bytes(self.content)
            except OSError as error:
                raise OutputError(f"cannot write {str(self.path)!r}: {error.strerror or error}") from error


def sidecar(video: str, keywords: Sequence[Keyword]) -> Sidecar:
    """The sidecar of a video with these keywords added; nothing is written. Raises OutputError for one that is no XMP.

    A link is followed to the file that it names.
    """
    path = Path(video + ".xmp")
    try:
        before = _read(path)
        content, added = merged(_EMPTY if before is None else before, keywords)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"the sidecar {str(path)!r} is left as it is: {reason}", "mend it, or move it out of the way"
        ) from error
    return Sidecar(Path(os.path.realpath(path)), content, added)


def _read(path: Path) -> bytes | None:
    if not os.path.lexists(path):
        return None
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    return data


def merged(data: bytes, keywords: Sequence[Keyword]) -> tuple[bytes, list[str]]:
    """The XMP with these keywords added to its own, and the labels of which anything was new.

    Raises ValueError for what is no XMP in UTF-8 without a document type.
    """
    found = _Scan(data)
    inserted: list[tuple[_Element, bytes]] = []
    added: set[str] = set()
    missing = []
    for prop in _PROPERTIES:
        array, values = found.arrays.get(prop), found.values.get(prop, [])
        new = {prop.value(keyword): keyword[-1] for keyword in keywords if prop.value(keyword) not in values}
        added.update(new.values())
        if array is not None:
            inserted.append((array, b"".join(_item(array.prefix, value) for value in new)))
        elif new:
            missing.append(_whole(prop, found.root.prefix or "rdf:", new))
    if missing:
        inserted.append((found.root, _description(found.root.prefix, found.about, b"".join(missing))))
    for element, text in sorted(inserted, key=lambda item: -item[0].stop):
        if text:
            data = element.with_more(data, text)
    return data, [keyword[-1] for keyword in keywords if keyword[-1] in added]


def _item(prefix: str, value: str) -> bytes:
    return f"<{prefix}li>{escape(value)}</{prefix}li>".encode()


def _whole(prop: _Property, rdf: str, values: Iterable[str]) -> bytes:
    name, items = f"{prop.prefix}:{prop.name}", b"".join(_item(rdf, value) for value in values).decode()
    text = f"<{rdf}{prop.array}>{items}</{rdf}{prop.array}>"
    return f'   <{name} xmlns:{prop.prefix}="{prop.uri}">{text}</{name}>\n'.encode()


def _description(prefix: str, about: str, properties: bytes) -> bytes:
    rdf, declared = (prefix, "") if prefix else ("rdf:", f' xmlns:rdf="{_RDF}"')  # an attribute has no default
    start = f" <{rdf}Description{declared} {rdf}about={quoteattr(about)}>\n"
    return start.encode() + properties + f"  </{rdf}Description>\n ".encode()


@dataclass
class _Element:
    """An element of the text: its expanded name, its prefix with the colon, and where its content ends, in bytes."""

    name: str
    prefix: str
    start: int
    stop: int = 0
    texts: list[str] = field(default_factory=list)
    empty: bool = True

    def with_more(self, data: bytes, text: bytes) -> bytes:
        """The document with text at the end of the element's content."""
        if self.empty and data[self.start : self.stop].endswith(b"/>"):
            qualified = f"</{self.prefix}{self.name.partition(' ')[2]}>".encode()
            return data[: self.stop - 2] + b">" + text + qualified + data[self.stop :]
        return data[: self.stop] + text + data[self.stop :]


class _Scan:
    """Where an XMP's arrays of tags are and what they hold; nothing is resolved, and a document type is refused."""

    def __init__(self, data: bytes):
        self.root: _Element | None = None
        self.about = ""
        self.arrays: dict[_Property, _Element] = {}
        self.values: dict[_Property, list[str]] = {}
        self._open: list[_Element] = []
        self._by_name = {f"{prop.uri} {prop.name}": prop for prop in _PROPERTIES}
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
        for prop in self.values:
            if prop not in self.arrays:
                raise ValueError(f"its {prop.prefix}:{prop.name} is no list")

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
        if self._open:
            self._open[-1].empty = False
        if len(self._open) == _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        self._open.append(_Element(uri_and_name, prefix, self._parser.CurrentByteIndex))
        path = self._path()
        if self.root is None and path in _ROOTS:
            self.root = self._open[-1]
        elif self._below(1):
            names = {" ".join(key.split(" ")[:2]): value for key, value in attributes.items()}
            self.about = names.get(f"{_RDF} about", names.get("about", self.about))
            for attribute in names:
                if prop := self._by_name.get(attribute):
                    self.values.setdefault(prop, [])
        elif self._below(2) and (prop := self._by_name.get(path[-1])):
            self.values.setdefault(prop, [])
        elif self._below(3) and path[-1] in _ARRAYS and (prop := self._by_name.get(path[-2])):
            self.arrays.setdefault(prop, self._open[-1])

    def _end(self, _: str) -> None:
        element = self._open[-1]
        element.stop = self._parser.CurrentByteIndex
        if self._below(4) and element.name == f"{_RDF} li":
            prop = self._by_name.get(self._path()[-3])
            if prop and prop in self.values:
                self.values[prop].append("".join(element.texts).strip())
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].texts.append(text)
        self._open[-1].empty = False

    def _path(self) -> list[str]:
        return [element.name for element in self._open]

    def _below(self, levels: int) -> bool:
        """Whether the innermost element is so far inside rdf:RDF."""
        return len(self._open) > levels and self.root is self._open[-1 - levels]
