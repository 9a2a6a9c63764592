"""Clips of a folder: a folder for each class, or `train`, `val`, `test` with such folders in them."""

import os
from dataclasses import replace
from pathlib import Path

from xclip_cli.dataset.files import refuse_unlisted, videos_below
from xclip_cli.dataset.sample import Sample, as_label, split_named
from xclip_cli.errors import UsageError
from xclip_cli.video.source import is_video_name


def from_folder(root: Path) -> list[Sample]:
    """The clips of every class, with their splits where `root` has folders of that name. Raises UsageError."""
    folders = _folders(root)
    if not folders:
        raise UsageError(
            f"{str(root)!r} has no folders: it must have one per class, with the clips in them",
            "or give a CSV: video,label",
        )
    splits = [folder for folder in folders if split_named(folder.name)]
    if not splits or (len(splits) < len(folders) and not any(_holds_classes(folder) for folder in splits)):
        return _of_classes(root, folders)
    samples = []
    for folder in folders:
        split, classes = split_named(folder.name), _folders(folder)
        if split is None:
            if _clips(folder, root):
                raise UsageError(
                    f"{str(folder)!r} stands beside {splits[0].name!r}: is it a class, or are they splits?",
                    "put classes into train and val, or name the folder of the classes",
                )
            continue
        if stray := _direct_clips(folder):
            raise UsageError(
                f"{stray[0]!r} is in no class: {folder.name!r} is a split and must have a folder per class",
                "put its clips into folders of their classes",
            )
        samples += [replace(sample, split=split) for sample in _of_classes(folder, classes)]
    return samples


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        refuse_unlisted(error)


def _direct_clips(folder: Path) -> list[str]:
    return sorted(str(entry) for entry in folder.iterdir() if is_video_name(entry.name) and not entry.is_dir())


def _holds_classes(folder: Path) -> bool:
    return bool(_folders(folder)) and not _direct_clips(folder)


def _of_classes(root: Path, classes: list[Path]) -> list[Sample]:
    samples = []
    for folder in classes:
        clips = _clips(folder, root)
        if not clips:
            raise UsageError(
                f"the class folder {str(folder)!r} holds no video: every folder of {str(root)!r} is a class",
                "put clips into it, move it elsewhere, or begin its name with a dot",
            )
        samples += [Sample(clip, as_label(folder.name)) for clip in clips]
    return samples


def _clips(folder: Path, root: Path) -> list[str]:
    """A class's videos, those in folders of folders and behind links too; no link leads into another class."""
    own, all_classes = os.path.realpath(folder), os.path.realpath(root)

    def of_class(path: str) -> bool:
        real = os.path.realpath(path)
        return _within(real, own) or not (_within(real, all_classes) or _within(all_classes, real))

    return list(videos_below(folder, of_class))


def _within(path: str, folder: str) -> bool:
    return os.path.join(path, "").startswith(os.path.join(folder, ""))
