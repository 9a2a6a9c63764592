"""Model files that lie, in header, metadata or weights: one line of what is wrong, soon, and no memory taken."""

import io
import json
import os
import pickle
import re
import resource
import socket
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.checkpoint.tensors import read_pickle, read_safetensors, tensors_in
from xclip_cli.errors import ModelError, XclipError


def refused(read, *arguments, kind=ModelError) -> str:
    """The message of a refusal that took neither time nor memory."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kind) as caught:
        read(*arguments)
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    assert "\n" not in caught.value.message and len(caught.value.message) < 600
    return caught.value.message


def tensor(start, stop, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


DEEP = b'{"a":' + b"[" * 200_000
HEADERS = {
    "past the end": {"a": tensor(0, 1600, (400,))},
    "far past the end": {"a": tensor(2**62, 2**62 + 16)},
    "overlapping": {"a": tensor(0, 16), "b": tensor(8, 24)},
    "a hole": {"a": tensor(0, 16), "b": tensor(24, 40)},
    "backward": {"a": tensor(16, 0)},
    "negative shape": {"a": tensor(0, 16, (-4,))},
    "negative offsets": {"a": tensor(-16, 0)},
    "a shape that overflows": {"a": tensor(0, 16, (2**62, 4))},
    "more than its bytes": {"a": tensor(0, 16, (2**40,))},
    "no such type": {"a": tensor(0, 16, (4,), "F1")},
    "numbers for names": {"__metadata__": {"xclip": 5}},
    "no offsets": {"a": {"dtype": "F32", "shape": [4]}},
    "a list": [1, 2],
    "deep": DEEP,
    "no JSON": b"{" * 64,
    "no UTF-8": b'{"\xff\xfe": 1}',
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path, name):
    header = HEADERS[name] if isinstance(HEADERS[name], bytes) else json.dumps(HEADERS[name]).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(40))
    assert str(path) in refused(open_checkpoint, str(path))
    assert str(path) in refused(read_safetensors, path)


@pytest.mark.parametrize("length", [0, 41, 2**31, 2**63 - 1, 2**64 - 1])
def test_a_length_of_the_header_that_lies_is_refused(tmp_path, length):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" + b" " * 30)
    refused(open_checkpoint, str(path))


@pytest.fixture
def changed(toy_model, tmp_path):
    """A function: the toy with other metadata, and other weights if there are some."""
    from safetensors import safe_open

    with safe_open(toy_model, "pt") as file:
        about = json.loads(file.metadata()["xclip"])

    def change(edit=lambda about: about, **weights) -> str:
        text = edit(json.loads(json.dumps(about)))
        path = tmp_path / "changed.safetensors"
        metadata = {"xclip": text if isinstance(text, str) else json.dumps(text)}
        save_file(load_file(toy_model) | weights, path, metadata=metadata)
        return str(path)

    return change


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def edit(about):
        inner = about
        for key in keys:
            inner = inner[key]
        inner[last] = value
        return about

    return edit


no_mit = put("config", "mit_layers", 0)
METADATA = {
    "nested deep": lambda about: "[" * 100_000,
    "a large number": lambda about: '{"format": ' + "9" * 5000 + "}",
    "a thousand million layers": put("config", "vision", "layers", 10**9),
    "as many of MIT": put("config", "mit_layers", 10**9),
    "as many of prompts": put("config", "prompt_layers", 10**9),
    "a thousand million frames": lambda about: put("config", "num_frames", 10**9)(no_mit(about)),
    "a width of two gigabytes": put("config", "vision", "width", 2**31),
    "truth for a number": put("config", "vision", "layers", True),
    "text for a number": put("config", "prompt_alpha", "x"),
    "a mean that is none": put("preprocessing", "mean", [float("nan")] * 3),
    "an infinite deviation": put("preprocessing", "std", [float("inf")] * 3),
    "a resize of gigabytes": put("preprocessing", "resize", 10**9),
    "a crop that is no square of the network": put("preprocessing", "crop", 16),
    "truth for pixels": put("preprocessing", "crop", True),
    "a number that no float holds": put("config", "prompt_alpha", 10**400),
    "labels of numbers": put("labels", [1, 2]),
    "labels of nothing": put("labels", {"a": 1}),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_lie_are_refused_before_anything_is_built(changed, name):
    path = changed(METADATA[name])
    refused(lambda: open_checkpoint(path).video_model())


def test_a_label_that_commands_the_terminal_is_refused(changed):
    refused(lambda: open_checkpoint(changed(put("labels", ["\x1b[2Jboo", "b"]))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(changed, toy_model, value):
    state = load_file(toy_model)
    for key, load in (("mit.position_embedding", "video_model"), ("text.ln_final.weight", "text_encoder")):
        weights = state[key].clone()
        weights.view(-1)[-1] = value
        checkpoint = open_checkpoint(changed(**{key: weights}))
        assert f"{key} holds what is no number" in refused(getattr(checkpoint, load))


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (torch.zeros(3, 64), r"has the shape \(3, 64\), its labels need \(2, 64\)"),
        (torch.zeros(2, 65), "has the shape"),
        (torch.full((2, 64), torch.nan), "label_features holds what is no number"),
    ],
)
def test_features_of_labels_that_do_not_fit_are_refused(changed, features, said):
    path = changed(put("labels", ["a", "b"]), label_features=features)
    with pytest.raises(ModelError, match=said):
        open_checkpoint(path)


def test_a_folders_settings_may_be_nested_deep(tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / "config.json").write_text('{"model_type": "xclip"}')
        (tmp_path / name).write_text("[" * 100_000)
        save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
        assert name in refused(open_checkpoint, str(tmp_path))


def test_a_pickle_of_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    """The file says a million numbers and holds four."""
    path = tmp_path / "x.pth"
    torch.save({"model": {"a": torch.zeros(4)}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"K\x04", b"J\x40\x42\x0f\x00"))
    with pytest.raises(ModelError):
        tensors_in(read_pickle(path), path)["a"].sum()


NAMES = {
    "a" * 300: "File name too long",
    "a" * 300 + ".pth": "File name too long",
    "x\0y": "unknown model|cannot be opened: embedded null byte",
    "x\ny": "unknown model",
    "~nosuchuser/x": "unknown model",
    "~nosuchuser/x.pth": "there is no file",
    "/dev/zero": "a pipe, a device or a socket",
    "/dev/null": "a pipe, a device or a socket",
    "open_clip:ViT-B-32=/dev/zero": "a pipe, a device or a socket",
    "open_clip:ViT-B-32=~nosuchuser/x": "there is no file",
    "open_clip:ViT-B-32=" + "a" * 300: "File name too long",
    "open_clip:" + "a" * 300: "no architecture",
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:30])
def test_a_name_that_can_be_no_model_is_one_line(name):
    if name.startswith("open_clip:"):
        import xclip_cli.checkpoint.frozen  # noqa: F401, its import takes seconds, which are not the refusal's

    assert re.search(NAMES[name], refused(open_checkpoint, name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "model.safetensors", "config.json"])
def test_a_pipe_is_refused_before_it_is_opened(tmp_path, name):
    """Nobody writes into it: who opened it would wait for ever."""
    os.mkfifo(tmp_path / name)
    if name == "config.json":
        save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    for given in (str(tmp_path), *([str(tmp_path / name)] if name != "config.json" else [])):
        refused(open_checkpoint, given)


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "x.pth"))
        assert "a pipe, a device or a socket" in refused(open_checkpoint, str(tmp_path / "x.pth"))


def test_a_home_is_expanded(toy_model, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(toy_model).parent))
    assert open_checkpoint(f"~/{Path(toy_model).name}").path == Path(toy_model)


def packed(pack):
    def make(path):
        inner = path.with_suffix(".txt")
        inner.write_text("hello")
        with pack(path) as archive:
            (archive.add if hasattr(archive, "add") else archive.write)(inner)

    return make


def array_file() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(4))
    return stream.getvalue()


OTHER_KINDS = {
    "a NumPy array": lambda path: path.write_bytes(array_file()),
    "a tar archive": packed(lambda path: tarfile.open(path, "w")),  # noqa: SIM115
    "a gzip archive": packed(lambda path: tarfile.open(path, "w:gz")),  # noqa: SIM115
    "a ZIP archive without weights": packed(lambda path: zipfile.ZipFile(path, "w")),
    "a pickle that torch.save did not write": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "a Git LFS pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "a web page": lambda path: path.write_text("<!doctype html><html></html>"),
    "an HDF5 file": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "a video": lambda path: path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(100)),
    "an empty file": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("suffix", ["pth", "npy", "safetensors"])
def test_a_file_of_another_kind_is_named(tmp_path, kind, suffix):
    path = tmp_path / f"model.{suffix}"
    OTHER_KINDS[kind](path)
    message = refused(open_checkpoint, str(path))
    assert f"it is {kind}" in message and "weights_only" not in message and "torch.load" not in message


def test_nothing_advises_to_run_a_pickles_code(tmp_path):
    """Whatever the pickle asks for."""
    values = [np.zeros(3), {1, 2}, b"x", slice(1), Exception("x"), {"a": np.float64(1)}, torch.nn.Linear(2, 2)]
    for number, value in enumerate(values):
        for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
            path = tmp_path / f"{number}.pth"
            write(value, path)
            assert "weights_only" not in refused(open_checkpoint, str(path))


def test_a_safetensors_file_under_another_name_is_named(tmp_path, toy_model):
    path = tmp_path / "toy.pth"
    path.write_bytes(Path(toy_model).read_bytes())
    assert "must end in .safetensors" in refused(open_checkpoint, str(path))
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert "must end in .pth" in refused(open_checkpoint, str(tmp_path / "x.safetensors"))
    (tmp_path / "x.txt").write_text("hello")
    assert "damaged, or of another kind" in refused(open_checkpoint, str(tmp_path / "x.txt"))


def test_an_archive_that_unpacks_to_more_than_the_file_is_refused(tmp_path):
    torch.save({"model": {"a": torch.zeros(1 << 20)}}, tmp_path / "plain.pth")
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for item in plain.namelist():
            packed.writestr(item, plain.read(item))
    assert "ZIP archive is compressed" in refused(open_checkpoint, str(path))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(4).to_sparse(),
        torch.zeros(4, dtype=torch.complex64),
        torch.empty(4, device="meta"),
    ],
    ids=["larger than its storage", "sparse", "complex", "without data"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_that_is_no_plain_one_is_refused(tmp_path, tensor):
    torch.save({"model": {"visual.conv1.weight": tensor}}, tmp_path / "x.pth")
    assert "no plain tensor" in refused(open_checkpoint, str(tmp_path / "x.pth"))


FOREIGN = {
    "a ResNet": ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"],
    "a vision transformer of timm": ["cls_token", "blocks.0.attn.qkv.weight"],
    "a model of MMAction2": ["backbone.conv1.conv.weight", "cls_head.fc_cls.weight"],
    "transformers: give its folder": ["vision_model.embeddings.class_embedding", "logit_scale"],
}


@pytest.mark.parametrize("family", FOREIGN)
def test_weights_of_another_network_are_named(tmp_path, family):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {f"module.{key}": torch.zeros(2) for key in FOREIGN[family]}}, path)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(str(path))
    message = caught.value.message
    assert (
        str(path) in message
        and repr(FOREIGN[family][0]) in message
        and "it lacks 'visual.class_embedding'" in (message.replace("'logit_scale', ", ""))
    )
    assert family in caught.value.hint and "\n" not in message


def test_weights_that_are_incomplete_say_what_they_lack(tmp_path):
    torch.save({"visual.conv1.weight": torch.zeros(64, 3, 16, 16)}, tmp_path / "x.pth")
    message = refused(open_checkpoint, str(tmp_path / "x.pth"))
    assert "it lacks 'logit_scale', 'visual.class_embedding' and" in message and "it has" not in message


NASTY = [None, True, -1, 0, 2**31, 10**400, 1e308, float("nan"), "x" * 300, "\x1b[2J", [], [1], {}, {"a": 1}, [[[]]]]


@pytest.mark.slow
def test_metadata_of_any_type_are_read_or_refused(changed, toy_model):
    """Each value that a model's file states, replaced by each of these: one line, or a network that answers."""

    def places(about, at=()):
        for key, value in about.items():
            yield (*at, key)
            if isinstance(value, dict):
                yield from places(value, (*at, key))

    seen = []
    changed(lambda about: seen.extend(places(about)) or about)
    for place in seen:
        for value in NASTY:
            path = changed(put(*place, value))
            try:
                checkpoint = open_checkpoint(path)
                checkpoint.video_model()
            except XclipError as error:
                assert "\n" not in error.message and len(error.message) < 700, (place, value)
            else:
                assert checkpoint.preprocessing.crop == 32 and checkpoint.preprocessing.resize < 10000, (place, value)


def test_a_damaged_download_says_how_to_pull_it_again(tmp_path, monkeypatch, toy_model):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--microsoft--xclip-base-patch32"
    folder = home / "snapshots" / "c0ffee"
    folder.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("c0ffee")
    command = "xclip models pull xclip-base-patch32"
    (folder / "model.safetensors").symlink_to("../../blobs/gone")
    for name in ("xclip-base-patch32", "microsoft/xclip-base-patch32", str(folder)):
        assert command in hint(name)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(Path(toy_model).read_bytes()[:5000])
    (folder / "config.json").symlink_to("../../blobs/gone")
    assert command in hint("xclip-base-patch32")
    (folder / "config.json").unlink()
    (folder / "config.json").write_text('{"model_type": "xclip"}')
    assert command in hint("xclip-base-patch32")


def hint(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(name).video_model()
    return caught.value.hint
