"""What a video may be tagged with: label sets from a list, a file or the built-in collection.

A label file is YAML (a list of labels, or a mapping with `name`, `template`, `labels`, `background`), `.txt` with one
label a line, numbered (`1 ApplyEyeMakeup`) or not, or `.csv` with `id,name`.
"""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from xclip_cli.classlist import numbered_lines, read_class_list
from xclip_cli.errors import LabelError, UsageError
from xclip_cli.files import labelsets_dir
from xclip_cli.tables import not_utf8

MAX_BYTES = 1_000_000
MAX_LABELS = 20_000
MAX_CHARACTERS = 1_000
_SUFFIXES = ".yaml, .yml, .txt or .csv"
_TOP_KEYS = ("name", "template", "labels", "background")
_LABEL_KEYS = ("name", "prompts", "parent", "threshold", "names")
_BACKGROUND_KEYS = ("name", "prompts")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_ONE_WORD = re.compile(r"_|[a-z][A-Z]")


@dataclass(frozen=True)
class Label:
    """One thing to look for: the name that is printed and the prompts that are encoded and averaged.

    `parent` names a broader label, `threshold` is in [0, 1], `names` maps a language code to a display name; `source`
    ("file:line") serves error messages alone. Raises LabelError.
    """

    name: str
    prompts: tuple[str, ...]
    parent: str | None = None
    threshold: float | None = None
    names: Mapping[str, str] = field(default_factory=dict, hash=False)
    source: str = field(default="", compare=False)

    def __post_init__(self):
        if not self.prompts:
            raise _error(self.source, f"label {_short(self.name)} has no prompts; it needs one or more")
        texts = [("label name", self.name), *(("prompt", p) for p in self.prompts)]
        texts += [("parent", self.parent)] if self.parent is not None else []
        texts += [("display name", text) for text in self.names.values()]
        for what, text in texts:
            _check_text(text, what, self.source)
        if len(set(self.prompts)) < len(self.prompts):
            raise _error(self.source, f"label {_short(self.name)} has the same prompt twice; prompts must differ")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise _error(self.source, f"threshold is {self.threshold:g}; it must be between 0 and 1")

    @property
    def is_plain(self) -> bool:
        """True where the label says no more than its name."""
        return (self.prompts, self.parent, self.threshold, len(self.names)) == ((self.name,), None, None, 0)


