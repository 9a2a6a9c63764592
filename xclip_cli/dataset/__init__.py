"""Which clips there are and what they show: folders, tables and lists in, samples out."""

import os
from pathlib import Path

from xclip_cli.dataset.folders import from_folder
from xclip_cli.dataset.lists import from_list
from xclip_cli.dataset.rows import from_table
from xclip_cli.dataset.sample import Sample, label_names
from xclip_cli.errors import UsageError
from xclip_cli.labels.tables import normalise

__all__ = ["Sample", "label_names", "read_samples"]


def read_samples(
    source: str | Path,
    class_list: str | Path | None = None,
    beside: str | Path | None = None,
    folder: str | Path | None = None,
) -> list[Sample]:
    """The clips of a folder with one folder per class, of a table with a header, or of a list (`path id`).

    A folder may have train, val and test with such folders in them. A table's columns are
    ``video,label[,start_seconds,end_seconds][,split]``; a list needs ``class_list``, a name per line or ids and names;
    ``beside`` is another list whose ids are the same. Paths begin at ``folder``, by default that of the file. Raises
    UsageError naming the line and the rule.
    """
    source = Path(source)
    base = Path(folder) if folder else source.parent
    if source.is_dir():
        samples = from_folder(source)
    elif not source.is_file():
        raise UsageError(f"there is no folder or file {str(source)!r}", "name a folder with one folder per class")
    elif class_list is not None:
        samples = from_list(source, base, Path(class_list), Path(beside) if beside else None)
    else:
        samples = from_table(source, base)
    if not samples:
        raise UsageError(f"{str(source)!r} holds no clips: it must hold at least one per class")
    _check_labels(source, samples)
    return samples


def _check_labels(source: Path, samples: list[Sample]) -> None:
    """Labels that differ in case and blanks alone would be two classes; a clip has one label."""
    seen: dict[str, str] = {}
    for label in label_names(samples):
        first = seen.setdefault(normalise(label), label)
        if first != label:
            raise UsageError(
                f"{str(source)!r} has the labels {first!r} and {label!r}: they must differ in more than case",
                "write them alike, or rename one",
            )
    labels: dict[tuple, str] = {}
    for sample in samples:
        clip = os.path.normpath(sample.path), sample.start_seconds, sample.end_seconds
        first = labels.setdefault(clip, sample.label)
        if first != sample.label:
            raise UsageError(
                f"{str(source)!r} labels {sample.path!r} {first!r} and {sample.label!r}: a clip has one label",
                "delete one of the two rows, or say by start_seconds and end_seconds which part shows what",
            )
