"""Model files that lie, in header, metadata or weights: one line of what is wrong, soon, and no memory taken."""

import json
import resource
import struct
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from xclip_cli.checkpoint import open_checkpoint
from xclip_cli.checkpoint.files import read_pickle, read_safetensors, tensors_in
from xclip_cli.errors import LabelError, ModelError


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
    "labels of numbers": put("labels", [1, 2]),
    "labels of nothing": put("labels", {"a": 1}),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_lie_are_refused_before_anything_is_built(changed, name):
    path = changed(METADATA[name])
    refused(lambda: open_checkpoint(path).video_model())


def test_a_label_that_commands_the_terminal_is_refused(changed):
    refused(lambda: open_checkpoint(changed(put("labels", ["\x1b[2Jboo", "b"]))), kind=LabelError)


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
