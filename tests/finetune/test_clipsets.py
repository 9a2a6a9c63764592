"""Splits and shots keep their promises."""

from xclip_cli.finetune.clipsets import choose_shots, split_samples
from xclip_cli.samples import Sample, label_names


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
    train, val = split_samples(samples({"a": 12, "b": 12}), 0.4, seed=0, group_regex=r"/(\d)_")
    groups = [{s.path.split("/")[1][0] for s in part} for part in (train, val)]
    assert val and not groups[0] & groups[1]


def test_shots_are_seeded_and_nested():
    few, more = (choose_shots(samples({"a": 9, "b": 3}), shots, seed=1) for shots in (2, 4))
    assert [sum(s.label == name for s in more) for name in "ab"] == [4, 3]
    assert set(few) <= set(more) and label_names(few) == ["a", "b"]
