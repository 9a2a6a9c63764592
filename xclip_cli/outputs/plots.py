"""Pictures of reports, as PNG files: no window is opened, and matplotlib is loaded when the first one is drawn."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xclip_cli.files import replacing

_DPI = 120
_MOST_CHARACTERS, _MOST_LINES = 48, 40
_NUMBERED = "no font here has the letters of these labels; a number is a label's position in its list"


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
    _save(figure, path)


def draw_confusion(counts: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Counts (N, N), rows what the clips are, columns what they were taken for; shades are shares of the row."""
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    texts, numbered, style = _drawable(names)
    ticks = [f"#{i + 1}" if i in numbered else text for i, text in enumerate(texts)]
    side = min(max(4.0, 2 + 0.35 * len(names)), 40.0) + max(0.0, max(map(_inches, ticks)) - 1.5)
    figure, axes = _figure(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="taken for", ylabel="is")
    axes.set_xticks(range(len(names)), ticks, rotation=90, **style)
    axes.set_yticks(range(len(names)), ticks, **style)
    if numbered:
        _add_legend(figure, [f"#{i + 1}  {texts[i]}" for i in numbered])
    if len(names) <= 30:
        for i, j in np.argwhere(counts):
            shade = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, int(counts[i, j]), ha="center", va="center", fontsize=8, color=shade)
    _save(figure, path)


def draw_reliability(bins: Sequence, error: float, path: Path) -> None:
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
    _save(figure, path)


