import errno
import json
import os
import random
from dataclasses import asdict

import pytest

from xclip_cli.errors import OutputError
from xclip_cli.outputs.journal import Journal, video_key
from xclip_cli.results import Segment, Tag, VideoResult

DONE = VideoResult(
    "a.mp4", "mini", "s", (Segment(0.0, 0.1, (Tag("x", 1 / 3, -1e-9), Tag("unknown", None, None))),), None, ("w",)
)
FAILED = VideoResult("b.mp4", "mini", "s", error="broken")


def write(path, *entries):
    with Journal(path) as journal:
        journal.load()
        for key, result in entries:
            journal.append(key, result)


def load(path):
    with Journal(path) as journal:
        return journal.load()


def recorded(path):
    places, hashes = zip(*Journal(path).recorded(), strict=True) if Journal(path).path.read_bytes() else ((), ())
    return set(places), {sha256 for group in hashes for sha256 in group}


def test_results_come_back_exactly_and_failures_are_tried_again(tmp_path):
    write(tmp_path / "o.csv", ("k1", DONE), ("k2", FAILED))
    assert load(tmp_path / "o.csv") == {"k1": DONE}


def test_a_line_torn_at_any_byte_loses_that_line_only(tmp_path):
    output = tmp_path / "o.csv"
    write(output, ("k1", DONE), ("k2", DONE))
    whole = Journal(output).path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole), 7):
        Journal(output).path.write_bytes(whole[:cut])
        assert list(load(output)) == ["k1"]
        write(output, ("k3", DONE))
        assert list(load(output)) == ["k1", "k3"]


def test_a_damaged_line_is_not_believed(tmp_path):
    output = tmp_path / "o.csv"
    write(output, ("k1", DONE), ("k2", DONE))
    path = Journal(output).path
    path.write_bytes(b'{"key": 3}\n\xff\xfe\n' + path.read_bytes())
    assert set(load(output)) == {"k1", "k2"}


def test_a_result_is_read_back_from_where_its_line_starts(tmp_path):
    with Journal(tmp_path / "o.csv") as journal:
        assert list(journal.open()) == []
        places = [journal.append(f"k{n}", result) for n, result in enumerate((DONE, FAILED, DONE))]
        assert [journal.read(place) for place in reversed(places)] == [DONE, FAILED, DONE]
        journal.note_outputs(["1" * 64])  # makes the last line longer
        later = journal.append("k3", FAILED)
        assert journal.read(places[2]) == DONE and journal.read(later) == FAILED
    with Journal(tmp_path / "o.csv") as journal:
        assert [entry.start for entry in journal.open()] == [*places, later]


def test_shards_are_noted_once_with_their_outputs_and_are_no_videos(tmp_path):
    output = tmp_path / "o.csv"
    for sha256 in ("1" * 64, "1" * 64, "2" * 64):
        with Journal(output) as journal:
            assert [entry.key for entry in journal.open()] == []
            journal.note_shard({"number": 1})
            journal.note_outputs([sha256])
    assert list(Journal(output).shards()) == [({"number": 1}, ["1" * 64, "2" * 64])]
    assert recorded(output) == ({None}, {"1" * 64, "2" * 64})


def test_fresh_forgets(tmp_path):
    write(tmp_path / "o.csv", ("k1", DONE))
    with Journal(tmp_path / "o.csv") as journal:
        assert journal.load(fresh=True) == {}
    assert load(tmp_path / "o.csv") == {}


def test_one_output_has_one_run_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        with Journal(tmp_path / "o.csv") as second, pytest.raises(OutputError, match="another run"):
            second.load()


