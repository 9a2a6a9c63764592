"""The options of `xclip benchmark`, each with its help; those it shares with tagging are taken from there."""

from pathlib import Path
from typing import Annotated

from typer import Option

from xclip_cli.cli.options import (
    BatchSize,
    ClassList,
    Data,
    DecodeTimeout,
    Device,
    Dtype,
    Labelset,
    LabelsFile,
    Model,
    NumClips,
    NumCrops,
    Paths,
    Reader,
    Recursive,
    Workers,
    asked_labels,
)
from xclip_cli.settings import SpeedSettings

__all__ = [
    "BatchSize", "ClassList", "Data", "DecodeTimeout", "Device", "Dtype", "LabelsFile", "Labelset", "Model", "NumClips",
    "NumCrops", "Paths", "Reader", "Recursive", "Workers", "asked_labels",
]  # fmt: skip

MODELS = ",".join(SpeedSettings.models)
Models = Annotated[str, Option(help="Names as in xclip tag, separated by commas. Not on disk: random weights.")]
Against = Annotated[str, Option(help="Rivals: usual, all, none, or names separated by commas.")]
Threads = Annotated[int | None, Option(help="Torch's threads.", show_default="as many as torch takes")]
Rounds = Annotated[int, Option(help="How often every network has its turn.")]
Video = Annotated[str | None, Option(help="A file to decode.", show_default="a clip made for it")]
SpeedOutput = Annotated[Path | None, Option("--output", "-o", help="A folder for speed.csv, speed.json and speed.png.")]

DecodeThreads = Annotated[int, Option(min=1, max=64, help="Threads of each decoder.")]

Protocol = Annotated[
    str | None, Option(help="ucf101-split1, hmdb51-split1, k400-val or k600-zeroshot-{1,2,3}; DATA is then a folder.")
]
SplitFile = Annotated[str | None, Option(help="The protocol's official list, or folder of lists.")]
ClassNames = Annotated[str, Option(help="The text of the protocol's classes: readable, or original (ApplyEyeMakeup).")]
Temporal = Annotated[
    str, Option(help="Rows: mean, mit, cct, cct+mit, separated by commas.", show_default="as the model is")
]
Prompting = Annotated[
    str, Option(help="Rows: none, template, ensemble, video, separated by commas.", show_default="as the model is")
]
AccuracyOutput = Annotated[Path | None, Option("--output", "-o", help="A folder for tables, pictures and the journal.")]


def listed(text: str) -> tuple[str, ...]:
    """The names in a text that separates them by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
