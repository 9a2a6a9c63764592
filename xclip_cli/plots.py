"""Pictures of reports, as PNG files: no window is opened, and matplotlib is loaded when the first one is drawn."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xclip_cli.metrics import Bin

_DPI = 120


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and accuracy by epoch; ``history`` has ``epoch``, ``loss``, ``accuracy`` and ``val_loss`` of each."""
    figure, left = _figure(7, 4)
    epochs = [entry["epoch"] for entry in history]
    left.plot(epochs, [entry["loss"] for entry in history], color="tab:blue", label="loss, learning")
    left.set(xlabel="epoch", ylabel="loss")
    if history and history[0]["accuracy"] is not None:
        left.plot(epochs, [entry["val_loss"] for entry in history], color="tab:orange", label="loss, validation")
        right = left.twinx()
        right.plot(epochs, [100 * entry["accuracy"] for entry in history], color="tab:green", label="accuracy, %")
        right.set(ylabel="validation accuracy, %", ylim=(0, 102))
    left.xaxis.get_major_locator().set_params(integer=True)
    left.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=_DPI)


def draw_confusion(counts: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Counts (N, N), rows what the clips are, columns what they were taken for; shades are shares of the row."""
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = min(max(4.0, 2 + 0.35 * len(names)), 40.0)
    figure, axes = _figure(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="taken for", ylabel="is")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    if len(names) <= 30:
        for i, j in np.argwhere(counts):
            shade = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, int(counts[i, j]), ha="center", va="center", fontsize=8, color=shade)
    figure.savefig(path, dpi=_DPI)


def draw_reliability(bins: Sequence[Bin], error: float, path: Path) -> None:
    """How often the best label is right (a bar), by the score it had; the diagonal is a score that means what it says.

    ``error`` is the expected calibration error, 0 to 1. The lower part shows how many clips each bar stands for.
    """
    figure, (above, below) = _figure(5, 6, nrows=2, height_ratios=(3, 1), sharex=True)
    width = bins[0].stop - bins[0].start
    centres = [b.start + width / 2 for b in bins]
    above.bar(centres, [b.accuracy for b in bins], width, edgecolor="white", color="tab:blue")
    above.plot([0, 1], [0, 1], color="grey", linestyle="--")
    above.set(ylabel="share that is right", ylim=(0, 1), title=f"expected calibration error {100 * error:.1f} %")
    below.bar(centres, [b.count for b in bins], width, edgecolor="white", color="grey")
    below.set(xlabel="score of the best label", ylabel="clips", xlim=(0, 1))
    figure.savefig(path, dpi=_DPI)


def draw_throughput(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Clips a second against multiply-adds (the paper's figure 1): a mark for each of ``rows``.

    A row has ``name``, ``gigamacs``, ``throughput``, ``ours`` and ``accuracy`` (published, percent, or None): the
    better a network, the larger its mark; a hollow one has no published accuracy.
    """
    figure, axes = _figure(9, 6)
    named: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: -row["throughput"]):
        known, colour = row["accuracy"] is not None, "tab:red" if row["ours"] else "tab:blue"
        size = 40 + 12 * max(0.0, row["accuracy"] - 60) if known else 40
        face = colour if known else "none"
        place = row["gigamacs"], row["throughput"]
        axes.scatter(*place, s=size, facecolors=face, edgecolors=colour, alpha=0.7)
        text = f"{row['name']} {row['accuracy']:.1f}" if known else row["name"]
        near = sum(abs(math.log(x / place[0])) < 0.7 and abs(math.log(y / place[1])) < 0.15 for x, y in named)
        axes.annotate(text, place, xytext=(4 + 0.5 * size**0.5, 4 - 11 * near), textcoords="offset points", fontsize=8)
        named.append(place)
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds of one clip, G", ylabel="clips per second", title=title)
    axes.margins(x=0.3, y=0.1)
    axes.grid(alpha=0.3, which="both")
    marks = {"this package": "tab:red", "others": "tab:blue"}
    handles = [axes.scatter([], [], color=colour, alpha=0.7, label=name) for name, colour in marks.items()]
    handles.append(axes.scatter([], [], facecolors="none", edgecolors="grey", label="no published K400 accuracy"))
    axes.legend(handles=handles, title="number and size: published K400 top-1", loc="best", fontsize=8)
    figure.savefig(path, dpi=_DPI)


def _figure(width: float, height: float, nrows: int = 1, height_ratios: Sequence[float] | None = None, **shared):
    """A figure of its own, no window and no global state."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(nrows, height_ratios=height_ratios, **shared)
