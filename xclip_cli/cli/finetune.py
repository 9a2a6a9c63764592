"""`xclip finetune`: labelled clips in, a better model out."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from xclip_cli.errors import UsageError
from xclip_cli.settings import FinetuneSettings

_DATA, _WHAT, _TRAIN, _RUN = "Clips", "What learns", "Training", "Running"
_DEFAULT = FinetuneSettings()


def finetune(
    data: Annotated[
        str, Argument(metavar="DATA", help="A folder with one per class, a CSV (video,label), a Kinetics list.")
    ],
    output: Annotated[Path | None, Option("--output", "-o", help="A new folder for the model and the report.")] = None,
    check: Annotated[bool, Option("--check", help="Read every clip, say what is wrong, and stop.")] = False,
    val: Annotated[
        str, Option(help="Clips to validate on, or a share of each class.", rich_help_panel=_DATA)
    ] = _DEFAULT.val,
    others: Annotated[
        str | None, Option(help="Clips of other labels, to see what is lost.", rich_help_panel=_DATA)
    ] = None,
    class_list: Annotated[str | None, Option(help="The names of a Kinetics list's ids.", rich_help_panel=_DATA)] = None,
    group_regex: Annotated[
        str | None, Option(help="Keep clips whose paths match alike together.", rich_help_panel=_DATA)
    ] = None,
    shots: Annotated[str, Option(help="Clips of each class to learn from, or all.", rich_help_panel=_DATA)] = "all",
    model: Annotated[str, Option("--model", "-m", help="As in xclip tag.", rich_help_panel=_WHAT)] = _DEFAULT.model,
    regime: Annotated[
        str,
        Option(
            help="few-shot, full, zero-shot, vision-only, text-only, prompts-only or linear.",
            rich_help_panel=_WHAT,
        ),
    ] = _DEFAULT.regime,
    keep: Annotated[
        str, Option(help="Share of the original weights in the result, or auto.", rich_help_panel=_WHAT)
    ] = "0",
    lora: Annotated[
        int, Option(help="Learn low-rank changes of this rank; 0: whole weights.", rich_help_panel=_WHAT)
    ] = 0,
    learn_context: Annotated[int, Option(help="Learn so many words before each label.", rich_help_panel=_WHAT)] = 0,
    ablate: Annotated[
        bool, Option("--ablate", help="Train without parts of the network, one by one; a table.", rich_help_panel=_WHAT)
    ] = False,
    epochs: Annotated[int | None, Option(help="Passes over the clips.", rich_help_panel=_TRAIN)] = None,
    batch_size: Annotated[int | None, Option(help="Clips a step, in each process.", rich_help_panel=_TRAIN)] = None,
    accumulate: Annotated[int, Option(help="Parts that a batch is cut into.", rich_help_panel=_TRAIN)] = 1,
    lr: Annotated[
        float | None, Option(help="Rate; new modules learn ten times as fast.", rich_help_panel=_TRAIN)
    ] = None,
    patience: Annotated[
        int | None, Option(help="Stop so many epochs after the best, and take that one.", rich_help_panel=_TRAIN)
    ] = None,
    seed: Annotated[int, Option(help="Of splits, shots and training.", rich_help_panel=_TRAIN)] = 0,
    resume: Annotated[
        bool, Option("--resume", help="Go on with a run that was stopped.", rich_help_panel=_RUN)
    ] = False,
    checkpointing: Annotated[
        bool, Option("--checkpointing", help="Less memory, a third more time.", rich_help_panel=_RUN)
    ] = False,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_RUN)] = "auto",
    dtype: Annotated[str, Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=_RUN)] = "auto",
    workers: Annotated[int, Option(help="Decoding processes.", rich_help_panel=_RUN)] = _DEFAULT.workers,
    reader: Annotated[str, Option(help="opencv or decord.", rich_help_panel=_RUN)] = _DEFAULT.reader,
    decode_timeout: Annotated[
        float, Option(help="Seconds after which a clip is given up.", rich_help_panel=_RUN)
    ] = 60.0,
) -> None:
    """Teach a model your own labels from labelled clips; `xclip tag clip.mp4 --model FOLDER` then uses it."""
    from xclip_cli.cli import training  # here, so that every other command starts without it

    if shots != "all" and not shots.isdecimal():
        raise UsageError(f"--shots is {shots!r}: it must be a number or all")
    few = None if shots == "all" else int(shots)
    settings = FinetuneSettings(
        model, regime, val, others, class_list, group_regex, few, epochs, batch_size, accumulate, lr, patience, seed,
        keep, lora, learn_context, checkpointing, device, dtype, workers, reader, decode_timeout,
    )  # fmt: skip
    if check:
        training.show_check(data, settings)
        return
    if output is None:
        raise UsageError("no output folder was given", "add -o FOLDER, e.g. -o runs/dogs")
    command = shlex.join(["xclip", *sys.argv[1:]])
    if ablate:
        training.show_ablation(data, output, settings, command)
    else:
        training.show_run(data, output, settings, resume, command)