def draw_throughput(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Clips a second against multiply-adds (the paper's figure 1): a mark for each of ``rows``.

    A row has ``name``, ``gigamacs``, ``throughput``, ``ours`` and ``accuracy`` (published, percent, or None): the
    better a network, the larger its mark; a hollow one has no published accuracy.
    """
    from matplotlib.ticker import LogLocator

    figure, axes = _figure(9, 6)
    named: list[tuple[float, float]] = []
    rows = sorted(rows, key=lambda row: -row["throughput"])
    [title, *texts], _, style = _drawable([title, *(row["name"] for row in rows)])
    for row, text in zip(rows, texts, strict=True):
        known, colour = row["accuracy"] is not None, "tab:red" if row["ours"] else "tab:blue"
        size = 40 + 12 * max(0.0, row["accuracy"] - 60) if known else 40
        face = colour if known else "none"
        x, y = row["gigamacs"], row["throughput"]
        axes.scatter(x, y, s=size, facecolors=face, edgecolors=colour, alpha=0.7)
        text = f"{text} {row['accuracy']:.1f}" if known else text
        near = sum(abs(math.log(x / other_x)) < 0.7 and abs(math.log(y / other_y)) < 0.15 for other_x, other_y in named)
        offset = 4 + 0.5 * size**0.5, 4 - 11 * near
        axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", fontsize=8, **style)
        named.append((x, y))
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds of one clip, G", ylabel="clips per second")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    axes.set_title(title, **style)
    axes.margins(x=0.3, y=0.1)
    axes.grid(alpha=0.3, which="both")
    marks = {"this package": "tab:red", "others": "tab:blue"}
    handles = [axes.scatter([], [], color=colour, alpha=0.7, label=name) for name, colour in marks.items()]
    handles.append(axes.scatter([], [], facecolors="none", edgecolors="grey", label="no published K400 accuracy"))
    axes.legend(handles=handles, title="number and size: published K400 top-1", loc="best", fontsize=8)
    _save(figure, path)


def draw_caption(lines: Sequence[tuple[str, str]], width: int, height: int) -> tuple[int, int, np.ndarray]:
    """Labels and their scores in a dark box in the lower left corner of a picture of so many pixels.

    Gives the box's left and top and its pixels, uint8 (h, w, 4) RGBA, alpha not multiplied in. Long lines become small.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    figure = Figure((width / _DPI, height / _DPI), dpi=_DPI, facecolor="none")
    canvas = FigureCanvasAgg(figure)
    names, _, style = _drawable([label for label, _ in lines])
    style |= {"color": "white", "transform": None}
    labels = [figure.text(0, 0, name, **style) for name in names]
    scores = [figure.text(0, 0, score, ha="right", **style) for _, score in lines]

    def widest(texts: Sequence, size: float) -> float:
        for text in texts:
            text.set_fontsize(size * 72 / _DPI)
        return max(text.get_window_extent(canvas.get_renderer()).width for text in texts)

    size = max(10.0, 0.035 * min(width, 1.2 * height))  # of the letters, in pixels, as all below
    needed = widest(labels, size) + widest(scores, size) + 4 * size, 1.5 * size * (len(lines) + 2)
    size *= min(1.0, 0.95 * width / needed[0], 0.95 * height / needed[1])
    margin, pitch = 0.8 * size, 1.5 * size
    across, up = widest(labels, size) + widest(scores, size) + 3 * margin, pitch * len(lines) + 1.4 * margin
    for index, (label, score) in enumerate(zip(reversed(labels), reversed(scores), strict=True)):
        y = 2 * margin + 0.2 * size + index * pitch
        label.set(x=2 * margin, y=y)
        score.set(x=across, y=y)
    shape = f"round,pad=0,rounding_size={0.4 * size}"
    box = FancyBboxPatch((margin, margin), across, up, boxstyle=shape, transform=None)
    box.set(facecolor=(0.09, 0.09, 0.08, 0.72), edgecolor="none")
    figure.add_artist(box)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    rows, columns = (np.flatnonzero(pixels[..., 3].any(axis=axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, pixels[top : rows[-1] + 1, left : columns[-1] + 1].copy()


def _figure(width: float, height: float, nrows: int = 1, height_ratios: Sequence[float] | None = None, **shared):
    """A figure of its own, no window and no global state."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(nrows, height_ratios=height_ratios, **shared)


def _save(figure, path: Path) -> None:
    with replacing(path) as draft:
        figure.savefig(draft, dpi=_DPI, format="png")


def _add_legend(figure, lines: Sequence[str]) -> None:
    """Below the picture, the first lines."""
    from matplotlib.lines import Line2D

    shown = [*lines[:_MOST_LINES], *([f"... and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else [])]
    handles = [Line2D([], [], linestyle="", label=line) for line in shown]
    box = figure.legend(handles=handles, title=_NUMBERED, loc="outside lower left", handlelength=0, fontsize=8)
    for text in box.get_texts():
        text.set_parse_math(False)


def _drawable(names: Sequence[str]) -> tuple[list[str], list[int], dict[str, Any]]:
    """Names as they can be drawn, the indices of those whose letters no font has (they are in ASCII), and their style.

    A dollar is a dollar. Letters that the usual font lacks come from another one of this machine, if it has them.
    """
    short = [_short(" ".join(name.split())) for name in names]
    families, absent = _families({ord(c) for name in short for c in name})
    lost = [i for i, name in enumerate(short) if absent & set(map(ord, name))]
    texts = [_short(ascii(name)[1:-1]) if i in lost else name for i, name in enumerate(short)]
    return texts, lost, {"parse_math": False, "fontfamily": families}


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def _inches(text: str) -> float:
    """About how wide a tick's label is: ten points for a character of East Asia, six for others."""
    return sum(10 if ord(c) >= 0x2E80 else 6 for c in text) / 72


def _families(characters: set[int]) -> tuple[list[str], set[int]]:
    """The usual font and as few others as have what it lacks, and the characters that no font of this machine has."""
    from matplotlib import font_manager, rcParams

    families = list(rcParams["font.family"])
    absent = characters - _characters(font_manager.findfont(font_manager.FontProperties()))
    if not absent:
        return families, absent
    regular = (font for font in font_manager.fontManager.ttflist if (font.style, font.weight) == ("normal", 400))
    files = {font.name: font.fname for font in regular if not font.name.startswith("Last Resort")}
    offers = {name: _characters(file) & absent for name, file in sorted(files.items())}
    while absent and any(offers.values()):
        best = max(offers, key=lambda name: len(offers[name]))
        families.append(best)
        absent = absent - offers[best]
        offers = {name: found & absent for name, found in offers.items()}
    return families, absent


def _characters(file: str) -> set[int]:
    """What a font can draw; nothing for one that cannot be scaled, as those of coloured emoji."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(file)
        font.set_size(10, _DPI)
        characters = set(font.get_charmap())
        font.load_char(min(characters))
    except (OSError, RuntimeError, ValueError):
        return set()
    return characters
