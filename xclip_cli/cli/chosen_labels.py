"""The labels that options ask for; apart from these, so that help and completion start without label files."""

from dataclasses import replace
from pathlib import Path

from xclip_cli import labels
from xclip_cli.cli.options import DEFAULT_LABELSET
from xclip_cli.labels import LabelSet, typed


def asked(
    names: list[str] | None, files: list[Path] | None, builtin: list[str] | None, calibrates: bool = False
) -> LabelSet | None:
    """All labels that were asked for, added up; None where none were.

    Who ``calibrates`` several sets together has no use for their own calibrations, which may differ.
    """
    sets = [labels.from_names(text) for text in names or ()]
    sets += [labels.load(path) for path in files or ()]
    sets += [labels.builtin(name) for name in builtin or ()]
    if calibrates and len(sets) > 1:
        sets = [replace(label_set, calibration=None) for label_set in sets]
    return labels.combine(sets) if sets else None


def with_background(label_set: LabelSet, background: list[str] | None) -> LabelSet:
    """The set with further background, typed as labels are; `builtin` stands for the built-in set."""
    for text in background or ():
        label_set = label_set.against(labels.builtin("background") if text == "builtin" else labels.from_names(text))
    return label_set


def choose(
    names: list[str] | None, files: list[Path] | None, builtin: list[str] | None, tuned_on: list[str] | None
) -> LabelSet:
    """The labels that were asked for; else those the model was tuned on, or the default set, with a note which."""
    if wanted := asked(names, files, builtin):
        return typed.understand(wanted, tuned_on)
    if tuned_on:
        taken, what = labels.from_names(tuned_on), "that the model was tuned on"
    else:
        taken, what = labels.builtin(DEFAULT_LABELSET), f"of the built-in set {DEFAULT_LABELSET}"
    others = ", ".join(name for name in labels.builtin_names() if tuned_on or name != DEFAULT_LABELSET)
    note = f"no labels given: taking the {len(taken.labels)} {what}; --labels, --labels-file or --labelset: {others}"
    return replace(taken, notes=(note,))
