"""SubRip and WebVTT, read back by readers that are not ours."""

import html
import unicodedata

import pytest

from xclip_cli.outputs import FORMATS
from xclip_cli.outputs.subtitles import clock
from xclip_cli.results import UNKNOWN, Segment, Tag, VideoResult

ODD = [
    "<b>bold</b> & <i>",
    "{\\an8}on top",
    "a --> b",
    "00:00:01,000 --> 00:00:02,000",
    'say "hi"',
    "灌篮",
    "כדורסל",
    "running \u202e4pm",
    "a | b / c",
    "&lt;",
]


def video(*segments, **more):
    return VideoResult("a.mp4", "mini", "everyday", tuple(segments), **more)


def document(name, result):
    return b"".join(FORMATS[name]().pieces([result])).decode()


def read_srt(result):
    pysrt = pytest.importorskip("pysrt")
    items = pysrt.from_string(document("srt", result), error_handling=pysrt.SubRipFile.ERROR_RAISE)
    return [(item.start.ordinal, item.end.ordinal, item.text) for item in items]


def read_vtt(result):
    webvtt = pytest.importorskip("webvtt")
    return [(cue.start, cue.end, html.unescape(cue.raw_text)) for cue in webvtt.from_string(document("vtt", result))]


def bare(text):
    """What a person sees: without the characters that have no width."""
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


def test_tags_of_one_segment_are_lines_of_one_cue_in_both():
    result = video(Segment(0.0, 83.0004, (Tag("running", 0.625, 0.2), Tag("a dog", 0.25, 0.1))))
    assert read_srt(result) == [(0, 83000, "running (0.62)\na dog (0.25)")]
    assert read_vtt(result) == [("00:00:00.000", "00:01:23.000", "running (0.62)\na dog (0.25)")]


def test_a_timeline_is_a_cue_per_segment_in_order_of_time():
    segments = [Segment(4.0, 6.0, (Tag("b", 0.5, 0.1, 0.75, 5.0),)), Segment(1.5, 5.0, (Tag("a", 0.5, 0.1, 0.9, 2.0),))]
    assert read_srt(video(*segments)) == [(1500, 5000, "a (0.50)"), (4000, 6000, "b (0.50)")]
    assert [text for _, _, text in read_vtt(video(*segments))] == ["a (0.50)", "b (0.50)"]


@pytest.mark.parametrize("label", ODD)
def test_any_label_is_one_line_that_commands_nothing(label):
    result = video(Segment(0, 1, (Tag(label, 0.5, 0),)), Segment(1, 2, (Tag("next", 0.5, 0),)))
    shown = label.replace("\u202e", "\\u202e")
    for read in (read_srt, read_vtt):
        cues = [text for *_, text in read(result)]
        assert [bare(text) for text in cues] == [f"{shown} (0.50)", "next (0.50)"]
    assert not set("<>") & set(document("vtt", result).split("\n")[4])
    [(_, _, text), _] = read_srt(result)
    assert "-->" not in text and "{\\" not in text and "<b" not in text and "<i" not in text


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_lines_of_a_label_do_not_end_its_cue_and_an_isolate_keeps_the_score_behind_it(name):
    result = video(Segment(0, 1, (Tag("two\n\nlines\r\n", 0.5, 0), Tag("כדורסל", 0.25, 0), Tag("\x1b[2J", 0.1, 0))))
    text = document(name, result)
    assert "two lines (0.50)\n\u2068כדורסל\u2069 (0.25)\n\\x1b[2J (0.10)\n\n" in text


def test_unknown_has_no_number_and_a_picture_lasts_long_enough_to_be_a_cue():
    result = video(Segment(0.0, 0.0, (Tag(UNKNOWN, None, None),)))
    assert read_srt(result) == [(0, 1, UNKNOWN)]
    assert [text for *_, text in read_vtt(result)] == [UNKNOWN]


def test_a_failed_video_is_a_comment_where_the_format_has_them():
    failed = video(error="no --> video\nat all")
    assert document("vtt", failed) == "WEBVTT\n\nNOTE no --&gt; video\\nat all\n\n" and read_vtt(failed) == []
    assert document("srt", failed) == ""


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "00:00:00,000"), (59_999, "00:00:59,999"), (3_600_000, "01:00:00,000"), (360_000_007, "100:00:00,007")],
)
def test_times_are_exact(milliseconds, text):
    assert clock(milliseconds, ",") == text
