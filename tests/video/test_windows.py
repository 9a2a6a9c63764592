"""Which windows a video is cut into, and that their frames come once, in order, and in little memory."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_clips import number_in

from xclip_cli.errors import VideoError
from xclip_cli.video import stream
from xclip_cli.video.display import Resize
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.reader import open_reader, read_clip
from xclip_cli.video.sampling import clip_times, steps, windows
from xclip_cli.video.stream import Windowing

fixed = settings(derandomize=True, deadline=None, database=None, max_examples=100)
SMALL = Resize(32, "shortest", "bilinear", antialias=True, rounding="floor")
H264 = ("-c:v", "libx264", "-g", "12", "-pix_fmt", "yuv420p")


def test_windows_share_the_frames_of_a_stride_that_divides():
    plan = windows(3600, 8, 4, 2)
    assert len(plan.spans) == 1799 and len(plan.times) == 7200
    np.testing.assert_array_equal(plan.spans[[0, -1]], [[0, 4], [3596, 3600]])
    np.testing.assert_allclose(plan.times[:3], [0.25, 0.75, 1.25])
    assert plan.index[1].tolist() == list(range(4, 12))


def test_the_last_window_ends_with_the_video():
    np.testing.assert_allclose(windows(11, 8, 4, 2).spans[-2:], [[6, 10], [7, 11]])
    np.testing.assert_allclose(windows(10.2, 8, 4, 2).spans[-1], [6, 10])  # nobody would look at the rest
    np.testing.assert_allclose(windows(1.5, 8, 4, 2).spans, [[0, 1.5]])


def test_absurd_numbers_are_refused():
    for size in ((0, 1), (1, 0), (-1, 1), (1, 1e-9)):
        with pytest.raises(ValueError):
            windows(60, 8, *size)


sizes = st.sampled_from([(8, 4.0, 2.0), (8, 4.0, 1.3), (4, 1.0, 5.0), (16, 8.0, 4.0), (3, 0.1, 0.7)])


@fixed
@given(st.floats(0, 300), sizes, st.lists(st.floats(0, 300), max_size=4))
def test_every_window_is_looked_at_as_a_clip_of_its_own(stop, size, cuts):
    num_frames, window, stride = size
    plan = windows(stop, num_frames, window, stride, cuts)
    assert (np.diff(plan.times) > 0).all() and (np.diff(plan.spans[:, 0]) >= 0).all()
    for (start, end), row in zip(plan.spans, plan.index, strict=True):
        np.testing.assert_allclose(plan.times[row], clip_times(start, end, num_frames)[0], atol=1e-6)
        assert end - start <= window + 1e-9 and not any(start < cut < end for cut in cuts)
    assert set(plan.index.ravel()) == set(range(len(plan.times)))


@fixed
@given(st.floats(0, 120), sizes, st.integers(1, 40), st.data())
def test_steps_give_every_window_once_and_the_same_batches_from_anywhere(stop, size, num_times, data):
    plan = windows(stop, *size)
    whole = list(steps(plan, num_times))
    assert [w for s in whole for w in range(s.windows.start, s.windows.stop)] == list(range(len(plan.spans)))
    first = data.draw(st.integers(0, len(plan.spans)))
    later = list(steps(plan, num_times, first))
    assert {(s.times.start, s.times.stop) for s in later} <= {(s.times.start, s.times.stop) for s in whole}
    seen = set()
    for step in later:
        seen |= set(range(step.times.start, step.times.stop))
        assert all(set(row) <= seen for row in plan.index[step.windows])
        seen -= set(range(step.needed))
    assert [w for s in later for w in range(s.windows.start, s.windows.stop)] == list(range(first, len(plan.spans)))


def frames_of(pieces):
    """The pieces' windows as arrays of frames."""
    kept, found = {}, []
    for piece in pieces:
        assert len(piece.clip.frames) <= stream.NUM_TIMES
        assert (np.diff([max(kept, default=-1), *piece.numbers]) > 0).all()
        kept.update(zip(piece.numbers, piece.clip.frames, strict=True))
        found += [
            (tuple(span), np.stack([kept[i] for i in row])) for span, row in zip(piece.spans, piece.index, strict=True)
        ]
        kept = {number: frame for number, frame in kept.items() if number >= piece.needed}
    return found


@pytest.mark.parametrize("reader", ["opencv", "pyav"])
def test_streamed_windows_are_clips_of_their_spans(numbered, reader):
    path = numbered("streamed.mp4", 250, *H264)
    with DecodePool(reader, workers=1) as pool:
        found = frames_of(pool.stream(path, Windowing(4, 2.0, 1.0), SMALL))
        later = frames_of(pool.stream(path, Windowing(4, 2.0, 1.0), SMALL, first_window=6))
    assert [span for span, _ in found] == [(k, k + 2) for k in range(9)]
    for (start, stop), frames in found:
        expected = read_clip(open_reader(reader), str(path), 4, 1, start, stop, SMALL)
        np.testing.assert_array_equal(frames, expected.frames)
    for (span, frames), (later_span, later_frames) in zip(found[6:], later, strict=True):
        assert span == later_span
        np.testing.assert_array_equal(frames, later_frames)


