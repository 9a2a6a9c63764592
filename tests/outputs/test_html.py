"""The report's text: all in one file, names and labels are text, colours can be told apart and read."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import reports

from xclip_cli.errors import OutputError
from xclip_cli.files import one_line
from xclip_cli.outputs import html

DOG = (4.0, 8.0, "a dog", 0.5, 0.75)
STYLE = (Path(html.__file__).parent / "style.css").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Every element with its attributes, and the text in it."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def page(results, strips=None, folder="/videos"):
    return "".join(html.page(results, strips or {}, Path(folder), "Tagged videos"))


def test_the_page_loads_nothing_and_its_policy_names_its_own_script_and_style():
    text = page([reports.plain("/videos/a.mp4", ("running", 0.5))], {"/videos/a.mp4": reports.strip(10.0)})
    parsed = Page(text)
    assert text.startswith("<!doctype html>")
    [policy] = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; media-src 'self' file:;") and "unsafe" not in policy
    for tag in ("style", "script"):
        [inner] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        assert base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode() in policy
    sources = [a[key] for _, a in parsed.elements for key in ("src", "href") if key in a]
    assert all(source.startswith(("data:image/jpeg;base64,", "./")) for source in sources) and len(sources) == 2
    assert "http" not in re.sub(r"http-equiv|base64,[^\"]*", "", text)
    assert not [a for _, a in parsed.elements if any(key.startswith("on") or key == "style" for key in a)]


def test_colours_go_to_the_labels_of_most_videos_then_to_those_that_hold_longest():
    short = [(10.0 * n, 10.0 * n + 1, f"a {n}", 0.5, 0.6) for n in range(9)]
    results = [reports.timeline("a.mp4", *short, (95.0, 99.0, "long", 0.5, 0.6)), reports.plain("b.mp4", ("z", 0.9))]
    results.append(reports.plain("c.mp4", ("z", 0.9), seconds=0.5))
    marks = {a["data-label"]: a["class"] for a in Page(page(results)).all("button") if "mark" in a.get("class", "")}
    assert marks["z"] == "mark c1" and marks["long"] == "mark c2" and marks["a 0"] == "mark c3"
    assert marks["a 8"] == "mark c0"


def three(video, text):
    """A result of each kind, with that text wherever there can be any."""
    return [
        reports.plain(video, (text, 0.5)),
        reports.timeline("/videos/t.mp4", (0.0, 1.0, text, 0.5, 0.6), (1.0, 2.0, "b", 0.5, None)),
        reports.failed("/videos/f.mp4", text),
    ]


@pytest.mark.parametrize("hostile", reports.HOSTILE)
def test_names_labels_and_errors_are_text(hostile):
    video = f"/videos/{hostile.replace('/', '_')}.mp4"
    results = three(video, hostile)
    parsed = Page(page(results))
    harmless = Page(page(three("/videos/a.mp4", "x")))
    shape = [(tag, sorted(attributes)) for tag, attributes in parsed.elements]
    assert shape == [(tag, sorted(attributes)) for tag, attributes in harmless.elements]
    shown = one_line(hostile)
    assert any(shown in text for text in parsed.texts)
    assert [a for a in parsed.all("li") if a.get("data-label") == shown]
    [first, *_] = parsed.all("article")
    assert unquote(first["data-url"]) == "./" + video.removeprefix("/videos/")
    assert "\u202e" not in page(results) and "\x1b" not in page(results)


@pytest.mark.parametrize(
    ("video", "folder", "url"),
    [
        ("/videos/a b.mp4", "/videos", "./a%20b.mp4"),
        ("/videos/deep/a.mp4", "/videos", "./deep/a.mp4"),
        ("/other/a.mp4", "/videos/reports", "./../../other/a.mp4"),
        ("/videos/javascript:alert(1).mp4", "/videos", "./javascript%3Aalert%281%29.mp4"),
        ("/videos/caf\udce9?#.mp4", "/videos", "./caf%E9%3F%23.mp4"),
    ],
)
def test_a_video_is_found_from_where_the_page_lies(video, folder, url):
    assert html.url(video, Path(folder)) == url


def test_both_kinds_of_results_and_failures_are_shown():
    results = [
        reports.plain("/videos/a.mp4", ("running", 0.625), ("a dog", 0.25)),
        reports.timeline("/videos/b.mp4", DOG, (0.0, 6.0, "running", 0.5, 0.9), (9.0, 9.5, "a dog", 0.4, 0.6)),
        reports.failed("/videos/c.mp4"),
        reports.unknown("/videos/d.mp4"),
    ]
    parsed = Page(page(results, {"/videos/b.mp4": reports.strip(3700.0)}))
    rows = [(a["data-label"], a["data-score"]) for a in parsed.all("li") if "data-score" in a]
    assert rows == [
        ("running", "0.6250"), ("a dog", "0.2500"), ("running", "0.9000"), ("a dog", "0.7500"), ("unknown", ""),
    ]  # fmt: skip
    buttons = [a for a in parsed.all("button") if "data-lane" in a]
    marks = [(a["data-label"], a["data-start"], a["data-end"], a["data-lane"]) for a in buttons]
    assert marks == [
        ("running", "0.0", "10.0", "0"), ("running", "0.0", "6.0", "0"), ("a dog", "4.0", "8.0", "1"),
        ("a dog", "9.0", "9.5", "0"), ("unknown", "0.0", "2.0", "0"),
    ]  # fmt: skip
    cards = parsed.all("article")
    assert [card["data-seconds"] for card in cards] == ["10.000", "3700.000", "0.000", "2.000"]
    assert ["data-failed" in card for card in cards] == [False, False, True, False]
    text = page(results, {"/videos/b.mp4": reports.strip(3700.0)})
    assert "it is no video" in text and "1:01:40" in text and ">0:04<" in text  # the dog holds for 4.5 s


def test_the_file_is_whole_or_as_it_was_and_known_again(tmp_path, monkeypatch):
    results = [reports.plain("a.mp4", ("running", 0.5))]
    path = tmp_path / "r.html"
    html.write(path, results, {})
    first = path.read_bytes()
    html.write(path, results, {})
    assert path.read_bytes() == first and html.is_report(path)
    (tmp_path / "mine.html").write_text("<title>xclip-cli report</title>")
    assert not html.is_report(tmp_path / "mine.html")
    monkeypatch.setattr(html, "page", lambda *_: _breaking())
    with pytest.raises(OutputError, match="disk"):
        html.write(path, results, {})
    assert path.read_bytes() == first and [p.name for p in tmp_path.glob(".*")] == []


def _breaking():
    yield "half"
    raise OSError(28, "the disk is full")


def palettes():
    """The variables of the light theme, and those of the two dark ones."""
    blocks = re.findall(r":root[^{]*\{([^}]*)\}", STYLE)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def contrast(first, second):
    """WCAG 2.2, of two colours #rrggbb."""

    def luminance(colour):
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_marks_can_be_read_in_light_and_dark():
    light, dark, by_system = palettes()
    assert dark == by_system and light.keys() == dark.keys()
    for colours in (light, dark):
        for text, ground in (
            ("ink", "page"),
            ("soft", "page"),
            ("soft", "field"),
            ("accent", "page"),
            ("ink", "field"),
        ):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for number in range(html._NUM_COLOURS + 1):
            assert contrast(colours["on-mark"], colours[f"c{number}"]) >= 4.5
            assert contrast(colours["page"], colours[f"c{number}"]) >= 3


def test_the_template_lies_in_the_package():
    folder = Path(html.__file__).parent
    assert {"template.html", "style.css", "script.js"} <= {path.name for path in folder.iterdir()}
    assert "</script" not in (folder / "script.js").read_text(encoding="utf-8") and "</style" not in STYLE
