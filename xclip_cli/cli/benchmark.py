"""`xclip benchmark`: what models cost, how fast videos decode, how often a model is right."""

import shlex
import sys

import typer

from xclip_cli.benchmark.settings import AccuracySettings, SpeedSettings
from xclip_cli.cli import console, options
from xclip_cli.settings import TagSettings

app = typer.Typer(help="Measure speed, decoding and accuracy, beside what one might use instead.", no_args_is_help=True)


@app.command()
def speed(
    models: options.Models = options.MODELS,
    against: options.Against = SpeedSettings.against,
    device: options.Device = SpeedSettings.device,
    dtype: options.Dtype = SpeedSettings.dtype,
    threads: options.TorchThreads = None,
    rounds: options.Rounds = SpeedSettings.rounds,
    video: options.Video = None,
    reader: options.Reader = SpeedSettings.reader,
    output: options.SpeedOutput = None,
) -> None:
    """Time models and rivals in one loop: size, multiply-adds, latency, throughput, memory, and where the time goes."""
    names = options.listed(models)
    settings = SpeedSettings(
        models=names,
        against=against,
        device=device,
        dtype=dtype,
        threads=threads,
        rounds=rounds,
        video=video,
        reader=reader,
    )
    from xclip_cli.cli import benchmark_view as view  # here, so that every other command starts without it

    view.show_speed(settings, output)


@app.command()
def decode(
    paths: options.Paths,
    recursive: options.Recursive = False,
    threads: options.DecodeThreads = 1,
    timeout: options.DecodeTimeout = 600.0,
) -> None:
    """Frames a second of each installed reader on your own files: 8 frames of each, and all of them."""
    from xclip_cli.cli import benchmark_view as view

    raise typer.Exit(view.show_decoding(paths, recursive, threads, timeout))


@app.command()
def accuracy(
    data: options.Data,
    model: options.Model = TagSettings.model,
    labels_file: options.LabelsFile = None,
    labelset: options.Labelset = None,
    class_list: options.ClassList = None,
    protocol: options.Protocol = None,
    split_file: options.SplitFile = None,
    class_names: options.ClassNames = AccuracySettings.class_names,
    temporal: options.Temporal = "",
    prompting: options.Prompting = "",
    num_clips: options.NumClips = TagSettings.num_clips,
    num_crops: options.NumCrops = TagSettings.num_crops,
    device: options.Device = TagSettings.device,
    dtype: options.Dtype = TagSettings.dtype,
    batch_size: options.BatchSize = TagSettings.batch_size,
    workers: options.Workers = TagSettings.workers,
    reader: options.Reader = TagSettings.reader,
    decode_timeout: options.DecodeTimeout = TagSettings.decode_timeout_seconds,
    output: options.AccuracyOutput = None,
) -> None:
    """Measure a model on labelled clips, beside its own backbone; with -o FOLDER it can be resumed."""
    tag = TagSettings(
        model=model, num_clips=num_clips, num_crops=num_crops, device=device, dtype=dtype, batch_size=batch_size,
        workers=workers, reader=reader, decode_timeout_seconds=decode_timeout,
    )  # fmt: skip
    ways = options.listed(temporal), options.listed(prompting)
    settings = AccuracySettings(
        tag=tag,
        protocol=protocol,
        split_file=split_file,
        class_list=class_list,
        temporal=ways[0],
        prompting=ways[1],
        class_names=class_names,
    )
    from xclip_cli.cli import benchmark_view as view
    from xclip_cli.labels import typed

    label_set = typed.requested(None, labels_file, labelset)
    for note in label_set.notes if label_set else ():
        console.print_line(note)
    command = shlex.join(["xclip", *sys.argv[1:]])
    raise typer.Exit(view.show_accuracy(data, label_set, settings, output, command))
