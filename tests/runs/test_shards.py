"""Shards: who tags which video, and what is merged."""

import json
import os
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xclip_cli.errors import UsageError
from xclip_cli.labels import from_names
from xclip_cli.outputs.journal import Journal
from xclip_cli.results import Segment, Tag, VideoResult
from xclip_cli.runs import batch, shards
from xclip_cli.runs.shards import Shard, name_of
from xclip_cli.settings import TagSettings

NAMES = ("a.mp4", "b c.mp4", "=d.mp4", "new\nline.mp4", 'ä,"q".mp4', "sub/a.mp4", "sub/deep/e.mp4", "z.mp4", "y\r.mp4")


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"x")
    return tmp_path / "videos"


def engine(videos, label_set, *_):
    """Every fourth fails, and results come late: what a video's row says depends on its name alone."""
    results = []
    for video in videos:
        number = sum(os.fsencode(os.path.basename(video)))
        tags = tuple(Tag(label.name, number / (rank + 1e4), -0.1) for rank, label in enumerate(label_set.labels))
        failed = {"error": f"{video!r} is\nbroken"} if number % 4 == 0 else {"segments": (Segment(0.0, 1.0, tags),)}
        results.append(VideoResult(video, "m", label_set.name, **failed))
    yield from reversed(results)


def run(output, *paths, shard=None, labels="x,y", format_name="csv", **made_with):
    """As the program does, with an engine that looks at names alone."""
    found = batch.find_videos([str(path) for path in paths], recursive=True)
    found, part = shards.cut(found, shard and Shard.parse(shard))
    batch.check_output(output, found.videos, overwrite=False)
    made_with = {"name": "m", "fingerprint": "f", **made_with}
    options = TagSettings(top_k=made_with.pop("top_k", 5))
    checkpoint = SimpleNamespace(**made_with)
    job = batch.Batch(found.videos, from_names(labels), options, engine, found.unreadable, checkpoint, part)
    with Journal(output) as journal:
        count = len(list(job.run(journal)))
        job.write(output, format_name, journal)
    return count


def parts(folder, of, where, suffix="csv"):
    outputs = [where / f"out-{n}.{suffix}" for n in range(1, of + 1)]
    for n, output in enumerate(outputs, start=1):
        run(output, folder, shard=f"{n}/{of}", format_name=suffix)
    return outputs


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), unique=True), st.integers(1, 20))
def test_every_name_is_in_one_shard_whatever_the_others_are(names, of):
    every = [Shard(number, of) for number in range(1, of + 1)]
    holders = {name: [shard.number for shard in every if shard.holds(name)] for name in names}
    assert all(len(numbers) == 1 for numbers in holders.values())


def test_shards_are_of_like_size_and_stay_as_they_are():
    names = [f"camera-1/{n:06}.mp4" for n in range(8000)]
    sizes = [sum(Shard(number, 16).holds(name) for name in names) for number in range(1, 17)]
    assert sum(sizes) == 8000 and min(sizes) > 400 and max(sizes) < 600
    assert [n for n in range(8) if Shard(1, 4).holds(names[n])] == [2, 4, 6]  # another hash would tear runs in progress


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "a/4", "1/4/2", "-1/4", "1.5/4", "", "1/9999999"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="--shard is"):
        Shard.parse(text)


def test_a_folder_may_lie_elsewhere_on_every_machine(folder, tmp_path, monkeypatch):
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "videos").symlink_to("elsewhere")
    monkeypatch.chdir(tmp_path)
    seen = []
    for root in ("videos", "./videos/", str(tmp_path / "elsewhere"), "videos/../elsewhere"):
        found, part = shards.cut(batch.find_videos([root], recursive=True), Shard(1, 2))
        seen.append(([os.path.relpath(os.path.realpath(v), tmp_path / "elsewhere") for v in found.videos], part))
    monkeypatch.chdir(tmp_path / "elsewhere")
    found, part = shards.cut(batch.find_videos(["."], recursive=True), Shard(1, 2))
    seen.append(([os.path.normpath(v) for v in found.videos], part))
    assert all(one == seen[0] for one in seen) and 0 < len(seen[0][0]) < len(NAMES)


def test_names_are_told_by_the_outermost_folder():
    roots = {"/data/", "/data/in/", "./"}
    assert name_of("/data/in/a.mp4", roots) == "in/a.mp4"
    assert name_of("./b/a.mp4", roots) == "b/a.mp4"
    assert name_of("c/./x/../a.mp4", roots) == "c/a.mp4" and name_of("/else/a.mp4", roots) == "/else/a.mp4"


def test_a_further_file_moves_no_other(folder):
    before = {n: shards.cut(batch.find_videos([str(folder)]), Shard(n, 3))[0].videos for n in (1, 2, 3)}
    for name in ("0.mp4", "m.mp4"):
        (folder / name).write_bytes(b"x")
    after = {n: shards.cut(batch.find_videos([str(folder)]), Shard(n, 3))[0].videos for n in (1, 2, 3)}
    assert all(set(before[n]) <= set(after[n]) for n in before)


def test_an_unreadable_folder_is_in_one_shard(folder):
    found = batch.find_videos([str(folder)], listed=[str(folder / "none")])
    found.unreadable[found.videos[0]] = "cannot be listed"
    counts = [len(shards.cut(found, Shard(n, 5))[0].unreadable) for n in range(1, 6)]
    assert sorted(counts) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
