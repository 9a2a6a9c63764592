"""Labels and sets of labels: what each may be, and how sets are made of names and of other sets."""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property

from xclip_cli.errors import LabelError
from xclip_cli.labels.tables import normalise

MAX_CHARACTERS = 1_000
TEMPERATURES = (0.01, 100.0)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_ONE_WORD = re.compile(r"_|[a-z][A-Z]")
_SEPARATOR = re.compile(r'(^|[,，、；\n])(\s*"(?:[^"]|"")*")?')  # and the quoted label behind it


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
            raise _error(self.source, f"label {shortened(self.name)} has no prompts; it needs one or more")
        texts = [("label name", self.name), *(("prompt", p) for p in self.prompts)]
        texts += [("parent", self.parent)] if self.parent is not None else []
        texts += [("display name", text) for text in self.names.values()]
        for what, text in texts:
            _check_text(text, what, self.source)
        if len(set(self.prompts)) < len(self.prompts):
            raise _error(self.source, f"label {shortened(self.name)} has the same prompt twice; prompts must differ")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise _error(self.source, f"threshold is {self.threshold:g}; it must be between 0 and 1")

    @property
    def is_plain(self) -> bool:
        """True where the label says no more than its name."""
        return (self.prompts, self.parent, self.threshold, len(self.names)) == ((self.name,), None, None, 0)


@dataclass(frozen=True)
class Calibration:
    """What divides the logits of one model so that its scores say how often it is right (Guo et al., ICML 2017).

    ``model`` is its name, ``fingerprint`` what its text features are kept under. Raises LabelError.
    """

    model: str
    fingerprint: str
    temperature: float

    def __post_init__(self):
        low, high = TEMPERATURES
        if not low <= self.temperature <= high:
            raise LabelError(f"temperature is {self.temperature:g}; it must be between {low:g} and {high:g}")


