"""The options of the commands, each with its help, and what several of them mean together."""

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from xclip_cli.benchmark.settings import SpeedSettings
from xclip_cli.cli import completions
from xclip_cli.errors import UsageError
from xclip_cli.outputs import FORMATS, MOMENT_FORMATS
from xclip_cli.video.source import looks_binary

_HEAD_BYTES = 65536
_MODEL, _LABELS, _VIEWS, _RUN, _OUT = "Model", "Labels", "Views", "Running", "Output"
_TIME, _INDEX = "Timeline", "Index"
_FORMAT_HELP = "Default: by the file's suffix. excel: a CSV with the mark by which Excel knows UTF-8."
_CLIPS, _LEARNS, _TRAINING = "Clips", "What learns", "Training"


Format = Enum("Format", {name: name for name in ("table", *FORMATS)}, type=str)
MomentFormat = Enum("MomentFormat", {name: name for name in ("table", *MOMENT_FORMATS)}, type=str)


class EngineName(str, Enum):
    local = "local"
    ray = "ray"


Paths = Annotated[
    list[str],
    Argument(
        metavar="PATH", help="Videos, folders, glob patterns, or - for a list on standard input.", show_default=False
    ),
]
Recursive = Annotated[bool, Option("--recursive", "-r", help="Look into the folders of folders.")]
Model = Annotated[
    str,
    Option(
        "--model",
        "-m",
        help="A name of `xclip models list`, a hub id, a file or a folder.",
        rich_help_panel=_MODEL,
        autocompletion=completions.models,
    ),
]
Device = Annotated[
    str, Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_MODEL, autocompletion=completions.devices)
]
Dtype = Annotated[
    str, Option(help="float32, bfloat16 or float16.", rich_help_panel=_MODEL, autocompletion=completions.dtypes)
]
Labels = Annotated[
    list[str] | None,
    Option(
        "--labels",
        "-l",
        metavar="NAMES",
        help='Labels, separated by commas: "dogs pulling sled,dunking".',
        rich_help_panel=_LABELS,
    ),
]
LabelsFile = Annotated[
    list[Path] | None,
    Option(
        metavar="FILE", help="A label file: .yaml, .txt with one a line, or .csv (id,name).", rich_help_panel=_LABELS
    ),
]
Labelset = Annotated[
    list[str] | None,
    Option(
        metavar="NAME",
        help="A built-in set of `xclip labels list`. [default: everyday]",
        rich_help_panel=_LABELS,
        autocompletion=completions.labelsets,
    ),
]
Background = Annotated[
    list[str] | None,
    Option(
        metavar="NAMES",
        help="What else may be seen, separated by commas: it competes and is never printed. builtin: a general set.",
        rich_help_panel=_LABELS,
    ),
]
MinMargin = Annotated[
    float,
    Option(
        help="Answer `unknown` unless the best score leads the next by this much (0 to 1).", rich_help_panel=_LABELS
    ),
]
Lang = Annotated[str | None, Option(help="Show labels in this language, e.g. zh.", rich_help_panel=_LABELS)]
TopK = Annotated[int, Option("--top-k", "-k", help="How many labels a video gets.", rich_help_panel=_LABELS)]
Threshold = Annotated[
    float | None, Option(help="Show only labels with this score or more (0 to 1).", rich_help_panel=_LABELS)
]
NumClips = Annotated[int, Option(help="Views in time, averaged.", rich_help_panel=_VIEWS)]
NumCrops = Annotated[int, Option(help="Views in space, 1 or 3, averaged.", rich_help_panel=_VIEWS)]
Window = Annotated[
    str | None,
    Option(
        help="Look at windows of so many seconds, or auto, and give segments.",
        metavar="SECONDS",
        rich_help_panel=_TIME,
        autocompletion=completions.windows,
    ),
]
Stride = Annotated[
    float | None, Option(help="Seconds between windows.", show_default="half a window", rich_help_panel=_TIME)
]
ThresholdLow = Annotated[
    float | None,
    Option(
        help="A segment begins at --threshold, or else where a label stands out, and holds down to this score.",
        show_default="half of that",
        rich_help_panel=_TIME,
    ),
]
Smooth = Annotated[int, Option(help="Windows that scores are averaged over, an odd number.", rich_help_panel=_TIME)]
MinLength = Annotated[float, Option(help="Drop segments shorter than this many seconds.", rich_help_panel=_TIME)]
MaxGap = Annotated[
    float | None,
    Option(
        help="Merge segments of one label that are at most this many seconds apart.",
        show_default="the stride",
        rich_help_panel=_TIME,
    ),
]
Exclusive = Annotated[bool, Option("--exclusive", help="Only the best label at any moment.", rich_help_panel=_TIME)]
Scenes = Annotated[bool, Option("--scenes", help="No window crosses a shot change.", rich_help_panel=_TIME)]
Cut = Annotated[Path | None, Option(help="Write each segment to a small video in this folder.", rich_help_panel=_TIME)]
FromIndex = Annotated[
    bool, Option("--from-index", help="Take what `xclip index` keeps: decode nothing.", rich_help_panel=_INDEX)
]
IndexFolder = Annotated[
    Path | None, Option("--index", help="The index's folder.", show_default="the user's own", rich_help_panel=_INDEX)
]
BatchSize = Annotated[int, Option(help="Videos per model call on an accelerator.", rich_help_panel=_RUN)]
Workers = Annotated[int, Option(help="Decoding processes.", rich_help_panel=_RUN)]
Reader = Annotated[
    str, Option(help="auto, opencv, pyav or decord.", rich_help_panel=_RUN, autocompletion=completions.readers)
]
DecodeTimeout = Annotated[float, Option(help="Seconds after which a video is given up.", rich_help_panel=_RUN)]
Shard = Annotated[
    str | None,
    Option(
        help="Tag this part of the videos alone, e.g. 3/16; `xclip merge` joins the outputs.",
        metavar="NUMBER/COUNT",
        rich_help_panel=_RUN,
    ),
]
Engine = Annotated[EngineName, Option(help="This machine, or a Ray cluster.", rich_help_panel=_RUN)]
Address = Annotated[
    str | None,
    Option(
        help="The Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local for one of this machine's own.",
        show_default="auto",
        rich_help_panel=_RUN,
    ),
]
Strict = Annotated[bool, Option("--strict", help="Stop at the first video that fails.", rich_help_panel=_RUN)]
Output = Annotated[
    str | None,
    Option(
        "--output", "-o", help="Write to this file (srt, vtt: or folder); - is standard output.", rich_help_panel=_OUT
    ),
]
OutputFormat = Annotated[
    Format | None,
    Option("--format", "-f", help=_FORMAT_HELP, rich_help_panel=_OUT),
]
Overwrite = Annotated[bool, Option("--overwrite", help="Start over and replace the output.", rich_help_panel=_OUT)]
Report = Annotated[
    Path | None, Option(help="Write a page of pictures, tags and timelines: report.html.", rich_help_panel=_OUT)
]
Annotate = Annotated[Path | None, Option(help="Write the video with its tags burnt in: an .mp4.", rich_help_panel=_OUT)]
WriteSidecars = Annotated[
    bool, Option("--write-sidecars", help="Add tags to clip.mp4.xmp beside each video.", rich_help_panel=_OUT)
]
RemoveTags = Annotated[
    bool, Option("--remove-tags", help="Take out what --write-sidecars added; tag nothing.", rich_help_panel=_OUT)
]
DryRun = Annotated[
    bool, Option("--dry-run", help="Say what --write-sidecars or --remove-tags would do.", rich_help_panel=_OUT)
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Errors only.", rich_help_panel=_OUT)]
Verbose = Annotated[
    bool,
    Option("--verbose", "-v", help="Also say what runs, what is skipped and how long it took.", rich_help_panel=_OUT),
]

# Of xclip index and xclip search.
IndexPaths = Annotated[list[str] | None, Argument(metavar="PATH", help="As in xclip tag.", show_default=False)]
IndexWindow = Annotated[
    str,
    Option("--window", help="Seconds of each window that is kept, or auto.", metavar="SECONDS",
           autocompletion=completions.windows, rich_help_panel=_TIME),
]  # fmt: skip
Status = Annotated[bool, Option("--status", help="Say what the index holds.", rich_help_panel=_INDEX)]
Prune = Annotated[
    bool, Option("--prune", help="Take out videos whose files are gone, once you confirm it.", rich_help_panel=_INDEX)
]
Yes = Annotated[bool, Option("--yes", help="With --prune: do not ask.", rich_help_panel=_INDEX)]
Question = Annotated[str | None, Argument(metavar="SENTENCE", help="What to look for.", show_default=False)]
Like = Annotated[str | None, Option(help="Look for what is like a video, or a moment of it: clip.mp4@12.5.")]
In = Annotated[Path | None, Option("--in", help="Look in this folder, or this video, only.")]
Since = Annotated[str | None, Option(help="Look in files changed no longer ago than this: 30m, 2h, 7d.")]
NumMoments = Annotated[int, Option("--top-k", "-k", min=1, help="How many moments.")]
MomentsOutput = Annotated[str | None, Option("--output", "-o", help="Write to this file.", rich_help_panel=_OUT)]
MomentsFormat = Annotated[
    MomentFormat | None,
    Option("--format", "-f", help=_FORMAT_HELP, rich_help_panel=_OUT),
]
CutMoments = Annotated[
    Path | None, Option("--cut", help="Write each moment to a small video in this folder.", rich_help_panel=_OUT)
]
OverwriteFiles = Annotated[bool, Option("--overwrite", help="Replace files that exist.", rich_help_panel=_OUT)]

MergedOutput = Annotated[
    Path, Option("--output", "-o", help="The file to write, of the same format.", show_default=False)
]
LabelFileOutput = Annotated[Path, Option("--output", "-o", help="A label file, labels.yaml, with what was fitted.")]

# Of xclip benchmark alone.
MODELS = ",".join(SpeedSettings.models)
Models = Annotated[str, Option(help="Names as in xclip tag, separated by commas. Not on disk: random weights.")]
Against = Annotated[str, Option(help="Rivals: usual, all, none, or names separated by commas.")]
TorchThreads = Annotated[int | None, Option(help="Torch's threads.", show_default="as many as torch takes")]
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
Data = Annotated[
    str, Argument(metavar="DATA", help="A folder with one per class, a CSV (video,label), a Kinetics list.")
]
RunFolder = Annotated[Path | None, Option("--output", "-o", help="A new folder for the model and the report.")]
Check = Annotated[bool, Option("--check", help="Read every clip, say what is wrong, and stop.")]
Val = Annotated[str, Option(help="Clips to validate on, or a share of each class.", rich_help_panel=_CLIPS)]
Others = Annotated[str | None, Option(help="Clips of other labels, to see what is lost.", rich_help_panel=_CLIPS)]
ClassList = Annotated[str | None, Option(help="The names of a Kinetics list's ids.", rich_help_panel=_CLIPS)]
GroupRegex = Annotated[str | None, Option(help="Keep clips whose paths match alike together.", rich_help_panel=_CLIPS)]
Shots = Annotated[str, Option(help="Clips of each class to learn from, or all.", rich_help_panel=_CLIPS)]
StartModel = Annotated[
    str, Option("--model", "-m", help="As in xclip tag.", rich_help_panel=_LEARNS, autocompletion=completions.models)
]
Regime = Annotated[
    str,
    Option(
        help="linear, few-shot, full or zero-shot; auto: linear, or few-shot where an option asks for training.",
        rich_help_panel=_LEARNS,
    ),
]
Keep = Annotated[
    str, Option(help="Share of the original in the result; auto: by the validated clips.", rich_help_panel=_LEARNS)
]
Ablate = Annotated[
    bool, Option("--ablate", help="Train without parts of the network, one by one; a table.", rich_help_panel=_LEARNS)
]
Epochs = Annotated[int | None, Option(help="Passes over the clips.", rich_help_panel=_TRAINING)]
TrainBatchSize = Annotated[int | None, Option(help="Clips a step, in each process.", rich_help_panel=_TRAINING)]
Accumulate = Annotated[int, Option(help="Parts that a batch is cut into.", rich_help_panel=_TRAINING)]
Rate = Annotated[
    float | None, Option("--lr", help="Rate; new modules learn 10 times as fast.", rich_help_panel=_TRAINING)
]
Patience = Annotated[
    int | None, Option(help="Stop so many epochs after the best, and take that one.", rich_help_panel=_TRAINING)
]
Seed = Annotated[int, Option(help="Of splits, shots and training.", rich_help_panel=_TRAINING)]
Resume = Annotated[bool, Option("--resume", help="Go on with a run that was stopped.", rich_help_panel=_RUN)]
Checkpointing = Annotated[bool, Option("--checkpointing", help="Less memory, a third more time.", rich_help_panel=_RUN)]
TrainDevice = Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_RUN)]
TrainDtype = Annotated[str, Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=_RUN)]


