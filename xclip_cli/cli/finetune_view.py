"""What a person sees of fine-tuning: how the clips read, one line an epoch, and what was gained."""

import os
import signal
import statistics
from pathlib import Path

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.cli import console, progress
from xclip_cli.dataset.sources import Findings, leaks
from xclip_cli.files import one_line
from xclip_cli.finetune.clipsets import Splits
from xclip_cli.finetune.job import check
from xclip_cli.finetune.loop import Epoch
from xclip_cli.finetune.report import Report
from xclip_cli.finetune.run import ABLATION_HEADS, Ready, ablate, run
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.outputs.markdown import percent

_FEW, _READING = 5, "reading clips"


def open_model(name: str) -> Checkpoint:
    """The model, found; says what may be wrong about it, of several processes the first."""
    checkpoint = open_checkpoint(name)
    if _is_first():
        for line in checkpoint.warnings:
            console.print_warning(line)
    return checkpoint


def show_check(data: str, settings: FinetuneSettings) -> None:
    """Prints classes on stdout, and what is wrong on stderr."""
    checkpoint = open_model(settings.model)
    with progress.bar(_READING) as on_progress:
        splits, findings = check(data, settings, checkpoint, on_progress)
    rows = []
    for name in splits.names:
        learn, val = ([s for s in part if s.label == name] for part in (splits.train, splits.val))
        seconds = [findings.seconds[s] for s in (*learn, *val) if s in findings.seconds]
        span = f"{min(seconds):.1f}-{statistics.median(seconds):.1f}-{max(seconds):.1f}" if seconds else "-"
        rows.append((name, str(len(learn)), str(len(val)), span, one_line((learn or val)[0].path)))
    console.print_rows(("class", "to learn", "to validate", "seconds (least-median-most)", "for example"), rows)
    if splits.folds:
        console.err().print(f"no clips to validate on are given: those to learn from are {_in_turn(splits)}")
    _count_test(splits)
    _warn(splits, findings, most=None)
    splits.without(findings.unreadable)


def show_run(data: str, output: Path, settings: FinetuneSettings, resume: bool, command: str) -> None:
    """Fine-tunes, with one line an epoch on stderr and the gain on stdout."""
    checkpoint, first, asked = open_model(settings.model), _is_first(), []
    with progress.bar(_READING, hidden=not first) as on_progress:
        for event in run(data, output, settings, checkpoint, on_progress, lambda: bool(asked), command, resume):
            if isinstance(event, Ready) and event.stops_after_step:
                _listen(asked)
            if isinstance(event, Report):
                _show_report(event, output)
            elif first:
                _SHOWN[type(event)](event)


def show_ablation(data: str, output: Path, settings: FinetuneSettings, command: str) -> None:
    """Says each row as soon as its network is trained, then prints the table on stdout; the first process alone."""
    checkpoint, first, rows = open_model(settings.model), _is_first(), []
    with progress.bar(_READING, hidden=not first) as on_progress:
        for row in ablate(data, output, settings, checkpoint, on_progress, command):
            if first:
                console.err().print(f"{row[0]}: {row[2]} % (untrained {row[1]})", markup=False, highlight=False)
            rows.append(row)
    if first:
        console.print_rows(ABLATION_HEADS, rows)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _listen(asked: list) -> None:
    """From now on the first Ctrl-C asks for a stop after the step; the second stops at once."""

    def ask(*_):
        asked.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)


def _show_ready(ready: Ready) -> None:
    splits = ready.splits
    _warn(splits, ready.findings, most=_FEW)
    _count_test(splits)
    validated = _in_turn(splits) if splits.folds else f"{len(splits.val)} to validate"
    console.err().print(
        f"{len(splits.train)} clips of {len(splits.names)} classes to learn from, {validated}; "
        f"{ready.trained_parameters / 1e6:.1f} M parameters learn; memory about {ready.memory_bytes / 2**30:.1f} GiB"
    )


def _in_turn(splits: Splits) -> str:
    return f"validated in turn in {max(splits.folds) + 1} parts"


def _count_test(splits: Splits) -> None:
    if splits.test:
        console.err().print(f"{len(splits.test)} clips are marked test: neither learned from nor validated on")


def _show_epoch(epoch: Epoch) -> None:
    right = "" if epoch.accuracy is None else f"  val {percent(epoch.accuracy)} %"
    minutes, seconds = divmod(round(epoch.remaining_seconds), 60)
    position, ahead = f"epoch {epoch.epoch}/{epoch.epochs}", f"rate {epoch.rate:.1e}  ETA {minutes}:{seconds:02}"
    console.err().print(f"{position}  loss {epoch.loss:.4f}{right}  {ahead}")


def _show_report(report: Report, output: Path) -> None:
    rows = [(what, percent(a), percent(b)) for what, (a, b) in report.accuracies().items() if b is not None]
    if rows:
        console.print_rows(("accuracy, %", "before", "after"), rows)
    console.err().print(f"{report.verdict} {output}: model.safetensors, report.md and more", markup=False)


_SHOWN = {Ready: _show_ready, Epoch: _show_epoch}


def _warn(splits: Splits, findings: Findings, most: int | None) -> None:
    """Warnings about clips, of each kind the first few."""
    alone = [name for name in splits.names if sum(s.label == name for s in (*splits.train, *splits.val)) == 1]
    leaking = [
        f"leak: {a.path} is learned from and {b.path} is validated on: {why}"
        for a, b, why in leaks(splits.train, splits.val, findings)
    ]
    if most and len(leaking) > 1:
        leaking = [f"{leaking[0]} (and {len(leaking) - 1} more; --check lists them all)"]
    duplicates = findings.duplicates(splits.train) + findings.duplicates(splits.val)
    kinds = (
        [f"left out: {sample.path}: {reason}" for sample, reason in findings.unreadable.items()],
        leaking,
        [f"the same file twice: {a.path} and {b.path}" for a, b in duplicates],
        [f"class {name!r} has one clip" for name in alone],
    )
    for lines in kinds:
        for line in lines[:most]:
            console.print_warning(line)
        if most and len(lines) > most:
            console.print_warning(f"... and {len(lines) - most} more; --check lists them all")
