"""Decoding ahead: what needs no decoder starts none."""

import os

import pytest

from xclip_cli.errors import VideoError, XclipError
from xclip_cli.video.ahead import prefetch_clips
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.reader import open_reader


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_what_is_seen_to_be_no_video_starts_no_decoder(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    names = ["empty.mp4", "folder.mp4", "pipe.mp4", "gone.mp4", "nul\0.mp4"]
    requests = [(name, (str(tmp_path / name), 4)) for name in names]
    with DecodePool("auto", 1, _command=[str(tmp_path / "no such program")]) as pool:
        found = dict(pair for decoded in prefetch_clips(pool, requests, batch_size=2) for pair in decoded)
    reader = open_reader("auto", 1)
    for name in names:
        with pytest.raises(VideoError) as caught:
            reader.open(str(tmp_path / name))
        assert (found[name].message, found[name].hint) == (caught.value.message, caught.value.hint)


def test_a_decoder_is_asked_for_what_may_be_a_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with (
        DecodePool("auto", 1, _command=[str(tmp_path / "no such program")]) as pool,
        pytest.raises(XclipError, match=r"^a decoder process cannot be started: No such file"),
    ):
        list(prefetch_clips(pool, [("a", (str(tmp_path / "a.mp4"), 4))]))