@dataclass(frozen=True)
class LabelSet:
    """Labels to choose among and background, which may win but is never printed.

    Names must differ in more than case and spaces, and parents must not form a loop. ``notes`` say how the set came to
    be what it is, a line each, where somebody may not expect it. Raises LabelError.
    """

    name: str
    labels: tuple[Label, ...]
    background: tuple[Label, ...] = ()
    about: str = field(default="", compare=False)
    calibration: Calibration | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self):
        _check_text(self.name, "label set name", "")
        if not self.labels:
            raise LabelError(f"label set {shortened(self.name)} has no labels; it needs one or more")
        seen: dict[str, Label] = {}
        for label in (*self.labels, *self.background):
            first = seen.setdefault(normalise(label.name), label)
            if first is not label:
                where = f" (first: {first.source})" if first.source else ""
                what = f"label {shortened(label.name)} is listed twice{where}"
                raise _error(label.source, f"{what}; labels must differ in more than case and spaces")
        _check_parents(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over everything that can change a result; not over where the labels came from."""
        rows = [
            [[x.name, x.prompts, x.parent, x.threshold, sorted(x.names.items())] for x in part]
            for part in (self.labels, self.background)
        ]
        rows += [astuple(self.calibration)] if self.calibration else []
        return hashlib.sha256(json.dumps([self.name, *rows]).encode()).hexdigest()

    def temperature(self, fingerprint: str) -> float:
        """What divides the logits of the model of this fingerprint: 1 unless the set was calibrated for it."""
        fits = self.calibration is not None and self.calibration.fingerprint == fingerprint
        return self.calibration.temperature if fits else 1.0

    def calibration_warnings(self, model: str, fingerprint: str) -> list[str]:
        """A line where the set was calibrated for another model than the one of this name and fingerprint."""
        if self.calibration is None or self.calibration.fingerprint == fingerprint:
            return []
        other = self.calibration.model
        other = f"{other} as it was then" if other == model else other
        return [f"label set {self.name!r} was calibrated for {other}, not {model}: its thresholds may not fit"]

    def with_background(self, background: "LabelSet") -> "LabelSet":
        """The set with the labels of another as further background, but for those that are here already."""
        known = {normalise(label.name) for label in (*self.labels, *self.background)}
        more = tuple(label for label in background.labels if normalise(label.name) not in known)
        notes = _calibrated_for_fewer(self, "with more background") if more else ()
        return replace(self, background=(*self.background, *more), notes=(*self.notes, *notes))

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
                elif is_foreign(prompt):
                    advice = "is not in Latin letters; models read English: name it so, or give English prompts"
                else:
                    continue
                found.append(f"{label.source}: prompt {shortened(prompt)} {advice}")
        owners = Counter(p.casefold() for x in (*self.labels, *self.background) for p in x.prompts)
        found += [
            f"prompt {shortened(p)} belongs to {n} labels, which split its score" for p, n in owners.items() if n > 1
        ]
        for language in self.languages:
            if missing := sum(language not in label.names for label in self.labels):
                found.append(f"{missing} of {len(self.labels)} labels have no display name in {language!r}")
        return found


def from_names(names: str | Iterable[str], template: str = "{}", name: str = "custom") -> LabelSet:
    """A label set from "a,b" (one row of CSV: quote a label that holds a comma) or from a list of names.

    Commas may be Chinese or Japanese ones, or full-width semicolons: "射箭，骑自行车".
    """
    check_template(template, "")
    if isinstance(names, str):
        row = _SEPARATOR.sub(lambda m: re.sub("[，、；]", ",", m[1]) + (m[2] or ""), names)
        try:
            names = [cell for row in csv.reader(io.StringIO(row), skipinitialspace=True, strict=True) for cell in row]
        except csv.Error as error:
            hint = "Quote a label that holds a comma or a quote: '\"rock, paper, scissors\",archery'"
            raise LabelError(f"labels {shortened(names)} are no row of CSV: {error}", hint) from None
    return LabelSet(name, tuple(plain_label(text, [template], f"label {i}") for i, text in enumerate(names, 1)))


def combine(label_sets: Sequence[LabelSet]) -> LabelSet:
    """One label set with all the labels, in order of first mention.

    Labels of one name merge if they are equal or one of them is only a name; a label beats a background entry. A
    calibration that one set has is kept, and a note says so. Raises LabelError where two definitions or two
    calibrations differ.
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
    calibrated = [label_set for label_set in label_sets if label_set.calibration]
    if len({label_set.calibration for label_set in calibrated}) > 1:
        first, second = calibrated[:2]
        raise LabelError(
            f"label sets {first.name!r} and {second.name!r} are both calibrated, differently: scores have one scale",
            "take 'calibration' out of one of the files, or calibrate all labels together",
        )
    calibration = calibrated[0].calibration if calibrated else None
    notes = tuple(note for label_set in label_sets for note in label_set.notes)
    notes += _calibrated_for_fewer(calibrated[0], "among more labels") if calibrated else ()
    name = "+".join(dict.fromkeys(label_set.name for label_set in label_sets)) or "none"
    return LabelSet(name, tuple(labels.values()), kept, calibration=calibration, notes=notes)


def _calibrated_for_fewer(label_set: LabelSet, what: str) -> tuple[str, ...]:
    if label_set.calibration is None:
        return ()
    return (f"label set {label_set.name!r} was calibrated alone: {what} its thresholds may be too high",)


def _merge(merged: dict[str, Label], label: Label) -> None:
    known = merged.setdefault(normalise(label.name), label)
    if known == label or label.is_plain:
        return
    if not known.is_plain:
        what = f"label {shortened(label.name)} is also defined, differently, in {known.source or 'another set'}"
        raise _error(label.source, what, "Rename one of the two, or give one of them its name alone.")
    merged[normalise(label.name)] = label


def _error(source: str, message: str, hint: str | None = None) -> LabelError:
    return LabelError(f"{source}: {message}" if source else message, hint)


def shortened(text: str) -> str:
    """A text in quotes, at most 60 characters of it, for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def is_foreign(text: str) -> bool:
    """Whether the text has letters that are not Latin; Vietnamese is Latin, however its accents are written."""
    letters = (c for c in text if c > "\u024f" and unicodedata.category(c) in ("Lu", "Ll", "Lt", "Lo"))
    return any("LATIN" not in unicodedata.name(c, "") for c in letters)


def _check_text(text: str, what: str, source: str) -> None:
    if not text.strip():
        raise _error(source, f"{what} is empty; it must hold text")
    if len(text) > MAX_CHARACTERS:
        raise _error(source, f"{what} {shortened(text)} is too long; at most {MAX_CHARACTERS:,} characters are read")
    if _UNPRINTABLE.search(text):
        raise _error(source, f"{what} {shortened(text)} holds a control character; it must be printable text")


def check_template(template: str, source: str) -> None:
    """LabelError where a template has no {} for the label's name, or other braces."""
    if "{}" not in template or set("{}") & set(template.replace("{}", "")):
        hint = 'The label\'s name takes the place of {}: "a video of {}"'
        raise _error(source, f"template {shortened(template)} must hold {{}} and no other braces", hint)


def _check_parents(labels: tuple[Label, ...]) -> None:
    parents = {normalise(x.name): x for x in labels if x.parent}
    finished: set[str] = set()
    for label in labels:
        above: set[str] = set()
        key = normalise(label.name)
        while key in parents and key not in finished:
            if key in above:
                raise _error(label.source, f"the parents of label {shortened(label.name)} lead back to it")
            above.add(key)
            key = normalise(parents[key].parent)
        finished |= above


def plain_label(name: str, templates: Sequence[str], source: str) -> Label:
    """A label that is no more than its name, which stands in every template."""
    name = name.strip()
    return Label(name, tuple(template.replace("{}", name) for template in templates), source=source)
