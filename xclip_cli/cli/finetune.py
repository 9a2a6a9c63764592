"""`xclip finetune`: labelled clips in, a better model out."""

import shlex
import sys

from xclip_cli.cli import options
from xclip_cli.errors import UsageError
from xclip_cli.finetune.settings import FinetuneSettings


def finetune(
    data: options.Data,
    output: options.RunFolder = None,
    check: options.Check = False,
    val: options.Val = FinetuneSettings.val,
    others: options.Others = None,
    class_list: options.ClassList = None,
    group_regex: options.GroupRegex = None,
    shots: options.Shots = "all",
    model: options.StartModel = FinetuneSettings.model,
    regime: options.Regime = FinetuneSettings.regime,
    keep: options.Keep = FinetuneSettings.keep,
    ablate: options.Ablate = False,
    epochs: options.Epochs = None,
    batch_size: options.TrainBatchSize = None,
    accumulate: options.Accumulate = FinetuneSettings.accumulate,
    lr: options.Rate = None,
    patience: options.Patience = None,
    seed: options.Seed = FinetuneSettings.seed,
    resume: options.Resume = False,
    checkpointing: options.Checkpointing = FinetuneSettings.checkpointing,
    device: options.TrainDevice = FinetuneSettings.device,
    dtype: options.TrainDtype = FinetuneSettings.dtype,
    workers: options.Workers = FinetuneSettings.workers,
    reader: options.Reader = FinetuneSettings.reader,
    decode_timeout: options.DecodeTimeout = FinetuneSettings.decode_timeout_seconds,
) -> None:
    """Teach a model your own labels from labelled clips; `xclip tag clip.mp4 --model FOLDER` then uses it."""
    if shots != "all" and not shots.isdecimal():
        raise UsageError(f"--shots is {shots!r}: it must be a number or all")
    few = None if shots == "all" else int(shots)
    settings = FinetuneSettings(
        model=model, regime=regime, val=val, others=others, class_list=class_list, group_regex=group_regex, shots=few,
        epochs=epochs, batch_size=batch_size, accumulate=accumulate, lr=lr, patience=patience, seed=seed, keep=keep,
        checkpointing=checkpointing, device=device, dtype=dtype,
        workers=workers, reader=reader, decode_timeout_seconds=decode_timeout,
    )  # fmt: skip
    if output is None and not check:
        raise UsageError("no output folder was given", "add -o FOLDER, e.g. -o runs/dogs")
    if ablate and resume:
        raise UsageError("--ablate cannot be resumed", "start it anew, without --resume")
    from xclip_cli.cli import finetune_view as view  # here, so that every other command starts without it

    command = shlex.join(["xclip", *(argument for argument in sys.argv[1:] if argument != "--resume")])
    if check:
        view.show_check(data, settings)
    elif ablate:
        view.show_ablation(data, output, settings, command)
    else:
        view.show_run(data, output, settings, resume, command)
