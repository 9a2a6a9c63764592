"""`xclip tag`: videos in, ranked labels out."""

import time
from collections import deque
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import typer

from xclip_cli.cli import console, options
from xclip_cli.settings import TagSettings


def tag(
    paths: options.Paths,
    recursive: options.Recursive = False,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    labelset: options.Labelset = None,
    lang: options.Lang = None,
    top_k: options.TopK = TagSettings.top_k,
    threshold: options.Threshold = None,
    min_margin: options.MinMargin = TagSettings.min_margin,
    background: options.Background = None,
    model: options.Model = TagSettings.model,
    device: options.Device = TagSettings.device,
    dtype: options.Dtype = TagSettings.dtype,
    num_clips: options.NumClips = TagSettings.num_clips,
    num_crops: options.NumCrops = TagSettings.num_crops,
    window: options.Window = None,
    stride: options.Stride = None,
    threshold_low: options.ThresholdLow = None,
    smooth: options.Smooth = TagSettings.smooth,
    min_length: options.MinLength = TagSettings.min_length_seconds,
    max_gap: options.MaxGap = None,
    exclusive: options.Exclusive = False,
    scenes: options.Scenes = False,
    cut: options.Cut = None,
    from_index: options.FromIndex = False,
    index: options.IndexFolder = None,
    batch_size: options.BatchSize = TagSettings.batch_size,
    workers: options.Workers = TagSettings.workers,
    reader: options.Reader = TagSettings.reader,
    decode_timeout: options.DecodeTimeout = TagSettings.decode_timeout_seconds,
    shard: options.Shard = None,
    engine: options.Engine = options.EngineName.local,
    address: options.Address = None,
    strict: options.Strict = False,
    output: options.Output = None,
    format: options.OutputFormat = None,
    overwrite: options.Overwrite = False,
    report: options.Report = None,
    annotate: options.Annotate = None,
    write_sidecars: options.WriteSidecars = False,
    remove_tags: options.RemoveTags = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Tag videos with labels of your own choosing.

    A terminal gets a table, a pipe gets CSV. With -o FILE the run is resumable: run the same command again to go on.
    """
    from xclip_cli.cli import progress

    with progress.spinner("starting", quiet):  # here, so that every other command starts without it
        from xclip_cli.checkpoint.load import open_checkpoint
        from xclip_cli.cli import tag_files
        from xclip_cli.cli import tag_view as view
        from xclip_cli.labels import typed
        from xclip_cli.outputs.journal import Journal, MemoryJournal
        from xclip_cli.runs import batch, ray, shards

    started = time.perf_counter()
    settings = TagSettings(
        model=model, top_k=top_k, threshold=threshold, num_clips=num_clips, num_crops=num_crops, device=device,
        dtype=dtype, batch_size=batch_size, workers=workers, reader=reader, decode_timeout_seconds=decode_timeout,
        lang=lang, min_margin=min_margin, window_seconds=options.seconds(window), stride_seconds=stride,
        threshold_low=threshold_low, smooth=smooth, min_length_seconds=min_length, max_gap_seconds=max_gap,
        exclusive=exclusive, scenes=scenes,
    )  # fmt: skip
    target = None if output in (None, "-") else Path(output)
    options.check_index(from_index, index, engine)
    cluster = options.cluster_address(engine, address)
    format_name = view.choose_format(format.value if format else None, output, target)
    chosen = view.choose_shard(shard, format_name)
    named, listed = options.read_paths(paths)
    found = batch.find_videos(named, recursive, listed, target, view.print_skipped if verbose and not quiet else None)
    found, part = shards.cut(found, chosen)
    if target:
        batch.check_output(target, found.videos, overwrite, format_name)
    extra = tag_files.ExtraOutputs(report, annotate, write_sidecars, remove_tags, dry_run)
    extra.check(target or cut, found.videos, overwrite)
    if cut is not None:
        view.prepare_cuts(cut, settings)
    view.print_skip_counts(found, quiet)
    if remove_tags:
        raise typer.Exit(1 if extra.remove(found.videos, quiet) else 0)
    with progress.spinner("loading the model", quiet):
        checkpoint = open_checkpoint(model)
    extra.check_labels(bool(labels or labels_file or labelset or checkpoint.default_labels))
    label_set = typed.choose(labels, labels_file, labelset, checkpoint.default_labels)
    label_set = typed.with_background(label_set, background)
    with ExitStack() as stack:
        if from_index:
            tagging = stack.enter_context(view.indexed_tags(index, checkpoint, settings, quiet))
        else:
            tagging = partial(ray.tag, checkpoint=checkpoint, address=cluster) if cluster else None
        job = batch.Batch(found.videos, label_set, settings, tagging, found.unreadable, checkpoint, part)
        view.announce(job, labels or (), quiet, verbose)
        journal = stack.enter_context(Journal(target) if target else MemoryJournal())
        bar = target is not None or not console.stdout_is_terminal()  # results on the terminal are progress enough
        shown = view.watch(job, job.run(journal, fresh=overwrite), bar, strict, quiet, verbose)
        if target:
            deque(shown, maxlen=0)
            for video, reason in job.write(target, format_name, journal).items():
                console.print_named("red", "failed:", f"{video}: {reason}")
        else:
            view.print_results(format_name, batch.in_order(found.videos, shown), len(found.videos))
        lost = extra.write(job, quiet)
        view.summarise(job, target, time.perf_counter() - started, quiet, verbose)
        uncut = view.cut_segments(job, cut, quiet) if cut is not None else 0
    raise typer.Exit(1 if job.failed or uncut or lost else 0)