@dataclass(frozen=True)
class LabelSet:
    """Labels to choose among and background, which may win but is never printed.

    Names must differ in more than case and spaces, and parents must not form a loop. Raises LabelError.
    """

    name: str
    labels: tuple[Label, ...]
    background: tuple[Label, ...] = ()
    about: str = field(default="", compare=False)

    def __post_init__(self):
        _check_text(self.name, "label set name", "")
        if not self.labels:
            raise LabelError(f"label set {_short(self.name)} has no labels; it needs one or more")
        seen: dict[str, Label] = {}
        for label in (*self.labels, *self.background):
            first = seen.setdefault(_key(label.name), label)
            if first is not label:
                where = f" (first: {first.source})" if first.source else ""
                what = f"label {_short(label.name)} is listed twice{where}"
                raise _error(label.source, f"{what}; labels must differ in more than case and spaces")
        _check_parents(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over everything that can change a result; not over where the labels came from."""
        rows = [
            [[x.name, x.prompts, x.parent, x.threshold, sorted(x.names.items())] for x in part]
            for part in (self.labels, self.background)
        ]
        return hashlib.sha256(json.dumps([self.name, *rows]).encode()).hexdigest()

    @property
    def languages(self) -> list[str]:
        """Codes of the languages in which at least one label has a display name."""
        return sorted({language for label in self.labels for language in label.names})

    @cached_property
    def _by_name(self) -> dict[str, Label]:
        return {label.name: label for label in self.labels}

    def display(self, label: Label | str, lang: str | None) -> str:
        """The name to show in `lang` ("zh-CN" falls back to "zh"), else the label's own name."""
        name = label if isinstance(label, str) else label.name
        names = self._by_name[name].names if name in self._by_name else {}
        return names.get(lang) or names.get((lang or "").split("-")[0]) or name

    def warnings(self) -> list[str]:
        """What is allowed but probably not meant, one line each."""
        found = []
        for label in (*self.labels, *self.background):
            for prompt in label.prompts:
                if " " not in prompt and _ONE_WORD.search(prompt):
                    advice = "reads as one word to the model; write it with spaces"
                elif any(c.isalpha() and c > "\u024f" for c in prompt):
                    advice = "is not in Latin letters; models read English: name it so, or give English prompts"
                else:
                    continue
                found.append(f"{label.source}: prompt {_short(prompt)} {advice}")
        owners = Counter(p.casefold() for x in (*self.labels, *self.background) for p in x.prompts)
        found += [
            f"prompt {_short(p)} belongs to {n} labels, which split its score" for p, n in owners.items() if n > 1
        ]
        for language in self.languages:
            if missing := sum(language not in label.names for label in self.labels):
                found.append(f"{missing} of {len(self.labels)} labels have no display name in {language!r}")
        return found


def from_names(names: str | Iterable[str], template: str = "{}", name: str = "custom") -> LabelSet:
    """A label set from "a,b" (one row of CSV: quote a label that holds a comma) or from a list of names."""
    _check_template(template, "")
    if isinstance(names, str):
        try:
            names = [cell for row in csv.reader(io.StringIO(names), skipinitialspace=True, strict=True) for cell in row]
        except csv.Error as error:
            hint = "Quote a label that holds a comma or a quote: '\"rock, paper, scissors\",archery'"
            raise LabelError(f"labels {_short(names)} are no row of CSV: {error}", hint) from None
    return LabelSet(name, tuple(_plain(text, [template], f"label {i}") for i, text in enumerate(names, 1)))


def load(path: str | Path) -> LabelSet:
    """The label set of a label file; its name defaults to the file's. Raises LabelError."""
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    reader = {".yaml": _from_yaml, ".yml": _from_yaml, ".txt": _from_lines}.get(path.suffix.lower())
    if reader is None:
        raise LabelError(f"{path}: a label file must end in {_SUFFIXES}")
    text = _read(path)
    return reader(text, path, _about(text))


def builtin_names() -> list[str]:
    """Names of the built-in label sets."""
    return sorted(file.stem for file in labelsets_dir().glob("*.yaml"))


def builtin(name: str) -> LabelSet:
    """The built-in label set called `name`. Raises LabelError."""
    if name not in (known := builtin_names()):
        raise LabelError(f"no built-in label set is called {_short(name)}", f"Built in: {', '.join(known)}")
    return load(labelsets_dir() / f"{name}.yaml")


def builtin_outline(name: str) -> tuple[int, list[str], str]:
    """Number of labels, languages and purpose of a built-in set, read off its regular layout without parsing it."""
    text, _, _ = _read(labelsets_dir() / f"{name}.yaml").partition("\nbackground:")
    count = len(re.findall(r"^  - ", text, re.MULTILINE))
    return count, sorted(set(re.findall(r"^    names: {(\w+):", text, re.MULTILINE))), _about(text)


def combine(label_sets: Sequence[LabelSet]) -> LabelSet:
    """One label set with all the labels, in order of first mention.

    Labels of one name merge if they are equal or one of them is only a name; a label beats a background entry.
    Raises LabelError where two definitions differ.
    """
    if len(label_sets) == 1:
        return label_sets[0]
    labels: dict[str, Label] = {}
    background: dict[str, Label] = {}
    for label_set in label_sets:
        for part, merged in ((label_set.labels, labels), (label_set.background, background)):
            for label in part:
                _merge(merged, label)
    kept = tuple(label for key, label in background.items() if key not in labels)
    return LabelSet("+".join(dict.fromkeys(x.name for x in label_sets)) or "none", tuple(labels.values()), kept)


def _merge(merged: dict[str, Label], label: Label) -> None:
    known = merged.setdefault(_key(label.name), label)
    if known == label or label.is_plain:
        return
    if not known.is_plain:
        what = f"label {_short(label.name)} is also defined, differently, in {known.source or 'another set'}"
        raise _error(label.source, what, "Rename one of the two, or give one of them its name alone.")
    merged[_key(label.name)] = label


def _error(source: str, message: str, hint: str | None = None) -> LabelError:
    return LabelError(f"{source}: {message}" if source else message, hint)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _key(name: str) -> str:
    """What makes two names the same: letters without case, single spaces."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _check_text(text: str, what: str, source: str) -> None:
    if not text.strip():
        raise _error(source, f"{what} is empty; it must hold text")
    if len(text) > MAX_CHARACTERS:
        raise _error(source, f"{what} {_short(text)} is too long; at most {MAX_CHARACTERS:,} characters are read")
    if _UNPRINTABLE.search(text):
        raise _error(source, f"{what} {_short(text)} holds a control character; it must be printable text")


def _check_template(template: str, source: str) -> None:
    if "{}" not in template or set("{}") & set(template.replace("{}", "")):
        hint = 'The label\'s name takes the place of {}: "a video of {}"'
        raise _error(source, f"template {_short(template)} must hold {{}} and no other braces", hint)


def _check_parents(labels: tuple[Label, ...]) -> None:
    parents = {_key(x.name): x for x in labels if x.parent}
    finished: set[str] = set()
    for label in labels:
        above: set[str] = set()
        key = _key(label.name)
        while key in parents and key not in finished:
            if key in above:
                raise _error(label.source, f"the parents of label {_short(label.name)} lead back to it")
            above.add(key)
            key = _key(parents[key].parent)
        finished |= above


def _plain(name: str, templates: Sequence[str], source: str) -> Label:
    name = name.strip()
    return Label(name, tuple(template.replace("{}", name) for template in templates), source=source)


def _read(path: Path) -> str:
    """The text of a label file, with "\\n" line ends and no byte order mark."""
    data = _read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, guess, shown = not_utf8(data, error.start)
        what = f"the file is not UTF-8, probably {guess}: {_short(shown)}"
        raise LabelError(f"{path}:{line}: {what}", "Save it with UTF-8 encoding.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise LabelError(f"{path}: a label file must be a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabelError(f"{path}: {reason} (a label file must end in {_SUFFIXES})") from None
    if len(data) > MAX_BYTES:
        raise LabelError(f"{path}: the file is too large; at most {MAX_BYTES:,} bytes are read")
    return data


def _about(text: str) -> str:
    """A comment on the first line says what the file is for."""
    return text.split("\n", 1)[0].lstrip("# ") if text.startswith("#") else ""


def _from_lines(text: str, path: Path, about: str) -> LabelSet:
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    _check_count(len(lines), path)
    entries = numbered_lines(lines) or ()
    if sorted(count for _, count, _ in entries) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        lines = [(number, name) for number, _, name in entries]  # what stands before the names counts them
    labels = tuple(_plain(line, ["{}"], f"{path}:{number}") for number, line in lines)
    return LabelSet(path.stem, labels, about=about)


def _from_csv(path: Path) -> LabelSet:
    """Kinetics' and X-CLIP's `id,name`, or a column of names."""
    _read_bytes(path)
    try:
        classes = read_class_list(path)
    except UsageError as error:
        raise LabelError(error.message, error.hint) from None
    _check_count(len(classes.names), path)
    sources = {number: f"{path}:{line}" for number, line in classes.lines.items()}
    return LabelSet(path.stem, tuple(_plain(classes.names[n], ["{}"], sources[n]) for n in sorted(classes.names)))


def _from_yaml(text: str, path: Path, about: str) -> LabelSet:
    from xclip_cli.labels import yamltree

    root = yamltree.parse(text, str(path))
    top = root.fields("label set", _TOP_KEYS) if root.kind == "map" else {"labels": root}
    templates = ("{}",)
    if "template" in top:
        templates = top["template"].texts("template")
        for template in templates:
            _check_template(template, top["template"].source)
    labels, background = (
        tuple(_label(item, templates, keys) for item in (top[part].items(part) if part in top else ()))
        for part, keys in (("labels", _LABEL_KEYS), ("background", _BACKGROUND_KEYS))
    )
    _check_count(len(labels), path)
    name = top["name"].text("label set name") if "name" in top else path.stem
    return LabelSet(name, labels, background, about)


def _check_count(count: int, path: Path) -> None:
    if not 0 < count <= MAX_LABELS:
        raise LabelError(f"{path}: the file has {count:,} labels; it must have 1 to {MAX_LABELS:,}")


def _label(node, templates: Sequence[str], keys: Sequence[str]) -> Label:
    if node.kind != "map":
        return _plain(node.text("label"), templates, node.source)
    given = node.fields("label" if keys is _LABEL_KEYS else "background entry", keys)
    if "name" not in given:
        raise node.error("label has no name", 'Write "- name: ..." and its other keys below.')
    plain = _plain(given["name"].text("label name"), templates, node.source)
    names = given["names"].fields("names") if "names" in given else {}
    for code, value in names.items():
        if not _LANGUAGE.fullmatch(code):
            raise value.error(f"{code!r} is no language code; write one such as zh or pt-BR")
    return Label(
        plain.name,
        given["prompts"].texts("prompt") if "prompts" in given else plain.prompts,
        given["parent"].text("parent") if "parent" in given else None,
        given["threshold"].share("threshold") if "threshold" in given else None,
        {code: value.text("display name") for code, value in names.items()},
        node.source,
    )
