"""Pictures are drawn whatever the labels are: no label is a formula, none loses its letters without a word."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from xclip_cli.outputs.plots import draw_confusion, draw_throughput

ODD = [
    "from $}$ to",
    "a \\frac{1}{2}",
    "$x^2$",
    "跑步",
    "\U0001f415 dog",
    "अ",
    "line\nbreak\ttab",
    "x" * 1000,
    "跑" * 99,
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are made, to look at what stands on them."""
    figures, save = [], Figure.savefig

    def keep(figure, *where, **more):
        figures.append((figure, figure.axes[0]))
        save(figure, *where, **more)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("names", [ODD, *([name, "b"] for name in ODD)], ids=lambda names: ascii(names[0])[:20])
def test_any_label_is_drawn(tmp_path, names):
    draw_confusion(np.eye(len(names), dtype=int), names, tmp_path / "a.png")
    assert is_png(tmp_path / "a.png")


@pytest.mark.parametrize("name", ODD)
def test_any_model_is_drawn(tmp_path, name):
    rows = [{"name": name, "gigamacs": 1.0, "throughput": 2.0, "ours": True, "accuracy": None}]
    draw_throughput([*rows, {**rows[0], "accuracy": 80.0}], name, tmp_path / "a.png")
    assert is_png(tmp_path / "a.png")


def test_a_dollar_stands_as_it_is(tmp_path, drawn):
    draw_confusion(np.eye(2, dtype=int), ["$x$", "from $}$ to"], tmp_path / "a.png")
    [(figure, axes)] = drawn
    assert [label.get_text() for label in axes.get_xticklabels()] == ["$x$", "from $}$ to"]
    assert not any(label.get_parse_math() for label in (*axes.get_xticklabels(), *axes.get_yticklabels()))
    assert not figure.legends


def test_letters_that_no_font_has_become_numbers_with_a_legend(tmp_path, drawn):
    names = ["run", "\ue999 \ue998", "walk", "\ue997$"]  # private use: no font but the last resort has them
    draw_confusion(np.eye(4, dtype=int), names, tmp_path / "a.png")
    [(figure, axes)] = drawn
    assert [label.get_text() for label in axes.get_yticklabels()] == ["run", "#2", "walk", "#4"]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [r"#2  \ue999 \ue998", r"#4  \ue997$"]


def test_many_such_labels_leave_room_for_the_picture(tmp_path, drawn):
    draw_confusion(np.eye(100, dtype=int), [f"\ue999 {i}" for i in range(100)], tmp_path / "a.png")
    [(figure, _)] = drawn
    assert figure.legends[0].get_texts()[-1].get_text() == "... and 60 more"


def test_letters_that_another_font_has_are_drawn_with_it(tmp_path, drawn):
    draw_confusion(np.eye(2, dtype=int), ["\u1d81", "run"], tmp_path / "a.png")  # in STIX, which matplotlib brings
    [(figure, axes)] = drawn
    label = axes.get_xticklabels()[0]
    assert label.get_text() == "\u1d81" and "STIXGeneral" in label.get_fontfamily() and not figure.legends
