"""What an accuracy run leaves behind: predictions, tables, pictures and a page that says how they were made."""

import json
from collections.abc import Sequence
from pathlib import Path

from xclip_cli import outputs
from xclip_cli.benchmark.accuracy import PREDICTIONS, Evaluation, Scores, Variant
from xclip_cli.dataset.metrics import class_accuracies
from xclip_cli.errors import OutputError
from xclip_cli.files import printable, write_text
from xclip_cli.outputs.csv import table as table_csv
from xclip_cli.outputs.markdown import Code, escaped, percent, table
from xclip_cli.outputs.plots import draw_confusion, draw_reliability


def rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """The table: of each variant a row, by the heads of its columns."""
    return [
        _row(evaluation, variant, scores)
        for variant, scores in zip(evaluation.variants, evaluation.scores, strict=True)
    ]


def _row(evaluation: Evaluation, variant: Variant, scores: Scores) -> dict[str, str]:
    protocol, whole = evaluation.task.protocol, variant.what in ("as it is", "the backbone before it was tuned")
    published = protocol and whole and protocol.published(variant.model)
    low, high = scores.top1_interval
    return {
        "model": variant.model,
        "temporal": variant.temporal,
        "prompting": variant.prompting,
        "what": variant.what,
        "clips": str(scores.clips),
        "errors": str(scores.errors),
        "top-1 %": percent(scores.top1),
        "95 %": f"{percent(low)}-{percent(high)}",
        "top-5 %": percent(scores.top5),
        "mean class %": percent(scores.mean_class),
        "calibration error %": percent(scores.calibration_error),
        "published %": f"{published} ({protocol.views})" if published else "-",
    }


def write(evaluation: Evaluation, folder: Path, command: str) -> None:
    """All files of a run. Raises OutputError; what is in the journal is kept."""
    first, names = evaluation.scores[0], [label.name for label in evaluation.task.label_set.labels]
    outputs.write(folder / PREDICTIONS, "csv", (result for results in evaluation.results for result in results))
    about = {name: printable(value) for name, value in {"command": command, **evaluation.facts}.items()}
    about["warnings"] = list(map(printable, evaluation.warnings))
    confused = [
        ("is / taken for", *names),
        *((name, *row) for name, row in zip(names, first.confusion.tolist(), strict=True)),
    ]
    try:
        document = json.dumps({"about": about, "rows": rows(evaluation)}, indent=1, ensure_ascii=False)
        write_text(folder / "accuracy.json", document + "\n")
        write_text(folder / "accuracy.csv", table_csv(_lines(rows(evaluation))))
        write_text(folder / "classes.csv", table_csv(_classes(evaluation)))
        write_text(folder / "confusion.csv", table_csv(confused))
        draw_confusion(first.confusion, names, folder / "confusion.png")
        draw_reliability(first.bins, first.calibration_error, folder / "reliability.png")
        write_text(folder / "report.md", _markdown(evaluation, command))
    except OSError as error:
        raise OutputError(
            f"cannot write into {str(folder)!r}: {error.strerror}", "free space and run the same command again"
        ) from error


def _lines(rows: Sequence[dict[str, str]]) -> list[tuple[str, ...]]:
    return [tuple(rows[0]), *(tuple(row.values()) for row in rows)]


def _classes(evaluation: Evaluation) -> list[tuple]:
    """A head, then a line for each class that has clips."""
    names = [label.name for label in evaluation.task.label_set.labels]
    shares = [class_accuracies(scores.confusion) for scores in evaluation.scores]
    counts = evaluation.scores[0].confusion.sum(axis=1)
    heads = ("class", "clips", *(f"{variant.name}, top-1 %" for variant in evaluation.variants))
    return [
        heads,
        *((name, int(counts[i]), *(percent(s[i]) for s in shares)) for i, name in enumerate(names) if counts[i]),
    ]


def _markdown(evaluation: Evaluation, command: str) -> str:
    facts = {"command": Code(command), **evaluation.facts}
    (heads, *lines), (class_heads, *classes) = _lines(rows(evaluation)), _classes(evaluation)
    parts = ["# Accuracy", table(("", ""), facts.items()), table(heads, lines)]
    if evaluation.warnings:
        parts.append("\n".join("- " + escaped(warning) for warning in evaluation.warnings))
    failed = [result for result in evaluation.results[0] if result.error is not None]
    if failed:
        texts = ("- " + escaped(f"{result.video}: {result.error}") for result in failed)
        parts += ["## Clips that were not measured", "\n".join(texts)]
    parts += ["## Classes", table(class_heads, classes)]
    return "\n\n".join(parts) + "\n"
