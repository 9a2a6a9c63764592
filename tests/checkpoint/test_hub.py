import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import serve

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.registry import MODELS
from xclip_cli.errors import ModelError

SPEC = MODELS["xclip-base-patch32"]


WEIGHTS = bytes(range(256)) * 20000  # 5 MB
PAGE = "/{repo_id}/resolve/{revision}/{filename}"
FILES = {"config.json": b'{"model_type": "xclip"}', "model.safetensors": WEIGHTS}


@pytest.fixture
def local_hub(monkeypatch, tmp_path):
    """A hub on loopback with someone/xclip, which the client asks, and an empty cache."""
    import huggingface_hub.constants as constants

    with serve(dict(FILES)) as server:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(hub, "_PAUSE_SECONDS", 0.01)
        yield server


def blob(server, tmp_path, name="model.safetensors"):
    return tmp_path / "models--someone--xclip" / "blobs" / server.checksum(name)


def downloads(server, name="model.safetensors"):
    """The Range of each download of the file."""
    return [part for method, file, part in server.asked if method == "GET" and file == name]


def refused(match, repository="someone/xclip"):
    with pytest.raises(ModelError, match=match) as caught:
        hub.pull(repository)
    assert "\n" not in caught.value.message + caught.value.hint and len(caught.value.message) < 400
    return caught.value


def test_pull_takes_config_preprocessor_and_the_safe_weights(local_hub, tmp_path):
    local_hub.files |= {"preprocessor_config.json": b"{}", "pytorch_model.bin": b"not this"}
    path = hub.pull("someone/xclip")
    assert path.read_bytes() == WEIGHTS and path.parent == hub.snapshot("someone/xclip")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    before = len(local_hub.asked)
    assert hub.pull("someone/xclip") == path
    assert all(method == "HEAD" for method, *_ in local_hub.asked[before:])
    assert [file.name for file in tmp_path.rglob("*.incomplete")] == []


def test_pull_takes_the_pickle_where_there_is_nothing_else(local_hub):
    local_hub.files["pytorch_model.bin"] = local_hub.files.pop("model.safetensors")
    assert hub.pull("someone/xclip").name == "pytorch_model.bin"


def test_a_dropped_connection_goes_on_where_it_was(local_hub):
    local_hub.bodies["model.safetensors"] = [3_000_000, 1_000_000]
    assert hub.pull("someone/xclip").read_bytes() == WEIGHTS
    assert downloads(local_hub) == [None, "bytes=3000000-", "bytes=4000000-"]


def begin(part):
    return int(part.removeprefix("bytes=").removesuffix("-"))


