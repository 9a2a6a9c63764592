"""The options of `xclip finetune`, each with its help."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from xclip_cli.cli import completions

_CLIPS, _WHAT, _TRAIN, _RUN = "Clips", "What learns", "Training", "Running"

Data = Annotated[
    str, Argument(metavar="DATA", help="A folder with one per class, a CSV (video,label), a Kinetics list.")
]
Output = Annotated[Path | None, Option("--output", "-o", help="A new folder for the model and the report.")]
Check = Annotated[bool, Option("--check", help="Read every clip, say what is wrong, and stop.")]
Val = Annotated[str, Option(help="Clips to validate on, or a share of each class.", rich_help_panel=_CLIPS)]
Others = Annotated[str | None, Option(help="Clips of other labels, to see what is lost.", rich_help_panel=_CLIPS)]
ClassList = Annotated[str | None, Option(help="The names of a Kinetics list's ids.", rich_help_panel=_CLIPS)]
GroupRegex = Annotated[str | None, Option(help="Keep clips whose paths match alike together.", rich_help_panel=_CLIPS)]
Shots = Annotated[str, Option(help="Clips of each class to learn from, or all.", rich_help_panel=_CLIPS)]
Model = Annotated[
    str, Option("--model", "-m", help="As in xclip tag.", rich_help_panel=_WHAT, autocompletion=completions.models)
]
Regime = Annotated[
    str,
    Option(
        help="few-shot, full, zero-shot, vision-only, text-only, prompts-only or linear.",
        rich_help_panel=_WHAT,
    ),
]
Keep = Annotated[str, Option(help="Share of the original weights in the result, or auto.", rich_help_panel=_WHAT)]
Lora = Annotated[int, Option(help="Learn low-rank changes of this rank; 0: whole weights.", rich_help_panel=_WHAT)]
LearnContext = Annotated[int, Option(help="Learn so many words before each label.", rich_help_panel=_WHAT)]
Ablate = Annotated[
    bool, Option("--ablate", help="Train without parts of the network, one by one; a table.", rich_help_panel=_WHAT)
]
Epochs = Annotated[int | None, Option(help="Passes over the clips.", rich_help_panel=_TRAIN)]
BatchSize = Annotated[int | None, Option(help="Clips a step, in each process.", rich_help_panel=_TRAIN)]
Accumulate = Annotated[int, Option(help="Parts that a batch is cut into.", rich_help_panel=_TRAIN)]
Rate = Annotated[float | None, Option("--lr", help="Rate; new modules learn 10 times as fast.", rich_help_panel=_TRAIN)]
Patience = Annotated[
    int | None, Option(help="Stop so many epochs after the best, and take that one.", rich_help_panel=_TRAIN)
]
Seed = Annotated[int, Option(help="Of splits, shots and training.", rich_help_panel=_TRAIN)]
Resume = Annotated[bool, Option("--resume", help="Go on with a run that was stopped.", rich_help_panel=_RUN)]
Checkpointing = Annotated[bool, Option("--checkpointing", help="Less memory, a third more time.", rich_help_panel=_RUN)]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_RUN)]
Dtype = Annotated[str, Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=_RUN)]
Workers = Annotated[int, Option(help="Decoding processes.", rich_help_panel=_RUN)]
Reader = Annotated[str, Option(help="auto, opencv, pyav or decord.", rich_help_panel=_RUN)]
DecodeTimeout = Annotated[float, Option(help="Seconds after which a clip is given up.", rich_help_panel=_RUN)]
