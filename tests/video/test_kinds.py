"""The kinds that users' files come in: turned, wide, interlaced, black, joined, cut, moved; which frame is proved."""

import shutil
import struct

import cv2
import numpy as np
import pytest
from as_shown import ALL_READERS, read_or_skip
from numbered_clips import FPS, HEIGHT, WIDTH, frame_with_number, number_in, run_ffmpeg

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "2")
FIELDS = ("-flags", "+ilme+ildct")
COUNT = 40
SAMPLED = [2, 7, 12, 17, 22, 27, 32, 37]  # of 40 frames, 8


@pytest.fixture(scope="module", params=ALL_READERS)
def reader(request):
    return request.param


@pytest.fixture
def plain(numbered):
    return numbered("kinds.mp4", COUNT, *X264, "-bf", "0", "-g", "10")


def numbers_of(clip) -> list[int]:
    return [number_in(cv2.resize(frame, (WIDTH, HEIGHT))) for frame in clip.frames]


def assert_sampled(clip, numbers=SAMPLED, seconds: float = COUNT / FPS, within: float = 0.05) -> None:
    assert numbers_of(clip) == numbers
    assert clip.info.duration_seconds == pytest.approx(seconds, abs=within)
    assert clip.warnings == ()


# The first two columns of a display matrix, and what turns the picture that it makes upright again.
MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda x: x),
    "90 clockwise": ((0, 1, -1, 0), lambda x: np.rot90(x, 1, (1, 2))),
    "180": ((-1, 0, 0, -1), lambda x: x[:, ::-1, ::-1]),
    "90 counter-clockwise": ((0, -1, 1, 0), lambda x: np.rot90(x, -1, (1, 2))),
    "left and right": ((-1, 0, 0, 1), lambda x: x[:, :, ::-1]),
    "top and bottom": ((1, 0, 0, -1), lambda x: x[:, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda x: x.transpose(0, 2, 1, 3)),
    "transposed the other way": ((0, -1, -1, 0), lambda x: x[:, ::-1, ::-1].transpose(0, 2, 1, 3)),
}


def write_matrix(source, target, matrix) -> None:
    a, b, c, d = (struct.pack(">i", value * 65536) for value in matrix)
    content = bytearray(source.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = a + b + bytes(4) + c + d + bytes(12) + struct.pack(">I", 1 << 30)
    target.write_bytes(content)


@pytest.mark.parametrize("fields", ["progressive", "interlaced"])
@pytest.mark.parametrize("wide", [1, 2])
@pytest.mark.parametrize("name", MATRICES)
def test_orientation_and_pixel_shape(reader, numbered, tmp_path, name, wide, fields):
    matrix, upright = MATRICES[name]
    interlaced = ("-x264opts", "tff=1", *FIELDS) if fields == "interlaced" else ()
    shape = f"scale={WIDTH // wide}:{HEIGHT},setsar={wide}" + (",setfield=tff" if interlaced else "")
    source = numbered(f"wide{wide}-{fields}.mp4", COUNT, "-vf", shape, *X264, *interlaced)
    write_matrix(source, tmp_path / "turned.mp4", matrix)
    clip = read_or_skip(reader, tmp_path / "turned.mp4")
    assert clip.frames.shape[1:3] == (clip.info.height, clip.info.width)
    height, width = upright(clip.frames).shape[1:3]
    assert width == 3 * height >= 96
    turned = np.stack([cv2.resize(frame, (WIDTH, HEIGHT)) for frame in upright(clip.frames)])
    assert [number_in(frame) for frame in turned] == SAMPLED
    foot, wanted = (frame[56].mean(0) for frame in (turned[-1], frame_with_number(SAMPLED[-1])))
    assert np.abs(foot - wanted).max() < 40  # it is tinted, and at the foot


@pytest.mark.parametrize("first", ["tff", "bff"])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", X264), ("ts", X264), ("mkv", X264), ("mpg", MPEG2), ("ts", MPEG2), ("avi", MPEG4)],
)
def test_interlaced(reader, numbered, suffix, codec, first):
    options = ("-x264opts", f"{first}=1") if codec is X264 else ()
    name = f"{codec[1]}-{first}.{suffix}"
    path = numbered(name, COUNT, "-vf", f"setfield={first}", *codec, *FIELDS, *options)
    clip = read_or_skip(reader, path)
    assert_sampled(clip, within=0.1)
    for number, frame in zip(SAMPLED, clip.frames, strict=True):
        assert np.abs(frame.astype(int) - frame_with_number(number)).mean() < 12


