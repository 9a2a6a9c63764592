"""Frames a second, and files that bring a decoder down."""

import sys

import pytest

from xclip_cli.benchmark import decoding
from xclip_cli.video.reader import open_reader


def test_every_installed_reader_reads_every_frame(tmp_path, make_clip):
    path = str(make_clip(tmp_path / "a clip.mp4", num_frames=24))
    rows = list(decoding.run([path], threads=1, timeout_seconds=60))
    assert [row.reader for row in rows] == decoding.installed() and "opencv" in decoding.installed()
    for row in rows:
        assert row.error is None and (row.width, row.height, row.num_frames) == (64, 48, 24)
        assert row.clip_rate > 0 and row.whole_rate > 0


def test_a_file_that_cannot_be_read_is_a_row(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    for row in decoding.run([str(tmp_path / "bad.mp4"), str(tmp_path / "none.mp4")], 1, 60):
        assert row.error and row.clip_rate is None and row.path.rpartition("/")[2] in row.error


def test_a_decoder_that_hangs_or_crashes_costs_its_own_row(tmp_path, make_clip, monkeypatch):
    path = str(make_clip(tmp_path / "a.mp4"))
    assert all("not decoded within" in row.error for row in decoding.run([path], 1, 0.001))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert all("crashed the decoder" in row.error for row in decoding.run([path], 1, 60))


def test_a_long_video_is_read_in_parts(tmp_path, make_clip, monkeypatch):
    path = str(make_clip(tmp_path / "a.mp4", num_frames=10))
    most = []
    reader = open_reader("opencv")
    video = reader.open(path)
    ask = type(video).frames_at
    video.close()
    monkeypatch.setattr(type(video), "frames_at", lambda self, times: most.append(len(times)) or ask(self, times))
    assert decoding.read_whole(reader, path, bytes_at_once=3 * 64 * 48 * 3) == 10
    assert most == [3, 3, 3, pytest.approx(1)]
