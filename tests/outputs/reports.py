"""Results and pictures for tests of the report."""

import io

from PIL import Image

from xclip_cli.outputs.html import Strip
from xclip_cli.results import UNKNOWN, Segment, Tag, VideoResult

SHOUT = "document.documentElement.dataset.owned=1"
HOSTILE = [
    f"<img src=x onerror={SHOUT}>",
    f'"onmouseover="{SHOUT}" x="',
    f"</script><script>{SHOUT}</script>",
    f"</style><script>{SHOUT}</script>",
    f"javascript:{SHOUT}",
    f"{{{{ {SHOUT} }}}} {{% raw %}}",
    "' autofocus onfocus='1",
    "a#b?c%d e&amp;f",
    "\u202egnp.4pm",
    "two\nlines\x1b[2J",
]


def strip(seconds, colour=(90, 120, 160)):
    file = io.BytesIO()
    Image.new("RGB", (8 * 128, 72), colour).save(file, "JPEG")
    return Strip(file.getvalue(), 1024, 72, 8, seconds)


def plain(video, *tags, seconds=10.0):
    """A video with one segment and several tags, given as (label, score)."""
    tags = tuple(Tag(label, score, 0.1) for label, score in tags)
    return VideoResult(video, "mini", "everyday", (Segment(0.0, seconds, tags),))


def timeline(video, *segments):
    """A video with segments of one tag each, given as (start, end, label, score, peak)."""
    made = (Segment(a, b, (Tag(label, score, 0.1, peak, (a + b) / 2),)) for a, b, label, score, peak in segments)
    return VideoResult(video, "mini", "everyday", tuple(made))


def failed(video, reason="it is no video"):
    return VideoResult(video, "mini", "everyday", error=reason)


def unknown(video):
    return VideoResult(video, "mini", "everyday", (Segment(0.0, 2.0, (Tag(UNKNOWN, None, None),)),))