@pytest.mark.parametrize("first", ["top", "bottom"])
def test_fields_are_not_shown_as_a_comb(reader, tmp_path, first):
    """A white bar that moves by 8 pixels a field."""
    fields = np.zeros((60, HEIGHT, WIDTH, 3), np.uint8)
    for index, field in enumerate(fields):
        field[:, 8 + index * 2 % 128 : 40 + index * 2 % 128] = 255
    path = tmp_path / "bar.mp4"
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "50", "-i", "-")
    flag = {"top": "tff", "bottom": "bff"}[first]
    filters = f"tinterlace=interleave_{first},setfield={flag}"
    run_ffmpeg(*source, "-vf", filters, *X264, *FIELDS, "-x264opts", f"{flag}=1", path, stdin=fields.tobytes())
    frames = read_or_skip(reader, path).frames[1:-1].astype(int)
    comb = np.abs(frames[:, 1:-1] - (frames[:, :-2] + frames[:, 2:]) / 2).mean()
    assert comb < 0.6  # 2.6 where two fields are shown at once


def test_progressive_then_interlaced(reader, numbered, tmp_path):
    one = numbered("p.ts", COUNT, *X264)
    two = numbered("i.ts", COUNT, "-vf", "setfield=tff", *X264, *FIELDS, "-x264opts", "tff=1")
    for name, parts in {"pi.ts": (one, two), "ip.ts": (two, one)}.items():
        (tmp_path / name).write_bytes(b"".join(part.read_bytes() for part in parts))
        clip = read_or_skip(reader, tmp_path / name)
        assert_sampled(clip, [5, 15, 25, 35] * 2, 2 * COUNT / FPS, 0.1)


