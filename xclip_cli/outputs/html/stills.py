"""A strip of pictures of each video, for the report: decoded in processes that can be killed, small, one JPEG each."""

import io
from collections.abc import Callable, Sequence

from PIL import Image, ImageOps

from xclip_cli.outputs.html import Strip
from xclip_cli.settings import TagSettings
from xclip_cli.video.ahead import prefetch_clips
from xclip_cli.video.display import Resize
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.types import Clip

NUM_PICTURES = 8
_WIDTH, _LOWEST, _HIGHEST = 128, 48, 128  # of a picture, in pixels; beside one that is higher there are margins
_RESIZE = Resize(_HIGHEST, "shortest", "bilinear", antialias=True, rounding="floor")
_QUALITY = 50
_MARGIN = (27, 26, 24)


def strips(
    videos: Sequence[str], settings: TagSettings, on_progress: Callable[[int], None] = lambda done: None
) -> dict[str, Strip]:
    """The strips of the videos that decode, by video; reader, workers and time-out are those of the settings."""
    found = {}
    workers = min(settings.workers, len(videos)) or 1
    requests = ((video, (video, NUM_PICTURES)) for video in videos)
    with DecodePool(settings.reader, workers, settings.decode_timeout_seconds) as pool:
        for done, [(video, clip)] in enumerate(prefetch_clips(pool, requests, resize=_RESIZE), start=1):
            if isinstance(clip, Clip):
                found[video] = _strip(clip)
            on_progress(done)
    return found


def _strip(clip: Clip) -> Strip:
    """The clip's frames side by side, each whole in its box."""
    height, width = clip.frames.shape[1:3]
    box = _WIDTH, min(max(_WIDTH * height // width, _LOWEST), _HIGHEST)
    strip = Image.new("RGB", (_WIDTH * len(clip.frames), box[1]))
    for index, frame in enumerate(clip.frames):
        strip.paste(ImageOps.pad(Image.fromarray(frame), box, color=_MARGIN), (index * _WIDTH, 0))
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return Strip(file.getvalue(), *strip.size, len(clip.frames), clip.info.duration_seconds, clip.info.start_seconds)
