"""What an accuracy run leaves behind: predictions, tables, pictures and a page that says how they were made."""

import json
from collections.abc import Sequence
from pathlib import Path

from xclip_cli import outputs
from xclip_cli.errors import OutputError
from xclip_cli.files import one_line, printable, write_text
from xclip_cli.metrics import class_accuracies
from xclip_cli.outputs.csv import guarded, line
from xclip_cli.outputs.markdown import percent, table
from xclip_cli.plots import draw_confusion, draw_reliability

from .accuracy import PREDICTIONS, Evaluation
from .scores import Scores
from .variants import Variant

HEADS = (
    "model", "temporal", "prompting", "what", "clips", "errors", "top-1 %", "95 %", "top-5 %", "mean class %",
    "calibration error %", "published %",
)  # fmt: skip


def rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """A row of HEADS for each variant."""
    return [
        _row(evaluation, variant, scores)
        for variant, scores in zip(evaluation.variants, evaluation.scores, strict=True)
    ]


def _row(evaluation: Evaluation, variant: Variant, scores: Scores) -> tuple[str, ...]:
    protocol, whole = evaluation.task.protocol, variant.what in ("as it is", "the backbone before it was tuned")
    published = protocol and whole and protocol.published(variant.model)
    low, high = scores.top1_interval
    return (
        variant.model,
        variant.temporal,
        variant.prompting,
        variant.what,
        str(scores.clips),
        str(scores.errors),
        percent(scores.top1),
        f"{percent(low)}-{percent(high)}",
        percent(scores.top5),
        percent(scores.mean_class),
        percent(scores.calibration_error),
        f"{published} ({protocol.views})" if published else "-",
    )


def write(evaluation: Evaluation, folder: Path, command: str) -> None:
    """All files of a run. Raises OutputError; what is in the journal is kept."""
    first, names = evaluation.scores[0], [label.name for label in evaluation.task.label_set.labels]
    outputs.write(folder / PREDICTIONS, "csv", (result for results in evaluation.results for result in results))
    table_rows = rows(evaluation)
    try:
        _write_csv(folder / "accuracy.csv", HEADS, table_rows)
        about = {name: printable(value) for name, value in {"command": command, **evaluation.facts}.items()}
        about["warnings"] = list(map(printable, evaluation.warnings))
        lines = [dict(zip(HEADS, row, strict=True)) for row in table_rows]
        text = json.dumps({"about": about, "rows": lines}, indent=1, ensure_ascii=False)
        write_text(folder / "accuracy.json", text + "\n")
        _write_csv(folder / "classes.csv", *_classes(evaluation, names))
        counts = [(name, *row) for name, row in zip(names, first.confusion.tolist(), strict=True)]
        _write_csv(folder / "confusion.csv", ("is / taken for", *names), counts)
        draw_confusion(first.confusion, names, folder / "confusion.png")
        draw_reliability(first.bins, first.calibration_error, folder / "reliability.png")
        write_text(folder / "report.md", _markdown(evaluation, table_rows, command))
    except OSError as error:
        raise OutputError(
            f"cannot write into {str(folder)!r}: {error.strerror}", "free space and run the same command again"
        ) from error


def _classes(evaluation: Evaluation, names: Sequence[str]) -> tuple[tuple[str, ...], list[tuple]]:
    scores = evaluation.scores
    shares = [class_accuracies(s.confusion) for s in scores]
    counts = scores[0].confusion.sum(axis=1)
    heads = ("class", "clips", *(f"{variant.name}, top-1 %" for variant in evaluation.variants))
    listed = [(name, int(counts[i]), *(percent(s[i]) for s in shares)) for i, name in enumerate(names) if counts[i]]
    return heads, listed


def _markdown(evaluation: Evaluation, table_rows: Sequence[tuple[str, ...]], command: str) -> str:
    facts = {"command": f"`{command}`", **evaluation.facts}
    parts = ["# Accuracy", table(("", ""), facts.items()), table(HEADS, table_rows)]
    if evaluation.warnings:
        parts.append("\n".join(f"- {one_line(warning)}" for warning in evaluation.warnings))
    failed = [result for result in evaluation.results[0] if result.error is not None]
    if failed:
        parts += [
            "## Clips that were not measured",
            "\n".join(f"- {one_line(r.video)}: {one_line(r.error)}" for r in failed),
        ]
    parts += ["## Classes", table(*_classes(evaluation, [label.name for label in evaluation.task.label_set.labels]))]
    return "\n\n".join(parts) + "\n"


def _write_csv(path: Path, heads: Sequence[str], lines: Sequence[Sequence]) -> None:
    rows = ([guarded(cell) if isinstance(cell, str) else cell for cell in row] for row in (heads, *lines))
    write_text(path, "".join(map(line, rows)))
