"""Folders, CSV files and Kinetics lists become samples."""

import pytest

from xclip_cli.errors import UsageError
from xclip_cli.samples import Sample, read_samples


def test_a_folder_has_one_folder_per_class(tmp_path):
    for name in ("b/2.mp4", "a a/1.MOV", "a a/.hidden.mp4", "a a/notes.txt", "top.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert read_samples(tmp_path) == [
        Sample(str(tmp_path / "a a/1.MOV"), "a a"),
        Sample(str(tmp_path / "b/2.mp4"), "b"),
    ]


def test_a_csv_may_give_spans_and_splits(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('video,label,start_seconds,end_seconds,split\n"a, b.mp4",dunk,1.5,2,val\nc.mp4,run,,,\n')
    first, second = read_samples(path)
    assert first == Sample(str(tmp_path / "a, b.mp4"), "dunk", 1.5, 2.0, "val")
    assert second == Sample(str(tmp_path / "c.mp4"), "run")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video,name\na.mp4,x\n", "no column 'label'"),
        ("video,label\na.mp4,\n", "line 2: label is empty"),
        ("video,label,start_seconds\na.mp4,x,soon\n", "line 2: start_seconds is 'soon'"),
        ("video,label,start_seconds,end_seconds\na.mp4,x,3,2\n", "line 2: end_seconds is 2.0"),
        ("video,label,split\na.mp4,x,dev\n", "line 2: split is 'dev'"),
        ("video,label\n", "no column"),
    ],
)
def test_a_wrong_csv_is_named_by_line_and_rule(tmp_path, text, said):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_samples(tmp_path / "list.csv")


@pytest.mark.parametrize("names", ["id,name\n0,dog sledding\n1,archery\n", "dog sledding\narchery\n"])
def test_a_kinetics_list_may_hold_paths_with_spaces(tmp_path, names):
    (tmp_path / "train.txt").write_text("my clips/a b.mp4 0\nc.mp4 1\n")
    (tmp_path / "names.csv").write_text(names)
    found = read_samples(tmp_path / "train.txt", tmp_path / "names.csv")
    assert found == [
        Sample(str(tmp_path / "my clips/a b.mp4"), "dog sledding"),
        Sample(str(tmp_path / "c.mp4"), "archery"),
    ]
    (tmp_path / "train.txt").write_text("c.mp4 7\n")
    with pytest.raises(UsageError, match=r"line 1: 'c\.mp4 7'"):
        read_samples(tmp_path / "train.txt", tmp_path / "names.csv")


@pytest.mark.parametrize(("label", "has"), [("turning left", True), ("LEFT_turn", True), ("leftovers", False)])
def test_a_label_with_a_side_is_known(label, has):
    assert Sample("a.mp4", label).has_side == has
