import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from huggingface_hub import errors

from xclip_cli import hub
from xclip_cli.errors import ModelError
from xclip_cli.registry import MODELS

SPEC = MODELS["xclip-base-patch32"]


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Stands in for hf_hub_download: gives what was asked; ``repository[name] = error`` makes it fail."""
    import huggingface_hub

    asked, failures = [], {}

    def download(repository, name):
        asked.append((repository, name))
        if name in failures:
            raise failures[name]
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked, failures


def refusal(kind):
    """An error of the hub's client, whatever arguments this version of it wants."""
    return kind.__new__(kind, "gone")


def offline_error():
    error = errors.LocalEntryNotFoundError("no such file here")
    error.__cause__ = errors.OfflineModeIsEnabled("offline")
    return error


def test_pull_takes_config_preprocessor_and_the_safe_weights(downloads, tmp_path):
    asked, _ = downloads
    assert hub.pull("microsoft/xclip-base-patch32") == tmp_path / "model.safetensors"
    assert [name for _, name in asked] == ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert {repository for repository, _ in asked} == {"microsoft/xclip-base-patch32"}


def test_pull_takes_the_pickle_where_there_is_nothing_else(downloads, tmp_path):
    for name in ("preprocessor_config.json", "model.safetensors"):
        downloads[1][name] = refusal(errors.EntryNotFoundError)
    assert hub.pull("someone/xclip") == tmp_path / "pytorch_model.bin"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: errors.LocalEntryNotFoundError("check your connection"), "cannot be reached"),
        (offline_error, "HF_HUB_OFFLINE is set"),
        (lambda: errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        (lambda: refusal(errors.RepositoryNotFoundError), "does not exist"),
        (lambda: OSError(28, "No space left on device"), "No space left"),
        (lambda: errors.HFValidationError("Repo id must be in the form\nname"), "Repo id must"),
    ],
)
def test_a_download_that_fails_says_why(downloads, error, says):
    downloads[1]["config.json"] = error()
    with pytest.raises(ModelError, match=says) as caught:
        hub.pull("someone/xclip")
    assert "\n" not in caught.value.message


def test_a_repository_without_a_model_says_so(downloads):
    downloads[1]["config.json"] = errors.EntryNotFoundError("gone")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        hub.pull("someone/xclip")


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
    program = "from huggingface_hub.constants import HF_HUB_CACHE as a; from xclip_cli.hub import _hub_cache; "
    program += "assert str(_hub_cache()) == a, (_hub_cache(), a)"
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