@pytest.mark.parametrize("of", [1, 2, 13])
def test_merged_shards_are_the_output_of_one_run(folder, tmp_path, suffix, of):
    run(tmp_path / f"whole.{suffix}", folder, format_name=suffix)
    outputs = parts(folder, of, tmp_path, suffix)  # thirteen for nine videos: some are empty
    merged = tmp_path / f"all.{suffix}"
    assert shards.merge(outputs[::-1], merged) == len(NAMES)
    assert merged.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()


def test_a_shard_goes_on_where_it_was_and_can_grow(folder, tmp_path):
    outputs = parts(folder, 2, tmp_path)
    (folder / "m.mp4").write_bytes(b"x")
    again = [run(output, folder, shard=f"{n}/2") for n, output in enumerate(outputs, start=1)]
    assert sum(again) < len(NAMES)  # those that failed, and the new one
    assert shards.merge(outputs, tmp_path / "all.csv") == len(NAMES) + 1
    run(tmp_path / "whole.csv", folder)
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def refused(outputs, output, match, **more):
    with pytest.raises(UsageError, match=match) as caught:
        shards.merge(outputs, output, **more)
    assert not output.exists() or more or "exists" in match
    return caught.value


def test_shards_that_are_missing_or_twice_are_named(folder, tmp_path):
    outputs, merged = parts(folder, 4, tmp_path), tmp_path / "all.csv"
    refused(outputs[:2], merged, r"shard 3/4 is missing, and 1 more")
    refused([*outputs[:3]], merged, r"shard 4/4 is missing$")
    twin = tmp_path / "copy.csv"
    twin.write_bytes(outputs[1].read_bytes())
    Journal(twin).path.write_bytes(Journal(outputs[1]).path.read_bytes())
    refused([*outputs, twin], merged, r"out-2\.csv' and '.*copy\.csv' are both shard 2/4")
    (tmp_path / "three").mkdir()
    refused([outputs[0], *parts(folder, 3, tmp_path / "three")], merged, "are of 4 and of 3 shards")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"name": "n"}, "of two models, m and n"),
        ({"fingerprint": "g"}, "of two files of one model"),
        ({"labels": "x,z"}, "of two label sets"),
        ({"top_k": 1}, "of two settings"),
    ],
)
def test_shards_of_two_runs_are_not_merged(folder, tmp_path, other, said):
    run(tmp_path / "out-1.csv", folder, shard="1/2")
    run(tmp_path / "out-2.csv", folder, shard="2/2", **other)
    refused([tmp_path / "out-1.csv", tmp_path / "out-2.csv"], tmp_path / "all.csv", said)


def test_shards_of_different_lists_are_not_merged(folder, tmp_path):
    run(tmp_path / "out-1.csv", folder, shard="1/2")
    (folder / "late.mp4").write_bytes(b"x")
    run(tmp_path / "out-2.csv", folder, shard="2/2")
    refused([tmp_path / "out-1.csv", tmp_path / "out-2.csv"], tmp_path / "all.csv", r"different lists .*\(9 and 10\)")


def test_a_file_that_does_not_say_what_it_is_is_not_merged(folder, tmp_path):
    outputs, merged = parts(folder, 2, tmp_path), tmp_path / "all.csv"
    run(tmp_path / "whole.csv", folder)
    refused([tmp_path / "whole.csv"], merged, "is no shard as a run wrote it")
    refused([tmp_path / "gone.csv"], merged, "there is no file")
    refused([*outputs[:1], tmp_path / "out.xml"], merged, "known suffixes")
    refused([*outputs[:1], tmp_path / "out.json"], merged, "cannot be merged")
    refused(outputs, outputs[0], "would replace an input", overwrite=True)
    (tmp_path / "there.csv").write_text("mine")
    refused(outputs, tmp_path / "there.csv", "exists")
    outputs[0].write_bytes(outputs[0].read_bytes() + b"\n")
    refused(outputs, merged, "is no shard as a run wrote it")
    Journal(outputs[1]).path.unlink()
    assert "copy the journals" in refused(outputs[1:], merged, r"'out-2\.csv\.journal', which does, is not beside").hint


def forge(output, change):
    """A journal that says something else of the same file."""
    path = Journal(output).path
    *lines, last = path.read_text().splitlines()
    entry = json.loads(last)
    change(entry["shard"])
    path.write_text("\n".join([*lines, json.dumps(entry)]) + "\n")


def test_a_video_that_is_in_two_shards_or_in_none_is_refused(folder, tmp_path):
    first, second = parts(folder, 2, tmp_path)
    positions = json.loads(Journal(first).path.read_text().splitlines()[-1])["shard"]["positions"]
    forge(second, lambda shard: shard["positions"].__setitem__(0, positions[0]))
    refused([first, second], tmp_path / "all.csv", "the video '.*' is in both '.*out-.*' and '.*out-|is in none")
    forge(second, lambda shard: shard["positions"].pop())
    refused([first, second], tmp_path / "all.csv", "is in both|is in none|does not have its")


@pytest.mark.parametrize(
    "change",
    [{"positions": ["1"]}, {"positions": 7}, {"more": 1}, {"positions": [-1]}, {"positions": [10**9]}, {"of": 10**300},
     {"of": 0},
     {"number": -1}, {"number": True}, {"videos": "4"}, {"videos": 1e9}, {"listing": None}, {"model": ["m"]}],
)  # fmt: skip
def test_a_damaged_journal_is_said(folder, tmp_path, change):
    first, second = parts(folder, 2, tmp_path)
    forge(second, lambda shard: shard.update(change))
    refused([first, second], tmp_path / "all.csv", "journal '.*' is damaged")
