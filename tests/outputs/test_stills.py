import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from xclip_cli.outputs.html.stills import NUM_PICTURES, strips
from xclip_cli.settings import TagSettings
from xclip_cli.video.reader import open_reader, read_clip


@pytest.mark.parametrize(("size", "height"), [((192, 108), 72), ((160, 120), 96), ((90, 160), 128), ((400, 80), 48)])
def test_pictures_stand_side_by_side_in_order_and_whole(tmp_path, make_clip, size, height):
    video = str(make_clip(tmp_path / "a.mp4", num_frames=24, size=size))
    [(name, strip)] = strips([video], TagSettings(workers=1)).items()
    picture = Image.open(io.BytesIO(strip.jpeg))
    assert name == video and picture.format == "JPEG"
    assert picture.size == (strip.width, strip.height) == (NUM_PICTURES * 128, height)
    assert strip.duration_seconds == pytest.approx(2.0) and len(strip.jpeg) < 20_000
    frames = read_clip(open_reader("opencv"), video, NUM_PICTURES).frames
    boxes = [ImageOps.pad(Image.fromarray(frame), (128, height), color=(27, 26, 24)) for frame in frames]
    assert np.abs(np.asarray(picture).astype(int) - np.concatenate(boxes, axis=1)).mean() < 6
    assert len({frame.tobytes() for frame in frames}) == NUM_PICTURES


def test_a_video_that_does_not_decode_has_none_and_the_rest_goes_on(tmp_path, make_clip):
    (tmp_path / "b.mp4").write_bytes(b"no video")
    videos = [str(tmp_path / "b.mp4"), str(make_clip(tmp_path / "a.mp4"))]
    done = []
    assert list(strips(videos, TagSettings(workers=1), done.append)) == videos[1:] and done == [1, 2]
    assert strips([], TagSettings()) == {}
