"""Files that are no plain video, and names that a decoder could misread: a clip, or one line of what is wrong."""

import os
import shutil
import struct

import cv2
import numpy as np
import pytest
from numbered_clips import FPS, frame_with_number, number_in, run_ffmpeg

from xclip_cli.errors import VideoError
from xclip_cli.video import display
from xclip_cli.video.reader import READERS, open_reader, read_clip

MPEG4 = ("-c:v", "mpeg4", "-q:v", "3")


@pytest.fixture(scope="module", params=READERS)
def reader(request):
    if request.param == "decord":
        pytest.importorskip("decord")
    return open_reader(request.param)


@pytest.fixture
def plain(numbered):
    return numbered("plain.mp4", 40, *MPEG4)


def numbers_of(reader, path) -> list[int]:
    return [number_in(frame) for frame in read_clip(reader, os.fspath(path), 4).frames]


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "new\nline.mp4",
        "quote'\"`.mp4",
        "back\\slash.mp4",
        "clip_%02d.mp4",
        "100%.mp4",
        "img_%03d.png",
        "star*?[a].mp4",
        "-i.mp4",
        "concat:a|b.mp4",
        "file:x.mp4",
        "http:",
        "日本語 🎬.mp4",
        b"not-utf8-\xff\xfe.mp4",
        "no suffix",
        "wrong.jpg",
        "wrong.avi",
    ],
    ids=repr,
)
def test_names(reader, plain, tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    shutil.copy(plain, path)
    cv2.imwrite(str(tmp_path / "img_001.png"), np.zeros((8, 8, 3), np.uint8))  # what the pattern would find
    assert numbers_of(reader, os.fsdecode(path)) == [5, 15, 25, 35]


def test_a_relative_name_that_looks_like_an_address(reader, plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "localhost").mkdir()
    shutil.copy(plain, "http:/localhost/a.mp4")
    assert numbers_of(reader, "http://localhost/a.mp4") == [5, 15, 25, 35]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".mp4"])
def test_a_still_image_is_one_frame(reader, tmp_path, suffix):
    image = tmp_path / f"still{suffix}"
    frame = frame_with_number(1234)
    encoded = cv2.imencode(suffix.replace("mp4", "png"), frame[..., ::-1])[1]
    image.write_bytes(encoded.tobytes())
    clip = read_clip(reader, str(image), 8)
    assert [number_in(shown) for shown in clip.frames] == [1234] * 8
    assert clip.times_seconds.tolist() == [0.0] * 8
    assert (clip.info.duration_seconds, clip.info.num_frames, clip.warnings) == (0.0, 1, ())


def test_a_photo_is_turned_as_its_exif_says(reader, tmp_path):
    jpeg = cv2.imencode(".jpg", frame_with_number(77)[..., ::-1])[1].tobytes()
    orientation = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(orientation) + 2) + orientation + jpeg[2:])
    clip = read_clip(reader, str(photo), 1)
    assert clip.frames.shape == (1, 192, 64, 3)
    assert number_in(np.rot90(clip.frames[0])) == 77


def test_grey_and_see_through_images(reader, tmp_path):
    for name, shape in (("grey.png", (5, 7)), ("alpha.png", (5, 7, 4))):
        cv2.imwrite(str(tmp_path / name), np.full(shape, 90, np.uint8))
        assert read_clip(reader, str(tmp_path / name), 2).frames.shape == (2, 5, 7, 3)


def test_gif(plain, tmp_path):
    run_ffmpeg("-i", plain, tmp_path / "a.gif")
    clip = read_clip(open_reader("opencv"), str(tmp_path / "a.gif"), 4)
    assert [number_in(frame) for frame in clip.frames] == [5, 15, 25, 35]
    np.testing.assert_allclose(clip.times_seconds, np.array([5, 15, 25, 35]) / FPS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"This is a letter, not a video.\n" * 50, "holds no video stream"),
        (bytes(4096), "holds no video stream"),
        (b"\x89PNG\r\n\x1a\nbroken", "cannot be decoded as an image"),
        (b"\xff\xd8\xff\xe0broken", "cannot be decoded as an image"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "is a playlist"),
        (b"\xef\xbb\xbf#EXTM3U\n", "is a playlist"),
    ],
)
def test_what_is_no_video(reader, tmp_path, content, message):
    path = tmp_path / "two\nlines.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=message) as caught:
        read_clip(reader, str(path), 8)
    assert "\n" not in caught.value.message and r"'two\nlines.mp4'" in caught.value.message


def test_audio_alone(reader, bikes, tmp_path):
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "tone.mp4")
    with pytest.raises(VideoError, match="holds no video stream"):
        read_clip(reader, str(tmp_path / "tone.mp4"), 8)


def test_a_header_without_frames(reader, plain, tmp_path):
    content = plain.read_bytes()
    run_ffmpeg("-i", plain, "-c", "copy", "-movflags", "faststart", tmp_path / "fast.mp4")
    content = (tmp_path / "fast.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(VideoError):
        read_clip(reader, str(tmp_path / "cut.mp4"), 8)


def test_what_is_no_regular_file(reader, tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    for name, message in {
        "folder.mp4": "is a directory",
        "pipe.mp4": "not a regular file",
        "loop.mp4": "cannot be opened: Too many levels",
        "device.mp4": "not a regular file",
        "absent.mp4": "cannot be opened: No such file",
        "nul\0.mp4": "cannot be opened",
    }.items():
        with pytest.raises(VideoError, match=message):
            read_clip(reader, str(tmp_path / name), 8)


def test_links_are_followed(reader, plain, tmp_path):
    (tmp_path / "one.mp4").symlink_to(plain)
    (tmp_path / "two.mp4").symlink_to("one.mp4")
    assert numbers_of(reader, tmp_path / "two.mp4") == [5, 15, 25, 35]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(reader, plain, tmp_path):
    shutil.copy(plain, tmp_path / "mine.mp4")
    (tmp_path / "mine.mp4").chmod(0)
    with pytest.raises(VideoError, match="Permission denied"):
        read_clip(reader, str(tmp_path / "mine.mp4"), 8)


def test_no_address_is_ever_opened(reader, ear, tmp_path):
    server, asked = ear
    address = f"{server}/a.ts"
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n"
    for name, content in {"a.m3u8": text, "b.mp4": "\n" + text, "c.txt": f"# a comment\n{address}\n"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(VideoError):
            read_clip(reader, str(tmp_path / name), 8)
    with pytest.raises(VideoError):
        read_clip(reader, address, 8)
    assert asked == []


def test_absurd_sizes_are_refused_before_memory_is_taken(reader, plain, monkeypatch):
    monkeypatch.setattr(display, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(VideoError, match=r"frames of 192x64; at most 1000 pixels"):
        read_clip(reader, str(plain), 8)
    monkeypatch.undo()
    with pytest.raises(VideoError, match="at most 4294967296"):
        read_clip(reader, str(plain), 4000, 100)


@pytest.mark.parametrize("span", [(5.0, None), (-1.0, None), (1.0, 1.0), (1.0, 0.5), (None, 0.0)])
def test_a_span_outside_the_video(reader, plain, span):
    with pytest.raises(VideoError, match=r"is empty or not in 0 to 1\.600 s"):
        read_clip(reader, str(plain), 8, start_seconds=span[0], stop_seconds=span[1])
