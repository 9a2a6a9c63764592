"""Clips of one source are found by what they are, show and are called; others are left in peace."""

import numpy as np
import pytest

from xclip_cli.dataset import Sample, read_samples, sources
from xclip_cli.dataset.sources import Findings, leaks, number_sources, thumbnails
from xclip_cli.video.reader import open_reader, read_clip


def found(names, pictures=None):
    """Which of clips with these names, and pictures of which things, are of one source: a letter each."""
    samples = [Sample(f"folder/{name}.mp4", "x") for name in names]
    findings = Findings()
    for sample, seed in zip(samples, pictures or range(len(names)), strict=True):
        findings.thumbnails[sample] = np.random.default_rng(int(seed)).integers(0, 256, (8, 16, 16), np.uint8)
    return "".join("abcdefghijkl"[number] for number in number_sources(samples, findings))


@pytest.mark.parametrize(
    ("names", "sources"),
    [
        (["v_Boxing_g01_c01", "v_Boxing_g01_c02", "v_Boxing_g02_c01", "v_Boxing_g03_c01"], "aacd"),
        (["Title_run_f_cm_np1_fr_med_0", "Title_run_f_cm_np1_ba_goo_1", "Else_run_f_cm_np1_fr_med_0", "x"], "aacd"),
        (["abcdefghijk_000001_000011", "abcdefghijk_000020_000030", "bbcdefghijk_000001_000011", "x"], "aacd"),
        (["street-Scene-001", "street-Scene-002", "park-Scene-001", "park-Scene-002"], "aacc"),
        (["name_12_3", "name_12_4", "name_13_1", "other_2_1"], "aacd"),
        ([f"clip_{i:04}" for i in range(6)], "abcdef"),  # ordinary numbering
        ([f"fi{i:03}" for i in range(6)], "abcdef"),
        ([f"trip_12_{i}" for i in range(6)], "abcdef"),  # one name for all says nothing
        (["IMG_20240503_123456", "IMG_20240503_123512", "2024-05-03", "2024-05-04", "VID_20240504_101010"], "abcde"),
    ],
)
def test_names_speak_where_they_tell_sources_apart(names, sources):
    assert found(names) == sources


def test_pictures_that_are_nearly_equal_are_of_one_source():
    assert found(["a", "b", "c"], pictures=[1, 2, 1]) == "aba"


@pytest.mark.parametrize("count", [1, 300, 700])
def test_copies_are_found_across_blocks_and_give_no_more_pairs_than_it_takes(count, monkeypatch):
    """Every third clip is one picture, the others are their own; 16 frames a block."""
    monkeypatch.setattr(sources, "_BLOCK", 16)
    random = np.random.default_rng(0)
    pictures, still = random.integers(0, 256, (count, 8, 16, 16), np.uint8), random.integers(0, 256, (16, 16), np.uint8)
    pictures[::3, 3] = still
    samples = [Sample(f"{'xyz'[i % 3]}{i}q.mp4", "x") for i in range(count)]
    findings = Findings(thumbnails=dict(zip(samples, pictures, strict=True)))
    assert number_sources(samples, findings) == [i if i % 3 else 0 for i in range(count)]
    assert len(list(sources.links(samples, findings))) == len(range(3, count, 3))
    half = count // 2
    assert [b for _, b, _ in leaks(samples[:half], samples[half:], findings)] == [
        sample for i, sample in enumerate(samples) if i >= half > 0 and i % 3 == 0
    ]


def test_neighbouring_numbers_and_like_pictures_are_of_one_source():
    still = np.random.default_rng(0).integers(50, 200, (8, 16, 16))
    names = ["cam3", "cam4", "cam9"]
    samples = [Sample(f"{name}.mp4", "x") for name in names]
    moved = [still, still + 16, still - 16]  # 16 grey levels apart: more than a copy, less than chance
    findings = Findings(thumbnails={s: m.astype(np.uint8) for s, m in zip(samples, moved, strict=True)})
    assert number_sources(samples, findings) == [0, 0, 2]


def test_dark_frames_are_no_source():
    samples = [Sample(f"{name}.mp4", "x") for name in "ab"]
    assert number_sources(samples, Findings(thumbnails=dict.fromkeys(samples, np.zeros((8, 16, 16), np.uint8)))) == [
        0,
        1,
    ]


def test_parts_of_one_video_are_of_one_source():
    samples = [Sample("a.mp4", "x", 0, 2), Sample("a.mp4", "y", 2, 4), Sample("b.mp4", "x")]
    assert number_sources(samples, Findings()) == [0, 0, 2]
    assert leaks(samples[:1], samples[1:], Findings()) == [(samples[0], samples[1], "one video")]


def test_who_gives_a_pattern_is_believed():
    samples = [Sample(f"{name}.mp4", "x") for name in ("v_A_g01_c01", "v_A_g01_c02", "v_A_g02_c01", "v_A_g03_c01")]
    assert number_sources(samples, Findings(), r"(c\d+)\.mp4") == [0, 1, 0, 0]


def test_a_thumbnail_is_the_mean_grey_of_each_field():
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), np.uint8)
    wanted = frames.reshape(2, 16, 3, 16, 5, 3).mean(axis=(2, 4, 5))
    assert np.abs(thumbnails(frames) - wanted).max() <= 0.5 + 1e-3
    assert thumbnails(frames[:, :10, :7]).shape == (2, 16, 16)  # smaller than a thumbnail


def test_real_clips_of_other_incidents_are_left_in_peace(shared):
    reader, findings = open_reader("opencv"), Findings()
    train, val = (read_samples(shared / "data/fights" / name)[::4] for name in ("train", "test"))
    for sample in (*train, *val):
        findings.thumbnails[sample] = thumbnails(read_clip(reader, sample.path, 8).frames)
    assert leaks(train, val, findings) == []