def test_what_a_kill_left_is_not_downloaded_again(local_hub, tmp_path):
    part = blob(local_hub, tmp_path).with_name(blob(local_hub, tmp_path).name + ".incomplete")
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS[:4_000_000])
    assert hub.pull("someone/xclip").read_bytes() == WEIGHTS
    assert downloads(local_hub) == ["bytes=4000000-"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_pull_goes_on(local_hub, tmp_path):
    """The program is killed in the middle of a file; the next one asks for the rest alone."""
    gate = threading.Event()

    def half(body):
        gate.wait(60)
        return body

    local_hub.bodies["model.safetensors"] = [2_000_000, half]  # drops after 2 MB; then waits
    environment = os.environ | {"HF_ENDPOINT": local_hub.url, "HF_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "xclip_cli", "models", "pull", "someone/xclip"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(downloads(local_hub)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    gate.set()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert Path(done.stdout.strip()).read_bytes() == WEIGHTS
    assert begin(downloads(local_hub)[-1]) > 1_000_000


def test_a_server_that_knows_no_ranges_sends_all_again(local_hub):
    local_hub.knows_ranges, local_hub.bodies["model.safetensors"] = False, [3_000_000]
    assert hub.pull("someone/xclip").read_bytes() == WEIGHTS


def test_wrong_bytes_are_refused_and_not_kept(local_hub, tmp_path):
    local_hub.bodies["model.safetensors"] = [lambda body: b"x" + body[1:]]
    assert "same command again" in refused("does not have the checksum").hint
    assert hub.local_file(SPEC) is None and not any(tmp_path.rglob("*.incomplete"))
    assert hub.pull("someone/xclip").read_bytes() == WEIGHTS


def test_wrong_bytes_of_a_small_file_are_refused(local_hub):
    local_hub.bodies["config.json"] = [lambda body: body.upper()]
    refused("does not have the checksum")


def test_a_server_that_always_drops_is_given_up(local_hub):
    local_hub.bodies["model.safetensors"] = [0] * 50
    refused("cannot be reached|bytes arrived")
    assert len(downloads(local_hub)) == hub._TRIES
    local_hub.bodies.clear()
    assert hub.pull("someone/xclip").read_bytes() == WEIGHTS


@pytest.mark.parametrize("content", [b"", WEIGHTS[:1000], b"x" * len(WEIGHTS)])
def test_pull_mends_a_damaged_file(local_hub, tmp_path, content):
    path = hub.pull("someone/xclip")
    path.resolve().write_bytes(content)
    assert hub.pull("someone/xclip").read_bytes() == WEIGHTS


def test_pull_mends_a_dangling_link(local_hub):
    path = hub.pull("someone/xclip")
    path.resolve().unlink()
    assert hub.pull("someone/xclip").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        ((401, "GatedRepo"), "is gated", "HF_TOKEN"),
        ((403, "GatedRepo"), "is gated", "/someone/xclip, then set HF_TOKEN"),
        ((401, "RepoNotFound"), "does not exist, or is private", "HF_TOKEN"),
        ((404, "RepoNotFound"), "does not exist, or is private", "HF_TOKEN"),
        ((401, None), "does not exist, or is private|refuses access", "HF_TOKEN"),
        ((403, None), r"refuses access \(HTTP 403\)", "HF_TOKEN"),
        ((404, "RevisionNotFound"), "HTTP 404", "again"),
        ((500, None), "HTTP 500", "again"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(local_hub, answer, message, hint):
    local_hub.refuse = answer
    assert hint in refused(message).hint


def test_a_repository_without_a_model_says_so(local_hub):
    local_hub.files.clear()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        hub.pull("someone/xclip")
    local_hub.files["config.json"] = b"{}"
    with pytest.raises(ModelError, match=r"has no model\.safetensors and no pytorch_model\.bin"):
        hub.pull("someone/xclip")


def test_a_server_that_states_no_checksum_is_refused(local_hub, monkeypatch):
    monkeypatch.setattr(local_hub, "checksum", lambda name: "../../x")
    refused("states no checksum; HF_ENDPOINT")


def test_a_name_that_is_none_says_so(local_hub):
    refused("Repo id must", "some one/x y")


def test_a_full_disk_says_so(local_hub, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "_receive", full)
    refused("No space left")


def test_without_a_hub_what_is_here_is_given(local_hub, monkeypatch):
    local_hub.files["preprocessor_config.json"] = b"{}"
    path = hub.pull("someone/xclip")
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9" + PAGE)
    assert hub.pull("someone/xclip") == path
    path.resolve().write_bytes(b"damaged")
    assert "proxy" in refused("cannot be reached").hint


def test_offline_says_so(local_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in refused("HF_HUB_OFFLINE is set").hint


@pytest.mark.slow
def test_the_programs_bar_fits_a_terminal_and_retries_are_one_line(local_hub, tmp_path):
    """On a terminal of 80 columns, with connections that drop: no line is longer, and none is left but the answer."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    local_hub.files["model.safetensors"] = WEIGHTS * 4  # 20 MB
    local_hub.bodies["model.safetensors"] = [1_000_000, 100_000, 0, 0]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = os.environ | {"HF_ENDPOINT": local_hub.url, "HF_HUB_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "xclip_cli", "models", "pull", "someone/xclip"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not piece:
                break
            written += piece
    os.close(ours)
    assert process.returncode == 0, written
    lines = written.decode().replace("\r\n", "\n").split("\n")
    shown = [state for line in lines for state in line.split("\r")]
    assert max(map(len, shown)) <= 80 and len([line for line in lines if line.strip()]) == 1
    assert any("model.safetensors" in state and "connecting again" in state for state in shown)


def test_a_path_in_the_cache_says_how_to_pull_it_again(downloaded):
    assert hub.repair(downloaded / "model.safetensors") == "pull it again: xclip models pull xclip-base-patch32"
    other = downloaded.parents[2] / "models--someone--x-clip" / "snapshots" / "1" / "model.safetensors"
    assert hub.repair(other) == "pull it again: xclip models pull someone/x-clip"
    assert hub.repair(downloaded.parents[3] / "mine.safetensors") is None
    assert "reinstall" in hub.repair(hub.weights_dir() / "mini.safetensors")


def test_a_dangling_link_is_damaged_and_not_an_error(downloaded):
    (downloaded / "config.json").resolve().unlink()
    assert dict(hub.verify(SPEC)) == {downloaded / "config.json": "damaged", downloaded / "model.safetensors": "ok"}


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """X-CLIP B/32 in Hugging Face's cache, as its client lays it out: blobs by checksum, a snapshot of links."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--microsoft--xclip-base-patch32"
    snapshot = home / "snapshots" / "c0ffee"
    for folder in (snapshot, home / "blobs", home / "refs"):
        folder.mkdir(parents=True)
    (home / "refs" / "main").write_text("c0ffee")
    weights, config = b"weights" * 1000, b"{}"
    blobs = {
        "model.safetensors": (hashlib.sha256(weights).hexdigest(), weights),
        "config.json": (hashlib.sha1(b"blob 2\0" + config).hexdigest(), config),
    }
    for name, (checksum, content) in blobs.items():
        (home / "blobs" / checksum).write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(home / "blobs" / checksum, snapshot))
    return snapshot


def test_a_downloaded_model_is_found_and_verified(downloaded):
    assert hub.local_file(SPEC) == downloaded / "model.safetensors"
    assert [(path.name, verdict) for path, verdict in hub.verify(SPEC)] == [
        ("config.json", "ok"),
        ("model.safetensors", "ok"),
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_file_is_damaged(downloaded, name):
    (downloaded / name).resolve().write_bytes(b"other")
    assert {path.name: verdict for path, verdict in hub.verify(SPEC)}[name] == "damaged"


def test_a_copied_file_has_no_checksum(downloaded):
    (downloaded / "notes.txt").write_text("mine")
    assert (downloaded / "notes.txt", "no checksum") in list(hub.verify(SPEC))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "~/models"},
        {"XDG_CACHE_HOME": "/x"},
        {"HF_HOME": "/y", "XDG_CACHE_HOME": "/x"},
        {"HF_HUB_CACHE": "$HOME/z", "HF_HOME": "/y"},
        {"HUGGINGFACE_HUB_CACHE": "/old"},
    ],
    ids=str,
)
def test_the_cache_is_where_the_hubs_client_has_it(variables):
    names = ("HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    environment = {key: value for key, value in os.environ.items() if key not in names} | variables
    program = "from huggingface_hub.constants import HF_HUB_CACHE as a; from xclip_cli.checkpoint.hub import _hub_cache"
    program += "; assert str(_hub_cache()) == a, (_hub_cache(), a)"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_an_absent_model_has_nothing_to_verify(downloaded):
    assert hub.local_file(MODELS["xclip-base-patch16"]) is None
    assert list(hub.verify(MODELS["xclip-base-patch16"])) == []


def test_a_half_finished_download_is_absent(downloaded):
    (downloaded / "model.safetensors").unlink()
    assert hub.local_file(SPEC) is None


def test_a_bundled_model_is_verified_by_the_registry(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "weights_dir", lambda: tmp_path)
    mini = replace(MODELS["mini"], sha256=hashlib.sha256(b"mini").hexdigest())
    assert hub.local_file(mini) is None
    (tmp_path / "mini.safetensors").write_bytes(b"mini")
    assert [verdict for _, verdict in hub.verify(mini)] == ["ok"]
    assert [verdict for _, verdict in hub.verify(replace(mini, sha256="0" * 64))] == ["damaged"]
