"""`xclip search`: a sentence or an example in, moments out."""

import csv
import io
import json
import os
import shutil

import pytest

QUERY = "two dogs, running"


@pytest.fixture(scope="module")
def clips(make_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for shade, name in enumerate(("a.mp4", "b c.mp4", "=d.mp4", "long.mp4", "x\x1b[31m.mp4")):
        make_clip(folder / name, num_frames=12 if shade < 3 else 120, shade=shade)
    return folder


@pytest.fixture(scope="module")
def search(xclip, plain_model, clips, tmp_path_factory):
    own = ("--model", plain_model, "--index", tmp_path_factory.mktemp("index"))
    assert xclip("index", clips, *own).returncode == 0
    return lambda *arguments: xclip("search", *arguments, *own)


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_moments_are_rows_best_first(search, clips):
    done = search(QUERY)
    assert done.returncode == 0
    found = rows(done.stdout)
    columns = ["video", "start_seconds", "end_seconds", "rank", "score", "query", "model", "stands_out"]
    assert list(found[0]) == columns
    assert [row["rank"] for row in found] == [str(n) for n in range(1, len(found) + 1)] and len(found) >= 5
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True) and -1 <= scores[-1] <= scores[0] <= 1
    assert {row["video"] for row in found} == {os.path.realpath(clip) for clip in clips.iterdir()}
    assert {(row["query"], row["model"]) for row in found} == {(QUERY, "plain")}
    assert search(QUERY).stdout == done.stdout


def test_every_format_says_the_same(search, tmp_path):
    expected = [(row["video"], float(row["score"])) for row in rows(search(QUERY, "--top-k", "3").stdout)]
    documents = json.loads(search(QUERY, "-k", "3", "--format", "json").stdout)
    lines = [json.loads(line) for line in search(QUERY, "-k", "3", "--format", "jsonl").stdout.splitlines()]
    assert documents == lines and [(row["video"], row["score"]) for row in lines] == expected and len(expected) == 3
    done = search(QUERY, "-k", "3", "-o", tmp_path / "found.json")
    assert done.stdout == "" and json.loads((tmp_path / "found.json").read_text()) == documents
    assert search(QUERY, "-o", tmp_path / "found.json").returncode == 2
    assert search(QUERY, "-o", tmp_path / "found.json", "--overwrite").returncode == 0
    table = search(QUERY, "-k", "3", "--format", "table").stdout
    assert len(table.splitlines()) == 3 and "\x1b[31m" not in table and f"{expected[0][1]:.4f}" in table


def test_like_finds_the_example_first_whether_it_is_indexed_or_not(search, clips, tmp_path):
    for text in (clips / "long.mp4", f"{clips / 'long.mp4'}@5"):
        first = rows(search("--like", text).stdout)[0]
        assert first["video"].endswith("long.mp4") and float(first["score"]) > 0.99
    assert rows(search("--like", f"{clips / 'long.mp4'}@5").stdout)[0]["score"] == "1.0000"
    outside = shutil.copy(clips / "long.mp4", tmp_path / "outside.mp4")
    for moment in ("", "@5"):
        first = rows(search("--like", f"{outside}{moment}").stdout)[0]
        assert first["video"].endswith("long.mp4") and float(first["score"]) > 0.99
    done = search("--like", f"{outside}@60")
    assert done.returncode == 1 and "error:" in done.stderr and done.stdout == ""


def test_a_place_and_a_time_narrow_it(search, clips):
    video = clips / "a.mp4"
    assert {row["video"] for row in rows(search(QUERY, "--in", video).stdout)} == {os.path.realpath(video)}
    assert len(rows(search(QUERY, "--in", clips).stdout)) >= 5
    assert len(rows(search(QUERY, "--since", "2h").stdout)) >= 5
    done = search(QUERY, "--since", "0s")
    assert done.returncode == 0 and rows(done.stdout) == [] and "nothing is indexed there" in done.stderr


def test_the_report_and_the_cuts_are_those_of_tagging(search, tmp_path):
    done = search("a </script> dog", "-k", "4", "--report", tmp_path / "r.html", "--cut", tmp_path / "cuts")
    assert done.returncode == 0 and "segments cut: " in done.stderr
    page = (tmp_path / "r.html").read_text()
    assert "Moments: a &lt;/script&gt; dog" in page and page.count('class="mark') == 4
    assert len(list((tmp_path / "cuts").glob("*__a-__script_-dog__*.mp4"))) == 4
    (tmp_path / "mine.html").write_text("mine")
    assert search(QUERY, "--report", tmp_path / "mine.html").returncode == 2


def test_words_in_other_scripts_are_translated_or_warned_of(search):
    done = search("灌篮")
    assert done.returncode == 0 and "Latin" not in done.stderr and rows(done.stdout)[0]["query"] == "灌篮"
    for text in ("跑酷之王", "собака бежит", "كلب يجري"):
        done = search(text)
        assert done.returncode == 0 and len(rows(done.stdout)) >= 5
        assert f"warning: not in Latin letters: {text!r}; models were taught English" in done.stderr
        assert "Latin" not in search(text, "--quiet").stderr


@pytest.mark.parametrize(
    "arguments",
    [[], [QUERY, "--like", "a.mp4"], [QUERY, "--since", "soon"], [QUERY, "--in", "nowhere"], [""],
     [QUERY, "-o", "x.srt"], [QUERY, "--top-k", "0"], [QUERY * 50]],
)  # fmt: skip
def test_a_wrong_question_is_one_line(search, arguments):
    done = search(*arguments)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
