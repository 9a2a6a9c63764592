"""Labels as a person types them: in a language that a built-in set speaks, or in a way that was probably not meant."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from xclip_cli.labels import Label, LabelSet, builtin, builtin_names, builtin_outline, from_names
from xclip_cli.labels.labelset import is_foreign
from xclip_cli.labels.tables import is_missing

_OTHER_SEPARATOR = re.compile(r"\s*[;|\t\n]\s*")
_FIRST = "everyday"  # the set whose words are meant where several have one


def understand(label_set: LabelSet, own: Iterable[str] | None = None) -> LabelSet:
    """The set with the prompts of built-in labels for names that these have in another language, such as 灌篮.

    Names are printed as given. Labels with prompts of their own, and those that a model was tuned on, `own`, stay.
    """
    kept = set(own or ())
    unknown = [x for x in label_set.labels if x.prompts == (x.name,) and x.name not in kept and is_foreign(x.name)]
    if not unknown:
        return label_set
    prompts = _prompts_by_name()
    known = {x.name: prompts[_spelling(x.name)] for x in unknown if _spelling(x.name) in prompts}
    found = (replace(x, prompts=known[x.name]) if x.name in known else x for x in label_set.labels)
    return replace(label_set, labels=tuple(found))


def _prompts_by_name() -> dict[str, tuple[str, ...]]:
    """Prompts of the built-in labels by their names in other languages."""
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(builtin_names(), key=lambda name: name != _FIRST):
        if not builtin_outline(name)[1]:
            continue
        for label in builtin(name).labels:
            for shown in label.names.values():
                found.setdefault(_spelling(shown), label.prompts)
    return found


def _spelling(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def doubts(typed: Sequence[str], label_set: LabelSet, own: Iterable[str] | None = None) -> list[str]:
    """What was probably not meant in texts of `--labels` and in the set of all that was asked for, a line each.

    `own` are the labels that the model was tuned on: it knows these in any language.
    """
    lines = [line for text in typed for line in _doubts_of_text(text)]
    entries = (*label_set.labels, *label_set.background)
    if missing := [x.name for x in entries if is_missing(x.name)]:
        lines.append(f"the label {missing[0]!r} is what tables write for a missing value: is it a class?")
    if len(entries) == 1:
        lines.append(f"one label, {entries[0].name!r}, always scores 1.0: a score is a share among labels, name others")
    lines += script_warnings(entries, own)
    return lines


def script_warnings(entries: Iterable[Label], own: Iterable[str] | None = None) -> list[str]:
    """Return a line that names the entries, but for `own`, whose prompts are not in Latin letters; or nothing."""
    kept = set(own or ())
    foreign = [x.name for x in entries if x.name not in kept and any(map(is_foreign, x.prompts))]
    if not foreign:
        return []
    names, more = ", ".join(map(repr, foreign[:3])), f" and {len(foreign) - 3} more" * (len(foreign) > 3)
    return [
        f"not in Latin letters: {names}{more}; models were taught English and know little of these: name them in "
        "English, or give English prompts in a label file"
    ]


def _doubts_of_text(text: str) -> Iterable[str]:
    names = [label.name for label in from_names(text).labels]
    if os.path.isfile(text):
        yield f"--labels {text!r} was understood as {_counted(names)}, not as the file: --labels-file {text} reads it"
        return
    for name in names:
        parts = [part for part in _OTHER_SEPARATOR.split(name) if part]
        if len(parts) > 1:
            yield f'{name!r} was understood as one label: a comma separates labels: --labels "{",".join(parts)}"'


def _counted(names: Sequence[str]) -> str:
    return f"the label {names[0]!r}" if len(names) == 1 else f"{len(names)} labels"
