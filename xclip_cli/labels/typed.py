"""Labels that a person chose: typed names, files and built-in sets, translated, with warnings about likely mistakes."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from xclip_cli.labels import Label, LabelSet, builtin, builtin_names, builtin_outline, combine, from_names, load
from xclip_cli.labels.labelset import is_foreign
from xclip_cli.labels.tables import is_missing, normalise

_OTHER_SEPARATOR = re.compile(r"\s*[;|\t\n]\s*")
DEFAULT_LABELSET = "everyday"  # its translation is used if several built-in sets have one


def requested(
    names: list[str] | None, files: list[Path] | None, builtins: list[str] | None, calibrates: bool = False
) -> LabelSet | None:
    """Return the combined labels of typed names, label files and built-in sets; None without any of them.

    With ``calibrates`` the sets' own calibrations, which may differ, are ignored if there are several.
    """
    sets = [from_names(text) for text in names or ()]
    sets += [load(path) for path in files or ()]
    sets += [builtin(name) for name in builtins or ()]
    if calibrates and len(sets) > 1:
        sets = [replace(label_set, calibration=None) for label_set in sets]
    return combine(sets) if sets else None


def with_background(label_set: LabelSet, background: list[str] | None) -> LabelSet:
    """Return the set with further background, typed as labels are; `builtin` is the built-in background."""
    for text in background or ():
        label_set = label_set.with_background(builtin("background") if text == "builtin" else from_names(text))
    return label_set


def choose(
    names: list[str] | None, files: list[Path] | None, builtins: list[str] | None, tuned_on: list[str] | None
) -> LabelSet:
    """Return the requested labels, else those the model was tuned on, else the default set; a note says which."""
    if label_set := requested(names, files, builtins):
        return translate_labels(label_set, tuned_on)
    if tuned_on:
        taken, what = from_names(tuned_on), "that the model was tuned on"
    else:
        taken, what = builtin(DEFAULT_LABELSET), f"of the built-in set {DEFAULT_LABELSET}"
    sets = ", ".join(name for name in builtin_names() if tuned_on or name != DEFAULT_LABELSET)
    note = f"no labels given: taking the {len(taken.labels)} {what}; --labels, --labels-file or --labelset: {sets}"
    return replace(taken, notes=(note,))


def translate_labels(label_set: LabelSet, tuned_on: Iterable[str] | None = None) -> LabelSet:
    """Return the set with the English prompts of built-in labels whose name in another language it uses, such as 灌篮.

    Names are printed as given. Labels with prompts of their own and those that the model was tuned on stay unchanged.
    """
    kept = set(tuned_on or ())
    unknown = [x for x in label_set.labels if x.prompts == (x.name,) and x.name not in kept and is_foreign(x.name)]
    if not unknown:
        return label_set
    prompts = _prompts_by_name()
    known = {x.name: prompts[normalise(x.name)] for x in unknown if normalise(x.name) in prompts}
    found = (replace(x, prompts=known[x.name]) if x.name in known else x for x in label_set.labels)
    return replace(label_set, labels=tuple(found))


def _prompts_by_name() -> dict[str, tuple[str, ...]]:
    """Prompts of the built-in labels by their names in other languages."""
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(builtin_names(), key=lambda name: name != DEFAULT_LABELSET):
        if not builtin_outline(name)[1]:
            continue
        for label in builtin(name).labels:
            for shown in label.names.values():
                found.setdefault(normalise(shown), label.prompts)
    return found


def typed_warnings(typed: Sequence[str], label_set: LabelSet, tuned_on: Iterable[str] | None = None) -> list[str]:
    """Return warnings about likely mistakes in texts of `--labels` and in the whole set, a line each.

    The labels that the model was tuned on may be in any language.
    """
    lines = [line for text in typed for line in _warnings_of_text(text)]
    entries = (*label_set.labels, *label_set.background)
    if missing := [x.name for x in entries if is_missing(x.name)]:
        lines.append(f"the label {missing[0]!r} is what tables write for a missing value: is it a class?")
    if len(entries) == 1:
        lines.append(f"one label, {entries[0].name!r}, always scores 1.0: a score is a share among labels, name others")
    lines += script_warnings(entries, tuned_on)
    return lines


def script_warnings(entries: Iterable[Label], tuned_on: Iterable[str] | None = None) -> list[str]:
    """Return at most one line: the entries, but for those tuned on, whose prompts are not in Latin letters."""
    kept = set(tuned_on or ())
    foreign = [x.name for x in entries if x.name not in kept and any(map(is_foreign, x.prompts))]
    if not foreign:
        return []
    names, more = ", ".join(map(repr, foreign[:3])), f" and {len(foreign) - 3} more" * (len(foreign) > 3)
    return [
        f"not in Latin letters: {names}{more}; models were taught English and know little of these: name them in "
        "English, or give English prompts in a label file"
    ]


def _warnings_of_text(text: str) -> Iterable[str]:
    names = [label.name for label in from_names(text).labels]
    if os.path.isfile(text):
        what = f"the label {names[0]!r}" if len(names) == 1 else f"{len(names)} labels"
        yield f"--labels {text!r} was understood as {what}, not as the file: --labels-file {text} reads it"
        return
    for name in names:
        parts = [part for part in _OTHER_SEPARATOR.split(name) if part]
        if len(parts) > 1:
            yield f'{name!r} was understood as one label: a comma separates labels: --labels "{",".join(parts)}"'
