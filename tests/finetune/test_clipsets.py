"""Splits and shots keep their promises."""

import os
import sys

import pytest

from xclip_cli.dataset import Sample, label_names
from xclip_cli.dataset.sources import Findings, number_sources
from xclip_cli.errors import UsageError
from xclip_cli.finetune.clipsets import choose_shots, find_clips, split_samples
from xclip_cli.finetune.settings import FinetuneSettings


def samples(counts):
    return [Sample(f"{label}/{i % 3}_{i}.mp4", label) for label, count in counts.items() for i in range(count)]


def test_every_class_is_split_by_the_share_and_keeps_a_clip_to_learn_from():
    all_samples = samples({"a": 10, "b": 5, "c": 1})
    train, val = split_samples(all_samples, 0.2, seed=3)
    assert sorted([*train, *val], key=str) == sorted(all_samples, key=str)
    assert [sum(s.label == name for s in val) for name in "abc"] == [2, 1, 0]
    assert (train, val) == split_samples(all_samples, 0.2, seed=3)
    assert val != split_samples(all_samples, 0.2, seed=4)[1]


def test_clips_of_one_source_stay_on_one_side():
    all_samples = samples({"a": 12, "b": 12})
    sources = number_sources(all_samples, Findings(), group_regex=r"/(\d)_")
    train, val = split_samples(all_samples, 0.4, seed=0, sources=sources)
    groups = [{s.path.split("/")[1][0] for s in part} for part in (train, val)]
    assert val and not groups[0] & groups[1]


def test_a_class_of_few_sources_has_one_to_validate_on_and_one_of_a_single_source_is_divided():
    all_samples = samples({"a": 9, "b": 8})
    _, val = split_samples(all_samples, 0.2, seed=0, sources=[0] * 6 + [1] * 3 + [2] * 8)
    assert [s for s in val if s.label == "a"] == all_samples[6:9]  # of two sources the smaller
    assert sum(s.label == "b" for s in val) == 2


def test_shots_are_seeded_and_nested():
    few, more = (choose_shots(samples({"a": 9, "b": 3}), shots, seed=1) for shots in (2, 4))
    assert [sum(s.label == name for s in more) for name in "ab"] == [4, 3]
    assert set(few) <= set(more) and label_names(few) == ["a", "b"]


def parts(data, **options):
    """File names to learn from, to validate on and of the test."""
    settings = FinetuneSettings(**options)
    splits = find_clips(str(data), settings).held_out(settings, Findings(), in_turn=False)
    return tuple([os.path.basename(s.path) for s in part] for part in (splits.train, splits.val, splits.test))


ROWS = "video,label,split\na1.mp4,a,train\na2.mp4,a,{}\nb1.mp4,b,Train\nb2.mp4,b,{}\na3.mp4,a,test\nb3.mp4,b,Testing\n"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data.csv").write_text(ROWS.format("valid", "val"))
    return tmp_path / "data.csv"


def test_rows_marked_test_are_neither_learned_from_nor_validated_on(data):
    assert parts(data) == (["a1.mp4", "b1.mp4"], ["a2.mp4", "b2.mp4"], ["a3.mp4", "b3.mp4"])


def test_where_no_row_is_marked_val_a_share_of_those_to_learn_from_is(data):
    data.write_text(ROWS.format("train", "train"))
    train, val, test = parts(data, val="0.5")
    assert sorted(train + val) == ["a1.mp4", "a2.mp4", "b1.mp4", "b2.mp4"] and len(val) == 2
    assert test == ["a3.mp4", "b3.mp4"]


def test_with_other_clips_to_validate_on_only_those_to_learn_from_are_learned(data, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("video,label\nc.mp4,a\nd.mp4,b\n")
    assert parts(data, val=str(other)) == (["a1.mp4", "b1.mp4"], ["c.mp4", "d.mp4"], ["a3.mp4", "b3.mp4"])
    other.write_text("video,label,split\nc.mp4,a,val\nd.mp4,b,train\ne.mp4,a,test\n")
    assert parts(data, val=str(other))[1] == ["c.mp4"]
    assert parts(data, val=str(data)) == parts(data)
    other.write_text("video,label,split\nd.mp4,b,test\n")
    with pytest.raises(UsageError, match=r"other\.csv' marks its clips, and none as val"):
        parts(data, val=str(other))


def test_folders_of_splits_stay_apart(shared):
    train, val, test = parts(shared / "cases/folders/ds")
    assert (sorted(train), val, test) == (
        ["h1.mp4", "h2.mp4", "h3.mp4", "t1.mp4", "t2.mp4", "t3.mp4"],
        ["v.mp4"] * 2,
        [],
    )


def test_a_list_to_validate_on_may_lack_the_first_class(tmp_path):
    for name, text in (("n.txt", "x\ny\n"), ("train.txt", "a.mp4 0\nb.mp4 1\n"), ("val.txt", "c.mp4 1\n")):
        (tmp_path / name).write_text(text)
    options = {"val": str(tmp_path / "val.txt"), "class_list": str(tmp_path / "n.txt")}
    assert find_clips(str(tmp_path / "train.txt"), FinetuneSettings(**options)).val[0].label == "y"


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such names")
def test_a_class_whose_name_is_no_unicode_is_refused_before_anything_is_read(tmp_path):
    for name in (b"caf\xe9", b"tea"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        (folder / "a.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match=r"the label 'caf\\xe9' is not valid Unicode"):
        find_clips(str(tmp_path), FinetuneSettings())
