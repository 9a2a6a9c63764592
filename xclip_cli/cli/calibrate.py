"""`xclip calibrate`: scores that mean what they say, and thresholds, from a few labelled clips."""

from pathlib import Path

import typer

from xclip_cli.cli import console, options
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.files import check_destination, write_text
from xclip_cli.settings import TagSettings


def calibrate(
    data: options.Data,
    output: options.LabelFileOutput,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    labelset: options.Labelset = None,
    class_list: options.ClassList = None,
    background: options.Background = None,
    model: options.Model = TagSettings.model,
    device: options.Device = TagSettings.device,
    dtype: options.Dtype = TagSettings.dtype,
    workers: options.Workers = TagSettings.workers,
    reader: options.Reader = TagSettings.reader,
    decode_timeout: options.DecodeTimeout = TagSettings.decode_timeout_seconds,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Fit scores and thresholds of labels to labelled clips; `xclip tag --labels-file FILE` then uses them.

    Without labels, those of the clips are taken. Clips called `unknown` show none of the labels.
    """
    if output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"the output {str(output)!r} is no YAML file", "call it labels.yaml")
    check_destination(output)
    if output.exists() and not overwrite:
        raise UsageError(f"the output {str(output)!r} is there already", "choose another -o, or add --overwrite")
    from xclip_cli import labels as label_sets
    from xclip_cli.benchmark import calibrate as fitting  # here, so that every other command starts without it
    from xclip_cli.cli import progress
    from xclip_cli.dataset import label_names, read_samples
    from xclip_cli.labels import typed
    from xclip_cli.outputs.plots import draw_reliability
    from xclip_cli.results import UNKNOWN
    from xclip_cli.tagger.encoder import Encoder
    from xclip_cli.tagger.tagger import Tagger

    with progress.spinner("loading the model"):
        encoder = Encoder(
            model, device=device, dtype=dtype, workers=workers, reader=reader, decode_timeout_seconds=decode_timeout
        )
    samples = read_samples(data, class_list)
    names = [name for name in label_names(samples) if name.casefold() != UNKNOWN]
    label_set = typed.requested(labels, labels_file, labelset, True) or label_sets.from_names(names, name=output.stem)
    label_set = typed.with_background(label_set, background)
    for note in label_set.notes:
        console.print_line(note)
    tagger = Tagger(encoder, typed.translate_labels(label_set, encoder.checkpoint.default_labels))
    with progress.bar("reading clips") as update:
        found = fitting.run(samples, tagger, seed, update)
    for sample, reason in found.failed.items():
        console.print_warning(f"not used: {sample.path}: {reason}")
    pictures = {name: output.with_name(f"{output.stem}.{name}.png") for name in ("before", "after")}
    try:
        draw_reliability(found.before.bins, found.before.error, pictures["before"])
        draw_reliability(found.after.bins, found.after.error, pictures["after"])
        write_text(output, label_sets.dump(found.label_set), follow_link=True)  # last: a killed run is not refused
    except OSError as error:
        raise OutputError(
            f"cannot write {str(output)!r}: {error.strerror}", "free space, or choose another -o"
        ) from error
    _show(found, output)
    raise typer.Exit(1 if found.failed else 0)


def _show(found, output: Path) -> None:
    """The two rows on stdout; on stderr what was fitted, and what it did not better."""
    columns = (
        ("what", "clips held out", None),
        ("clips", "clips", 0),
        ("top1", "top-1", 3),
        ("error", "calibration error", 3),
        ("log_loss", "log loss", 3),
        ("precision", "precision at thresholds", 3),
        ("recall", "recall", 3),
    )
    pair = ("before", found.before), ("after", found.after)
    console.print_table(columns, [{"what": name, **vars(reliability)} for name, reliability in pair])
    told = found.label_set.calibration
    console.print_line(f"temperature {told.temperature:g} for {told.model}; a threshold for each label -> {output}")
    if found.after.log_loss >= found.before.log_loss:
        console.print_warning("on clips held out the scores are no better than before: more clips may help")