def test_a_video_whose_tail_does_not_decode_is_planned_anew(numbered, tmp_path):
    path = numbered("streamed.mp4", 250, *H264)
    cut = tmp_path / "cut.mp4"
    data = bytearray(path.read_bytes())
    half = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[half:] = b"\0" * (len(data) - half) if data.index(b"moov") < half else data[half:]
    if data.index(b"moov") > half:  # the index lies behind the pictures: only these are wiped out
        data[half : data.index(b"moov") - 4] = b"\0" * (data.index(b"moov") - 4 - half)
    cut.write_bytes(data)
    with DecodePool("pyav", workers=1) as pool:
        pieces = list(pool.stream(cut, Windowing(4, 2.0, 1.0), SMALL))
    end = pieces[-1].clip.end_seconds
    assert end is not None and 2 < end < 9
    found = frames_of(pieces)
    assert found[-1][0][1] == pytest.approx(end, abs=0.25)
    assert len(found) == len(windows(end, 4, 2.0, 1.0).spans)
    assert any("nothing decodes after" in warning for warning in pieces[-1].clip.warnings)


def test_a_video_that_became_shorter_is_an_error(numbered):
    with DecodePool("opencv", workers=1) as pool, pytest.raises(VideoError, match="ends earlier"):
        list(pool.stream(numbered("streamed.mp4", 250, *H264), Windowing(4, 2.0, 1.0), first_window=9))


def test_pieces_are_decoded_no_more_than_a_few_ahead(numbered):
    path = numbered("streamed.mp4", 250, *H264)
    with DecodePool("opencv", workers=1) as pool:
        pieces = pool.stream(path, Windowing(4, 0.4, 0.1), SMALL)
        first = next(iter(pieces))
        assert len(first.clip.frames) == stream.NUM_TIMES and pieces._ready.qsize() <= 2


def test_a_video_that_cannot_be_read_ends_its_own_stream_alone(numbered, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    good = numbered("streamed.mp4", 250, *H264)
    with DecodePool(workers=1) as pool:
        streams = [pool.stream(path, Windowing(4, 2.0, 2.0)) for path in (good, tmp_path / "x.mp4", good)]
        assert len(frames_of(streams[0])) == 5
        with pytest.raises(VideoError, match="holds no video"):
            list(streams[1])
        assert len(frames_of(streams[2])) == 5


HANGING = """
import sys, time
import numpy as np
from xclip_cli.video.display import Display
from xclip_cli.video.types import Video as Base, VideoInfo
from xclip_cli.video.worker import serve

class Video(Base):
    reader = "hanging"
    info, display, missing_seconds = VideoInfo(4, 3, 60.0, 600, 10.0), Display("'hanging'", 4, 3), 0.0
    def __init__(self, path):
        self.path = path
    def frame_at(self, at):
        if at > 30:
            time.sleep(600) if self.path.endswith("hang") else sys.exit(3)
        return np.full((3, 4, 3), 7, np.uint8), at
    def close(self):
        pass

class Reader:
    open = Video

serve(Reader())
"""


@pytest.mark.parametrize(("name", "message"), [("hang", "was not decoded within 1 s"), ("exit", "crashed the decoder")])
def test_a_decoder_that_hangs_or_dies_in_the_middle_ends_the_stream(name, message):
    command = (sys.executable, "-c", HANGING)
    with DecodePool(workers=1, timeout_seconds=1, _command=command) as pool:
        found = []
        with pytest.raises(VideoError, match=message):
            for piece in pool.stream(name, Windowing(4, 2.0, 2.0)):
                found.append(piece)
        assert len(found) == 1  # 32 frames, half a second apart
        assert pool.submit("x", 2, start_seconds=0, stop_seconds=9).result().frames.max() == 7


def test_shot_changes_are_found_and_not_crossed(tmp_path):
    pytest.importorskip("scenedetect")
    import cv2

    path = tmp_path / "shots.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (160, 120))
    rng = np.random.default_rng(0)
    for shade in ((200, 30, 30), (20, 180, 40), (30, 40, 220)):
        ground = (rng.random((120, 160, 3)) * 40 + shade).clip(0, 255).astype(np.uint8)
        for number in range(60):
            writer.write(np.roll(ground, number, axis=1))
    writer.release()
    with DecodePool(workers=1) as pool:
        pieces = list(pool.stream(path, Windowing(4, 1.0, 0.5, scenes=True), SMALL))
    spans, scenes = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("spans", "scenes"))
    assert scenes.max() == 2
    for cut in (2.4, 4.8):
        assert (spans[:, 1] <= cut + 1e-6).sum() + (spans[:, 0] >= cut - 1e-6).sum() == len(spans)


def test_a_frame_is_the_one_of_its_time(numbered):
    path = numbered("streamed.mp4", 250, *H264)
    with DecodePool(workers=1) as pool:
        [(_, frames), *_] = frames_of(pool.stream(path, Windowing(4, 2.0, 1.0)))
    assert [number_in(frame) for frame in frames] == [6, 18, 31, 43]