@pytest.mark.parametrize("options", [(), ("-vf", "setfield=tff", *FIELDS, "-x264opts", "tff=1")], ids=["p", "i"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_black_is_a_picture_too(reader, tmp_path, suffix, options):
    path = tmp_path / f"black.{suffix}"
    run_ffmpeg("-f", "lavfi", "-i", "color=black:s=192x64:r=25:d=1.6", *options, *X264, path)
    clip = read_or_skip(reader, path)
    assert clip.frames.max() <= 4 and clip.frames.shape == (8, 64, 192, 3)
    assert clip.info.duration_seconds == pytest.approx(1.6, abs=0.05) and clip.warnings == ()


@pytest.mark.parametrize("options", [(), (*FIELDS, "-x264opts", "tff=1")], ids=["p", "i"])
def test_a_fade_from_black_and_a_picture_that_stands_still(reader, tmp_path, options):
    fields = ",setfield=tff" if options else ""
    for name, filters in {"fade.mp4": "fade=in:0:20:start_frame=10", "still.mp4": "null"}.items():
        path = tmp_path / name
        white = ("-f", "lavfi", "-i", "color=white:s=192x64:r=25:d=1.6")
        run_ffmpeg(*white, "-vf", filters + fields, *X264, *options, path)
        means = read_or_skip(reader, path).frames.mean((1, 2, 3))
        wanted = np.clip((np.array(SAMPLED) - 10) / 20, 0, 1) * 255 if name == "fade.mp4" else np.full(8, 255)
        np.testing.assert_allclose(means, wanted, atol=26)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory, numbered):
    """A video to be chosen, a larger and a smaller one beside it, a cover."""
    folder = tmp_path_factory.mktemp("pieces")
    plain = numbered("kinds.mp4", COUNT, *X264, "-bf", "0", "-g", "10")
    for name, size in (("large", "384:128"), ("small", "96:32")):
        run_ffmpeg("-i", plain, "-vf", f"scale={size},negate", *X264, folder / f"{name}.mp4")
    cv2.imwrite(str(folder / "cover.jpg"), np.full((300, 300, 3), 90, np.uint8))
    return {"right": plain, **{path.stem: path for path in folder.iterdir()}}


STREAMS = {
    "second is the default.mkv": ("large right", "0", "default"),
    "second is the default.mp4": ("large right", "0", "default"),
    "first is the default.mkv": ("right large", "default", "0"),
    "third is the default.mkv": ("large small right", "0", "0", "default"),
    "no default.mkv": ("small right", "0", "0"),
    "no default.ts": ("small right",),
    "cover first.mkv": ("cover right", "0", "default"),
    "cover first.mp4": ("cover right", "attached_pic", "default"),
    "cover last.mp4": ("right cover", "default", "attached_pic"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_stream(reader, pieces, tmp_path, name):
    parts, *marks = STREAMS[name]
    inputs = [word for part in parts.split() for word in ("-i", pieces[part])]
    maps = [word for index in range(len(parts.split())) for word in ("-map", index)]
    marks = [word for index, mark in enumerate(marks) for word in (f"-disposition:v:{index}", mark)]
    run_ffmpeg(*inputs, *maps, "-c", "copy", *marks, tmp_path / name)
    clip = read_or_skip(reader, tmp_path / name)
    assert clip.frames.shape == (8, HEIGHT, WIDTH, 3)
    assert_sampled(clip, within=0.1)


@pytest.mark.parametrize(("suffix", "codec"), [("ts", X264), ("mpg", MPEG2), ("ts", MPEG2)])
def test_joined_parts(reader, numbered, tmp_path, suffix, codec):
    part = numbered(f"{codec[1]}.{suffix}", COUNT, *codec).read_bytes()
    for times in (2, 3):
        (tmp_path / f"{times}.{suffix}").write_bytes(part * times)
        clip = read_or_skip(reader, tmp_path / f"{times}.{suffix}", 4 * times)
        assert_sampled(clip, [5, 15, 25, 35] * times, times * COUNT / FPS, 0.15)
        np.testing.assert_allclose(clip.times_seconds, np.arange(4 * times) * 0.4 + 0.2, atol=0.09)


@pytest.mark.parametrize("stated", [0.0, 0.4, 60.0])
@pytest.mark.parametrize("codec", [X264, ("-c:v", "flv", "-q:v", "2")], ids=lambda codec: codec[1])
def test_a_header_that_lies(reader, numbered, tmp_path, codec, stated):
    content = bytearray(numbered(f"{codec[1]}.flv", COUNT, *codec).read_bytes())
    start = content.index(b"duration") + 9
    content[start : start + 8] = struct.pack(">d", stated)
    (tmp_path / "stale.flv").write_bytes(content)
    assert_sampled(read_or_skip(reader, tmp_path / "stale.flv"), within=0.06)


def test_edit_lists(reader, plain, tmp_path):
    run_ffmpeg("-ss", "0.92", "-i", plain, "-c", "copy", tmp_path / "start.mp4")  # key frames are at 0.8 and 1.2 s
    assert_sampled(read_or_skip(reader, tmp_path / "start.mp4", 4), [25, 29, 33, 37], 17 / FPS)
    content = bytearray(plain.read_bytes())
    start = content.index(b"elst") + 12
    content[start : start + 4] = struct.pack(">I", 800)
    (tmp_path / "end.mp4").write_bytes(content)
    assert_sampled(read_or_skip(reader, tmp_path / "end.mp4", 4), [2, 7, 12, 17], 0.8)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4", "flv"])
@pytest.mark.parametrize("offset", [3600, 95443 - 1])
def test_a_clock_that_does_not_begin_at_nought(reader, plain, tmp_path, suffix, offset):
    """The second offset makes the 33-bit clock of a transport stream start anew in the middle."""
    path = tmp_path / f"late.{suffix}"
    run_ffmpeg("-i", plain, "-c", "copy", "-output_ts_offset", offset, path)
    assert_sampled(read_or_skip(reader, path), within=0.1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_longer_sound_is_no_longer_video(reader, plain, tmp_path, suffix):
    path = tmp_path / f"sound.{suffix}"
    codec = MPEG4 if suffix == "avi" else ("-c:v", "copy")
    run_ffmpeg("-i", plain, "-f", "lavfi", "-i", "sine=d=9", *codec, "-c:a", "mp2", path)
    assert_sampled(read_or_skip(reader, path), within=0.1)


@pytest.mark.parametrize("rate", [500, 2000])
def test_many_frames_a_second(reader, plain, tmp_path, rate):
    run_ffmpeg("-r", rate, "-i", plain, "-r", rate, *X264, tmp_path / "fast.mp4")
    clip = read_or_skip(reader, tmp_path / "fast.mp4")
    assert clip.info.duration_seconds == pytest.approx(COUNT / rate, abs=1.5 / rate)
    assert np.abs(np.array(numbers_of(clip)) - SAMPLED).max() <= 1


@pytest.mark.parametrize("durations", [[100] * 10, [50, 200] * 5], ids=["even", "uneven"])
@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "a.avif", "webp named.mp4", "png named.jpg"])
def test_animations(reader, tmp_path, name, durations):
    image = pytest.importorskip("PIL.Image")
    format_name = name.split(" ")[0] if " " in name else name.rsplit(".", 1)[1]
    if format_name == "avif" and not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip("Pillow without AVIF")
    frames = [image.fromarray(frame_with_number(number)) for number in range(10)]
    options = {"webp": {"lossless": True}, "avif": {"quality": 90}}.get(format_name, {})
    path = tmp_path / f"made.{format_name}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)
    shutil.copy(path, tmp_path / name)
    clip = read_or_skip(reader, tmp_path / name)
    starts = np.concatenate([[0], np.cumsum(durations)]) / 1000
    numbers = np.searchsorted(starts, (np.arange(8) + 0.5) / 8 * starts[-1] + 0.0005, "right") - 1
    assert_sampled(clip, numbers.tolist(), starts[-1], 0.011)
    np.testing.assert_allclose(clip.times_seconds, starts[numbers], atol=0.002)