def seconds(text: str | None) -> float | str | None:
    """A number of seconds; what is none is left to the settings' check."""
    try:
        return text and float(text)
    except ValueError:
        return text


def read_paths(paths: list[str]) -> tuple[list[str], list[str]]:
    """The paths without `-`, and the names that stand on standard input for it: one a line, or separated by NUL bytes.

    The former may be patterns, the latter are names as they are.
    """
    named = [path for path in paths if path != "-"]
    if len(named) == len(paths):
        return named, []
    data = sys.stdin.buffer.read(_HEAD_BYTES)
    if looks_binary(data):
        raise UsageError(
            "standard input is a video or other binary data: - takes a list of names, one a line",
            "save it to a file and name that, or list names: ls *.mp4 | xclip tag -",
        )
    data += sys.stdin.buffer.read()
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    return named, [os.fsdecode(name) for name in names if name]


def check_index(from_index: bool, folder: Path | None, engine: EngineName) -> None:
    """Raises UsageError for an index that is not used, and for an engine where nothing is decoded."""
    if folder is not None and not from_index:
        raise UsageError("--index is used with --from-index", "add --from-index, or leave it out")
    if from_index and engine is not EngineName.local:
        raise UsageError(f"--engine {engine.value} decodes videos, and --from-index does not", "leave one of them out")


def cluster_address(name: EngineName, address: str | None) -> str | None:
    """Of the Ray cluster that does the work; None: this machine.

    Raises UsageError, and MissingExtraError without Ray.
    """
    if name is EngineName.ray:
        from xclip_cli.runs import ray

        ray.check_installed()
        return address or "auto"
    if address is not None:
        raise UsageError(f"--address is {address!r}: it is the address of a Ray cluster", "add --engine ray")
    return None


def listed(text: str) -> tuple[str, ...]:
    """The names in a text that separates them by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
