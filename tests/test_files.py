"""Hashes that follow the content, and writing that is whole or not at all."""

import hashlib
import os
import time

import pytest

from xclip_cli import files


def test_checksums_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(b"one")
    expected = hashlib.sha256(b"one").hexdigest()
    assert files.content_sha256(file) == expected
    with monkeypatch.context() as patch:
        patch.setattr(files, "hash_file", lambda path: pytest.fail("read again"))
        assert files.content_sha256(file) == expected
    time.sleep(0.01)
    file.write_bytes(b"two")
    assert files.content_sha256(file) == hashlib.sha256(b"two").hexdigest()
    [note] = (tmp_path / "cache" / "sha256").iterdir()
    for damage in ("", "x", "3 4 zz"):
        note.write_text(damage)
        assert files.content_sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_an_unwritable_cache_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_bytes(b"one")
    assert files.content_sha256(tmp_path / "file") == hashlib.sha256(b"one").hexdigest()


def test_a_file_of_the_same_size_and_time_is_read_again(tmp_path, monkeypatch):
    """As an unpacked archive makes one: a stale hash would pair old text features with a new model."""
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"one")
    times = os.stat(file).st_atime_ns, os.stat(file).st_mtime_ns
    assert files.content_sha256(file) == hashlib.sha256(b"one").hexdigest()
    time.sleep(0.02)  # a file system's clock ticks every few milliseconds
    file.write_bytes(b"two")
    os.utime(file, ns=times)
    assert files.content_sha256(file) == hashlib.sha256(b"two").hexdigest()
    other.write_bytes(b"six")
    os.utime(other, ns=times)
    other.replace(file)
    assert files.content_sha256(file) == hashlib.sha256(b"six").hexdigest()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "café\r\n")
    assert path.read_bytes() == "café\r\n".encode()
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as draft:
        draft.write_text("half of")
        raise KeyboardInterrupt
    assert path.read_bytes() == "café\r\n".encode() and os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(OSError):
        files.write_text(tmp_path / "no" / "a.txt", "x")


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "letter").write_text("Dear")
    (tmp_path / "a.txt").symlink_to("letter")
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "letter").read_text() == "Dear" and (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_what_is_written_has_the_permissions_that_the_user_gives(tmp_path):
    with files.replacing(tmp_path / "new") as draft:
        draft.unlink()
        os.close(os.open(draft, os.O_CREAT, 0o600))
    (tmp_path / "plain").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
