"""Hashes that follow the content, and writing that is whole or not at all."""

import hashlib
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xclip_cli import files
from xclip_cli.errors import UsageError
from xclip_cli.settings import num_cores


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


def test_a_link_that_the_user_named_stays_and_its_target_is_replaced_in_its_own_folder(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "letter").write_text("Dear")
    (tmp_path / "a.txt").symlink_to("b.txt")
    (tmp_path / "b.txt").symlink_to("far/letter")
    with files.replacing(tmp_path / "a.txt", follow_link=True) as draft:
        assert draft.parent == (tmp_path / "far").resolve()
        draft.write_text("new")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "b.txt").is_symlink()
    assert (tmp_path / "far" / "letter").read_text() == "new" and os.listdir(tmp_path / "far") == ["letter"]


def test_a_link_to_nothing_makes_its_target_and_a_loop_is_refused(tmp_path):
    (tmp_path / "new.csv").symlink_to("target.csv")
    files.check_destination(tmp_path / "new.csv")
    files.write_text(tmp_path / "new.csv", "x", follow_link=True)
    assert (tmp_path / "target.csv").read_text() == "x" and (tmp_path / "new.csv").is_symlink()
    (tmp_path / "lost.csv").symlink_to("no-folder/target.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for name in ("lost.csv", "loop.csv"):
        with pytest.raises(UsageError):
            files.check_destination(tmp_path / name)
        with pytest.raises(OSError):
            files.write_text(tmp_path / name, "x", follow_link=True)


def test_what_is_no_file_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, kind in ((tmp_path / "fifo", "FIFO"), (tmp_path / "socket", "socket"), ("/dev/null", "device")):
            (tmp_path / "link").unlink(missing_ok=True)
            (tmp_path / "link").symlink_to(path)
            for name in (Path(path), tmp_path / "link"):
                with pytest.raises(UsageError, match=f"is a {kind}, not a file"):
                    files.check_destination(name)
                with pytest.raises(OSError):
                    files.write_text(name, "x", follow_link=True)
    assert not (tmp_path / "fifo").is_file() and not os.path.isfile("/dev/null")
    assert sorted(os.listdir(tmp_path)) == ["fifo", "link", "socket"]


def test_a_mode_is_kept_while_it_is_written_too(tmp_path):
    path = tmp_path / "a.csv"
    for mode in (0o600, 0o644, 0o660, 0o444):
        path.touch()
        path.chmod(mode)
        with files.replacing(path) as draft:
            assert stat.S_IMODE(draft.stat().st_mode) == mode | 0o600
            draft.write_text("x")
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_an_owner_is_kept(tmp_path):
    path = tmp_path / "a.csv"
    path.touch()
    os.chown(path, 12345, 23456)
    files.write_text(path, "x")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "射" * 83 + ".csv"])
def test_every_name_that_the_file_system_takes_can_be_written(name, tmp_path):
    path = tmp_path / name
    files.write_text(path, "x")
    assert path.read_text() == "x"
    journal = files.beside(path, ".journal.windows")
    journal.touch()
    assert len(os.fsencode(journal.name)) <= 255 and journal.name.endswith(".journal.windows")
    assert files.beside(tmp_path / ("x" + name[1:]), ".journal") != files.beside(
        tmp_path / ("y" + name[1:]), ".journal"
    )
    assert files.beside(tmp_path / "a.csv", ".journal") == tmp_path / "a.csv.journal"


def test_drafts_of_dead_processes_go_with_the_next_run_and_those_of_others_stay(tmp_path):
    """A draft says which process of which machine writes it; what only looks like one is nobody's to delete."""
    code = (
        "import os; from pathlib import Path; from xclip_cli.files import replacing\n"
        "with replacing(Path('a.csv')) as draft: print(draft, flush=True); os.kill(os.getpid(), 9)"
    )
    dead = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    host = dead.split("-")[1]
    stay = {
        f".xclip-{host}-{os.getppid()}-00000000.part",  # of a process that runs
        f".xclip-{'0' * 8}-1-00000000.part",  # of another machine
        f".xclip-{host}-x-00000000.part",
        "a.part",
    }
    go = {dead, f".xclip-{host}-{os.getpid()}-00000000.part", f".xclip-{'1' * 8}-1-00000000.part"}
    for name in (stay | go) - {dead}:
        (tmp_path / name).touch()
    os.utime(tmp_path / f".xclip-{'1' * 8}-1-00000000.part", (1, 1))  # of another machine, long ago
    (tmp_path / f".xclip-{host}-1-11111111.part").mkdir()
    assert go <= set(os.listdir(tmp_path))
    files.write_text(tmp_path / "a.csv", "x")
    assert set(os.listdir(tmp_path)) == stay | {"a.csv", f".xclip-{host}-1-11111111.part"}


NO_HOME = """
import os, pwd, sys
def unknown(_):
    raise KeyError
pwd.getpwuid = unknown
from pathlib import Path
from xclip_cli import files
from xclip_cli.errors import StoreError
folder = files.cache_dir()
assert folder.is_dir() and folder == files.cache_dir()
files.content_sha256(Path(sys.executable))
try:
    files.index_dir()
except StoreError as error:
    assert "--index" in error.hint
else:
    raise AssertionError
print(folder)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="folders as on Linux")
def test_without_a_home_the_cache_is_a_folder_of_the_process_and_the_index_wants_a_name(tmp_path):
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", NO_HOME], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(done.stdout.strip()) and os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="folders as on Linux")
def test_cache_and_index_lie_where_the_environment_says(tmp_path, monkeypatch):
    for name in ("XCLIP_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / ".cache" / "xclip-cli"
    assert files.index_dir() == tmp_path / ".local" / "share" / "xclip-cli" / "index"
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    monkeypatch.setenv("XDG_DATA_HOME", "/d")
    assert str(files.cache_dir()) == "/c/xclip-cli" and str(files.index_dir()) == "/d/xclip-cli/index"
    monkeypatch.setenv("XCLIP_CACHE", "/own")
    assert str(files.cache_dir()) == "/own"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen")
def test_cores_are_those_that_the_process_may_use():
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, own)
    assert num_cores() == len(own)
