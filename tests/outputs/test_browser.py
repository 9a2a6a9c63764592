"""The report in a real Chromium: it loads, filters, sorts, jumps, obeys the keyboard; hostile names run nothing."""

import os
import shutil
import time

import numpy as np
import pytest
import reports

from xclip_cli.outputs import html

DOG = (1.0, 4.0, "a dog", 0.4, 0.7)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Opens a page and gives it; afterwards nothing may have been complained of, nor asked of the network."""
    opened = []

    def go(path, **context):
        page = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | context).new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        opened.append((page, said, asked))
        return page

    yield go
    for page, said, asked in opened:
        owned = page.evaluate("document.documentElement.dataset.owned")
        page.context.close()
        gone = [text for text in said if "ERR_FILE_NOT_FOUND" in text]  # Chromium's own words for a video that is gone
        assert said == gone[:1] and owned is None
        assert all(address.startswith(("file://", "data:", "blob:")) for address in asked)


def write_video(path, seconds=8, fps=10):
    """H.264, which a browser plays."""
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as output:
        stream = output.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for number in range(seconds * fps):
            frame = av.VideoFrame.from_ndarray(np.full((36, 64, 3), number * 3 % 256, np.uint8), "rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.fixture
def report(tmp_path):
    """A page beside its videos: b.mp4 is there, the others are not."""
    write_video(tmp_path / "b 100%.mp4")
    names = {name: str(tmp_path / name) for name in ("a.mp4", "b 100%.mp4", "c.mp4", "d.mp4")}
    results = [
        reports.plain(names["a.mp4"], ("running", 0.6), ("a dog", 0.3), ("dancing", 0.05), seconds=20.0),
        reports.timeline(names["b 100%.mp4"], DOG, (3.0, 8.0, "running", 0.8, 0.9), (6.0, 7.0, "a dog", 0.5, 0.6)),
        reports.failed(names["c.mp4"]),
        reports.unknown(names["d.mp4"]),
    ]
    strips = {names["a.mp4"]: reports.strip(20.0), names["b 100%.mp4"]: reports.strip(8.0)}
    html.write(tmp_path / "report.html", results, strips)
    return tmp_path / "report.html"


def until(page, condition, seconds=20):
    """Waits for it; the page's policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def shown(page):
    return page.eval_on_selector_all(".card:not([hidden])", "cards => cards.map(card => card.dataset.name)")


def test_it_loads_with_bars_and_segments_in_their_places(visit, report):
    page = visit(report)
    assert shown(page) == ["a.mp4", "b 100%.mp4", "c.mp4", "d.mp4"]
    assert page.text_content("#count") == "4 videos"
    card = page.locator(".card").nth(1)
    assert card.locator("img").evaluate("image => image.complete && image.naturalWidth") == 1024
    line, mark = card.locator(".timeline").bounding_box(), card.locator(".mark").first.bounding_box()
    assert mark["x"] - line["x"] == pytest.approx(line["width"] / 8, abs=2)
    assert mark["width"] == pytest.approx(line["width"] * 3 / 8, abs=3)
    tops = [card.locator(".mark").nth(n).bounding_box()["y"] for n in range(3)]
    assert tops[0] < tops[1] and tops[2] == tops[0]  # what overlaps is in another lane
    bar = card.locator(".bar").first
    assert bar.locator("i").bounding_box()["width"] == pytest.approx(0.9 * bar.bounding_box()["width"], abs=3)


def test_it_filters_by_label_name_score_and_failure_and_says_how_many_are_left(visit, report):
    page = visit(report)
    page.fill("#find", "DANC")
    assert shown(page) == ["a.mp4"] and page.text_content("#count") == "1 of 4 videos"
    assert page.locator(".card").first.locator(".tags .off").count() == 2
    page.fill("#find", "b 100")
    assert shown(page) == ["b 100%.mp4"]
    page.fill("#find", "zebra")
    assert shown(page) == [] and page.is_visible("#nothing")
    page.click("#reset")
    assert len(shown(page)) == 4
    page.fill("#least", "0.65")
    assert shown(page) == ["b 100%.mp4"] and page.text_content("#least-shown") == "0.65"
    assert page.locator(".card:not([hidden]) .mark.off").count() == 1
    page.fill("#least", "0")
    chip = page.locator(".chip", has_text="a dog")
    chip.click()
    assert shown(page) == ["a.mp4", "b 100%.mp4"] and chip.get_attribute("aria-pressed") == "true"
    chip.click()
    page.locator(".chip.failed").click()
    assert shown(page) == ["c.mp4"]


def test_it_sorts(visit, report):
    page = visit(report)
    orders = {}
    for order in ("score", "seconds", "name", "order"):
        page.select_option("#sort", order)
        orders[order] = [name[0] for name in shown(page)]
    assert orders == {"score": [*"bacd"], "seconds": [*"abdc"], "name": [*"abcd"], "order": [*"abcd"]}


