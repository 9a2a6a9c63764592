"""Labels as a person types them are understood, or what was made of them is said."""

import unicodedata

import pytest

from xclip_cli import labels
from xclip_cli.labels import typed


def test_a_name_in_a_language_that_a_built_in_set_speaks_is_understood():
    given = labels.from_names("灌篮, 跑酷之王,running")
    dunk, unknown, plain = typed.translate_labels(given).labels
    assert dunk.name == "灌篮" and dunk.prompts == labels.builtin("sports").labels[1].prompts
    assert (unknown, plain) == given.labels[1:]
    assert typed.translate_labels(given, tuned_on=["灌篮"]) == given
    assert typed.translate_labels(plain := labels.from_names("a,é")) is plain


def test_all_names_of_built_in_sets_are_understood():
    for name in ("everyday", "sports", "security", "driving"):
        shown = [text for label in labels.builtin(name).labels for text in label.names.values()]
        understood = typed.translate_labels(labels.from_names(shown)).labels
        assert len(shown) > 50 and all(label.prompts != (label.name,) for label in understood)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("running", ["one label, 'running', always scores 1.0"]),
        ("a;b; c", ["'a;b; c' was understood as one label: a comma separates labels: --labels \"a,b,c\"", "one label"]),
        ("a，b,c", []),
        ('"a、b",c', []),
        ("a,nan", ["the label 'nan' is what tables write for a missing value"]),
        ("跑酷之王,b", ["not in Latin letters: '跑酷之王'; models were taught English"]),
        ("灌篮,跑步机之王，走", ["not in Latin letters: '跑步机之王', '走'"]),
        ("a,b", []),
        ("été,b", []),
        ("chạy bộ,b", []),
        (unicodedata.normalize("NFD", "chạy bộ,đá bóng"), []),
        ("ʻokina,b", []),
        ("бег,b", ["not in Latin letters: 'бег'"]),
        ("灌篮,投篮", []),
    ],
)
def test_what_was_probably_not_meant_is_said(text, said):
    lines = typed.typed_warnings([text], typed.translate_labels(labels.from_names(text)))
    assert len(lines) == len(said) and all(part in line for part, line in zip(said, lines, strict=True))


def test_a_file_given_as_a_label_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text("a\nb\n")
    first, _ = typed.typed_warnings(["my.txt"], labels.from_names("my.txt"))
    assert (
        first
        == "--labels 'my.txt' was understood as the label 'my.txt', not as the file: --labels-file my.txt reads it"
    )
    assert typed.typed_warnings(["跑酷之王,b"], labels.from_names("跑酷之王,b"), tuned_on=["跑酷之王", "b"]) == []