def test_the_lock_is_gone_with_the_run_and_one_of_a_killed_run_is_no_hindrance(tmp_path):
    write(tmp_path / "o.csv", ("k1", DONE))
    assert sorted(os.listdir(tmp_path)) == ["o.csv.journal"]
    Journal(tmp_path / "o.csv").lock_path.touch()
    write(tmp_path / "o.csv", ("k2", DONE))
    assert sorted(os.listdir(tmp_path)) == ["o.csv.journal"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_a_journal_is_written_all_the_same(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    write(tmp_path / "o.csv", ("k1", DONE))
    assert load(tmp_path / "o.csv") == {"k1": DONE}


@pytest.mark.skipif(os.name != "posix", reason="has no named pipes")
@pytest.mark.parametrize("suffix", ["", ".windows"])
def test_a_pipe_in_place_of_a_journal_is_refused_and_keeps_nobody_waiting(tmp_path, suffix):
    os.mkfifo(f"{tmp_path}/o.csv.journal{suffix}")
    with Journal(tmp_path / "o.csv") as journal, pytest.raises(OutputError, match=r"o\.csv\.journal"):
        journal.load()
        journal.append_windows("k", {})


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path):
    with Journal(tmp_path / "nowhere" / "o.csv") as journal, pytest.raises(OutputError, match="nowhere"):
        journal.load()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_clear_error(tmp_path):
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        for number in os.listdir("/proc/self/fd"):
            if os.path.realpath(f"/proc/self/fd/{number}") == os.path.realpath(journal.path):
                full = os.open("/dev/full", os.O_WRONLY)
                os.dup2(full, int(number))
                os.close(full)
        with pytest.raises(OutputError, match="No space left"):
            journal.append("k", DONE)


def test_the_key_follows_size_mtime_and_configuration(tmp_path):
    video = tmp_path / "v.mp4"
    video.write_bytes(b"12")
    os.utime(video, ns=(1, 1))
    first = video_key(str(video), "c")
    assert video_key(str(video), "c") == first
    assert video_key(str(video), "other") != first
    os.utime(video, ns=(1, 2))
    second = video_key(str(video), "c")
    video.write_bytes(b"123")
    os.utime(video, ns=(1, 2))
    assert len({first, second, video_key(str(video), "c")}) == 3
    assert video_key(str(tmp_path / "missing"), "c")


def test_outputs_are_known_again_and_no_video_is_lost(tmp_path):
    output = tmp_path / "o.csv"
    write(output, ("k1", DONE), ("k2", DONE))
    with Journal(output) as journal:
        journal.load()
        journal.note_outputs(["1" * 64])
        journal.note_outputs(["2" * 64])
        journal.append("k3", DONE)
        journal.note_outputs(["1" * 64])
    assert list(load(output)) == ["k1", "k2", "k3"]
    assert Journal(output).path.read_bytes().count(b"\n") == 3
    assert recorded(output) == ({os.path.abspath("a.mp4")}, {"1" * 64, "2" * 64})


def test_an_empty_journal_notes_nothing(tmp_path):
    with Journal(tmp_path / "o.csv") as journal:
        journal.load()
        journal.note_outputs(["1" * 64])
    assert recorded(tmp_path / "o.csv") == (set(), set())


def test_videos_of_a_journal_of_before_are_known(tmp_path):
    write(tmp_path / "o.csv", ("k1", DONE))
    path = Journal(tmp_path / "o.csv").path
    entry = json.loads(path.read_bytes())
    del entry["place"]
    path.write_text(json.dumps(entry) + "\n")
    assert recorded(tmp_path / "o.csv") == ({os.path.abspath("a.mp4")}, set())


def entry(**changes):
    """A line of a journal: of a result, or of what somebody made of it."""
    result = json.loads(json.dumps(asdict(DONE)))
    for path, value in changes.items():
        *keys, last = path.split("__")
        inner = result
        for key in keys:
            inner = inner[int(key) if key.isdecimal() else key]
        inner[int(last) if last.isdecimal() else last] = value
    return json.dumps({"key": "k2", "place": "/a.mp4", "result": result})


TAMPERED = {
    "text for a time": entry(segments__0__start_seconds="soon"),
    "no time": entry(segments__0__end_seconds=None),
    "NaN": entry(segments__0__tags__0__score=float("nan")),
    "infinity": entry(segments__0__end_seconds=float("inf")),
    "a giant number": entry(segments__0__tags__0__similarity=1e300),
    "a number of 400 digits": entry(segments__0__tags__0__score=77).replace(" 77,", f" {'7' * 400},"),
    "a number of 9000 digits": entry(segments__0__tags__0__score=77).replace(" 77,", f" {'7' * 9000},"),
    "more than a probability": entry(segments__0__tags__0__score=7.5),
    "less than a probability": entry(segments__0__tags__0__score=-0.5),
    "more than a cosine": entry(segments__0__tags__0__similarity=-1.5),
    "a time in the next universe": entry(segments__0__end_seconds=1e12),
    "a start after the end": entry(segments__0__start_seconds=0.2),
    "a label without a score": entry(segments__0__tags__0__score=None),
    "infinity by its digits": entry(segments__0__end_seconds=77).replace(" 77,", " 1e999,"),
    "a name twice": entry().replace('"label": "x"', '"label": "y", "label": "x"'),
    "no such field": entry().replace('"key"', '"more": 1, "key"'),
    "a shard as well": entry().replace('"key"', '"shard": {}, "key"'),
    "truth": entry(segments__0__tags__0__score=True),
    "a list for a label": entry(segments__0__tags__0__label=["x"]),
    "a number for a label": entry(segments__0__tags__0__label=5),
    "a number for a video": entry(video=5),
    "a number for a model": entry(model=5),
    "a number for a warning": entry(warnings=[5]),
    "another word": entry(segments__0__tags__0={"label": "x", "score": 1, "similarity": 1, "colour": 2}),
    "no tags": entry(segments__0__tags=[]),
    "no segments": entry(segments=[]),
    "text for segments": entry(segments="abc"),
    "a dict for segments": entry(segments={"a": 1}),
    "nested deep": '{"key": "k2", "result": ' + "[" * 100_000,
    "a list": "[1, 2]",
    "a number": "3",
    "null": "null",
    "a list for a key": '{"key": [1], "result": {}}',
    "text for a result": '{"key": "k2", "result": "abc"}',
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_line_that_was_tampered_with_is_tagged_again(tmp_path, name):
    output = tmp_path / "o.csv"
    write(output, ("k1", DONE))
    with Journal(output).path.open("a") as file:
        file.write(TAMPERED[name] + "\n")
    assert load(output) == {"k1": DONE}
    with Journal(output) as journal:
        journal.load()
        journal.note_outputs(["1" * 64])
    places, _ = recorded(output)
    assert os.path.abspath("a.mp4") in places and all(isinstance(place, str) for place in places)


@pytest.mark.parametrize("outputs", ["5", "null", '{"a": 1}', "[[1]]", '"text"'])
def test_outputs_that_were_tampered_with_are_no_outputs(tmp_path, outputs):
    output = tmp_path / "o.csv"
    write(output, ("k1", DONE))
    path = Journal(output).path
    path.write_text(path.read_text().replace('"place"', f'"outputs": {outputs}, "place"', 1))
    with Journal(output) as journal:
        journal.load()
        journal.note_outputs(["1" * 64])
    assert load(output) == {"k1": DONE} and recorded(output)[0] == {os.path.abspath("a.mp4")}


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links cannot be told apart")
def test_a_journal_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    other = tmp_path / "letter.txt"
    other.write_text("Dear")
    Journal(tmp_path / "o.csv").path.symlink_to(other)
    with Journal(tmp_path / "o.csv") as journal, pytest.raises(OutputError, match=r"o\.csv\.journal"):
        journal.load()
    assert other.read_text() == "Dear"


NASTY = (None, True, -1, 0, 10**30, 1e308, -1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], {"a": {"b": [1]}})


def places(value, path=()):
    """The path of each value in JSON data."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def mutants(lines, count):
    """A journal's text, with a value replaced, or with some bytes changed, dropped or repeated."""
    rng = random.Random(0)
    for number in range(count):
        text = bytearray(b"\n".join(lines) + b"\n")
        if number % 2:
            chosen = rng.randrange(len(lines))
            value = json.loads(lines[chosen])
            *path, last = rng.choice(list(places(value)))
            inner = value
            for key in path:
                inner = inner[key]
            inner[last] = rng.choice(NASTY)
            changed = [*lines[:chosen], json.dumps(value).encode(), *lines[chosen + 1 :]]
            text = bytearray(b"\n".join(changed) + b"\n")
        else:
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(text))
                text[at : at + rng.choice((0, 1, 1, 5))] = rng.choice(
                    (b"", b"9", b"-", b"e9", b"\xff", b"\n", b'"', b"[")
                )
        yield bytes(text)


def test_of_a_journal_that_was_tampered_with_anywhere_no_value_out_of_its_range_is_taken(tmp_path):
    output = tmp_path / "o.csv"
    with Journal(output) as journal:
        journal.load()
        for number in range(3):
            journal.append(f"k{number}", DONE)
        journal.note_shard({"number": 1, "of": 2, "positions": [1, 2]})
        journal.note_outputs(["1" * 64])
    lines = journal.path.read_bytes().splitlines()
    taken = 0
    for text in mutants(lines, 600):
        journal.path.write_bytes(text)
        list(Journal(output).recorded())
        list(Journal(output).shards())
        with Journal(output) as again:
            starts = [entry.start for entry in again.open()]
            for result in map(again.read, starts):
                taken += 1
                for segment in result.segments:
                    assert 0 <= segment.end_seconds - segment.start_seconds <= 2e11
                    for tag in segment.tags:
                        assert isinstance(tag.label, str)
                        assert tag.score is None or -0.001 <= tag.score <= 1.001
                        assert tag.similarity is None or -1.001 <= tag.similarity <= 1.001
            again.note_shard({"number": 2})
            again.note_outputs(["2" * 64])
    assert 900 < taken < 1800  # of 1800: most lines are as they were