def test_a_segment_and_the_pictures_jump_to_their_moment(visit, report):
    page = visit(report)
    card = page.locator(".card").nth(1)
    card.locator(".mark", has_text="running").click()
    until(page, "document.querySelector('video').currentTime >= 3 && !document.querySelector('video').paused")
    assert page.evaluate("document.querySelector('video').currentSrc").endswith("/b%20100%25.mp4")
    page.evaluate("document.querySelector('video').pause()")
    card.locator(".scrub").click(position={"x": card.locator(".scrub").bounding_box()["width"] * 0.8, "y": 10})
    until(page, "Math.abs(document.querySelector('video').currentTime - 6.4) < 0.1")
    until(page, "document.querySelectorAll('.mark.now').length === 2")
    assert card.locator(".scrub").get_attribute("aria-valuetext") == "0:06"
    page.keyboard.press("Escape")
    assert page.locator("video").count() == 0


def test_the_keyboard_finds_steps_seeks_and_plays(visit, report):
    page = visit(report)
    page.keyboard.press("/")
    page.keyboard.type("b 100")
    assert shown(page) == ["b 100%.mp4"]
    page.keyboard.press("Escape")
    assert len(shown(page)) == 4 and page.evaluate("document.activeElement === document.body")
    current = "document.querySelector('.current').dataset.name"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(current) == "b 100%.mp4"
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('video').currentTime === 1")
    page.keyboard.press(" ")
    until(page, "!document.querySelector('video').paused")
    page.keyboard.press(" ")
    until(page, "document.querySelector('video').paused")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(current) == "a.mp4"


def test_a_video_that_is_gone_is_said_in_its_place(visit, report):
    page = visit(report)
    page.locator(".card").first.locator(".mark").click()
    page.wait_for_selector(".stage p")
    assert "cannot play" in page.text_content(".stage p")


def test_hostile_names_and_labels_run_nothing(visit, tmp_path):
    results = []
    for hostile in reports.HOSTILE:
        video = str(tmp_path / f"{hostile.replace('/', '_')}.mp4")
        results += [
            reports.plain(video, (hostile, 0.5), ("b", 0.4)),
            reports.timeline(video + "t", (0.0, 1.0, hostile, 0.5, None), (1.0, 2.0, "b", 0.5, None)),
            reports.failed(video + "f", hostile),
        ]
    html.write(tmp_path / "report.html", results, {result.video: reports.strip(2.0) for result in results})
    page = visit(tmp_path / "report.html")
    assert len(shown(page)) == len(results)
    for number in range(3):
        page.locator(".card .label").nth(number).click()
    page.click(".chip >> nth=0")
    page.fill("#find", reports.HOSTILE[0])
    assert page.locator("main img:not([src^='data:'])").count() == 0 and page.locator("script").count() == 1


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (820, "light"), (1440, "dark")])
def test_nothing_is_wider_than_the_screen_and_the_theme_follows_and_toggles(visit, report, width, scheme):
    page = visit(report, viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = "getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(23, 22, 20)", "rgb(251, 250, 247)"
    assert page.evaluate(colour) == (dark if scheme == "dark" else light)
    page.click("#theme")
    assert page.evaluate(colour) == (light if scheme == "dark" else dark)
    small = page.eval_on_selector_all(
        "button, select, input",
        "all => all.filter(x => x.offsetParent && !x.matches('.mark') && x.offsetHeight < 24).length",
    )
    assert small == 0  # WCAG 2.2, 2.5.8
    assert page.evaluate("getComputedStyle(document.querySelector('.bar i')).transitionDuration") == "0s"


def test_subtitles_are_a_track_of_chapters_too(visit, tmp_path):
    from xclip_cli import outputs

    outputs.write(tmp_path / "a.vtt", "vtt", [reports.timeline("a.mp4", (1.0, 4.0, "a & <b> --> c", 0.4, None))])
    source = (tmp_path / "a.vtt").read_text()
    (tmp_path / "track.html").write_text("<!doctype html><link rel=icon href=data:,><video></video>")
    page = visit(tmp_path / "track.html")
    text = page.evaluate(
        """source => new Promise(done => {
            const track = document.createElement("track");
            track.kind = "chapters";
            track.src = "data:text/vtt," + encodeURIComponent(source);
            track.onload = () => {
                const cue = track.track.cues[0];
                done([cue.startTime, cue.endTime, cue.getCueAsHTML().textContent]);
            };
            document.querySelector("video").append(track);
            track.track.mode = "hidden";
        })""",
        source,
    )
    assert text == [1, 4, "a & <b> --> c (0.40)"]


@pytest.mark.slow
def test_a_thousand_videos_load_soon_and_stay_small(visit, tmp_path):
    picture = os.urandom(12_000)  # as large as a strip of real pictures, and no smaller when packed
    results, strips = [], {}
    for number in range(1000):
        video = str(tmp_path / f"{number:04}.mp4")
        tags = [(f"label {(number + k) % 40}", 0.5 / (k + 1)) for k in range(5)]
        segments = [(2.0 * k, 2.0 * k + 3, f"label {(number + k) % 40}", 0.5, 0.6) for k in range(10)]
        results.append(reports.plain(video, *tags) if number % 2 else reports.timeline(video, *segments))
        strips[video] = html.Strip(picture, 1024, 72, 8, 25.0)
    html.write(tmp_path / "report.html", results, strips)
    assert (tmp_path / "report.html").stat().st_size < 30e6
    before = time.perf_counter()
    page = visit(tmp_path / "report.html")
    loaded = time.perf_counter() - before
    page.fill("#find", "label 7")
    until(page, "document.getElementById('count').textContent.includes('of 1000')")
    assert loaded < 15 and time.perf_counter() - before < 20
