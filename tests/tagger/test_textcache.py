import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from xclip_cli.checkpoint.load import load_model, open_checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.errors import LabelError
from xclip_cli.labels import Label, LabelSet, from_names
from xclip_cli.tagger import textcache
from xclip_cli.tagger.textcache import text_features


class Encoder:
    """Gives every prompt a vector of its own, and counts."""

    context_length = 77

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, texts):
        self.calls.append(list(texts))
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(hash_of(text))) for text in texts]
        return torch.stack(rows) * 3

    def count_tokens(self, texts):
        return [len(text.split()) + 2 for text in texts]


def hash_of(text):
    return sum(ord(letter) * 31**i for i, letter in enumerate(text)) % 2**31


class Model:
    def __init__(self, fingerprint="f" * 64):
        self.fingerprint, self.calls = fingerprint, []

    def text_encoder(self):
        return Encoder(self.calls)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    textcache.forget()  # as a new process would: nothing in memory
    return tmp_path / "cache" / "text"


LABELS = LabelSet(
    "set",
    (Label("run", ("running",)), Label("dunk", ("slam dunk", "dunking a ball"))),
    (Label("nothing", ("an empty scene",)),),
)
PROMPTS = ["running", "slam dunk", "dunking a ball", "an empty scene"]


def test_rows_are_labels_then_background():
    model = Model()
    features = text_features(LABELS, model)
    vectors = dict(zip(PROMPTS, Encoder([])(PROMPTS), strict=True))
    assert features.shape == (3, 8) and features.dtype == torch.float32 and model.calls == [PROMPTS]
    assert torch.equal(features[0], vectors["running"]) and torch.equal(features[2], vectors["an empty scene"])


def test_several_prompts_share_a_direction_and_keep_their_length():
    row = text_features(LABELS, Model())[1]
    pair = Encoder([])(["slam dunk", "dunking a ball"])
    assert row.norm() == pytest.approx(pair.norm(dim=1).mean().item(), rel=1e-5)
    unit = torch.nn.functional.normalize(pair, dim=1)
    assert torch.allclose((unit @ row)[0], (unit @ row)[1], rtol=1e-4)
    longer = LabelSet("x", (Label("a", ("slam dunk", "dunking a ball")),))
    assert torch.equal(text_features(longer, Model("b"))[0], row)


def test_only_what_is_missing_is_encoded(monkeypatch):
    first, model = text_features(LABELS, Model()), Model()
    assert torch.equal(text_features(LABELS, model), first) and model.calls == []
    textcache.forget()
    assert torch.equal(text_features(LABELS, model), first) and model.calls == []
    wider = LabelSet("wider", (*LABELS.labels, Label("new", ("jumping", "running"))), LABELS.background)
    text_features(wider, model)
    assert model.calls == [["jumping"]]


def test_another_fingerprint_shares_nothing(monkeypatch):
    text_features(LABELS, Model())
    other = Model("e" * 64)
    text_features(LABELS, other)
    textcache.forget()
    assert other.calls == [PROMPTS]


def test_a_prompt_that_is_too_long_names_its_place():
    words = " ".join(["very"] * 80)
    labels = LabelSet("set", (Label("fine", ("ok",)), Label("long", (words,), source="my.yaml:7")))
    with pytest.raises(LabelError, match=r"my\.yaml:7: .*82 tokens.*77"):
        text_features(labels, Model())


def test_a_prompt_that_is_too_long_for_a_real_tokenizer(toy_model):
    with pytest.raises(LabelError, match="tokens"):
        text_features(from_names([" ".join(["running"] * 76)]), open_checkpoint(toy_model))
    assert text_features(from_names([" ".join(["running"] * 75)]), open_checkpoint(toy_model)).shape == (1, 64)


@pytest.mark.parametrize("size", [0, 10, 100, 300])
def test_a_damaged_file_is_replaced(own_cache, monkeypatch, size):
    expected = text_features(LABELS, Model())
    [path] = own_cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:size] + os.urandom(len(whole) - size) if size else b"junk" * 5000)
    for calls in ([PROMPTS], []):
        textcache.forget()
        model = Model()
        assert torch.equal(text_features(LABELS, model), expected)
        assert size or model.calls == calls


def test_a_flipped_bit_is_noticed(own_cache, monkeypatch):
    expected = text_features(LABELS, Model())
    [path] = own_cache.iterdir()
    whole = path.read_bytes()
    vector = expected[0].numpy().tobytes()
    at = whole.index(vector)
    path.write_bytes(whole[: at + 5] + bytes([whole[at + 5] ^ 4]) + whole[at + 6 :])
    textcache.forget()
    model = Model()
    assert torch.equal(text_features(LABELS, model), expected) and model.calls == [PROMPTS]


@pytest.mark.parametrize("change", ["width", "dtype", "rows", "infinite", "no metadata", "another model", "a folder"])
def test_a_file_that_does_not_fit_is_ignored_and_rewritten(own_cache, change):
    expected = text_features(LABELS, Model())
    [path] = own_cache.iterdir()
    with safe_open(path, framework="numpy") as file:
        rows, about = file.get_tensor("features"), file.metadata()
    if change in ("width", "dtype", "rows", "infinite"):
        rows = {
            "width": rows[:, 0],
            "dtype": rows.astype(np.float64),
            "rows": rows[1:],
            "infinite": np.where(rows == rows[0, 0], np.float32(np.inf), rows),
        }[change]
        about["checksum"] = textcache._checksum(path, about["prompts"], rows)
        path.write_bytes(to_bytes({"features": rows}, about))
    elif change == "no metadata":
        path.write_bytes(to_bytes({"features": rows}))
    elif change == "another model":
        text_features(LABELS, Model("e" * 64))
        path.write_bytes((own_cache / f"{'e' * 64}.safetensors").read_bytes())
    else:
        path.unlink()
        path.mkdir()
    for calls in ([PROMPTS], [PROMPTS] if change == "a folder" else []):
        textcache.forget()
        model = Model()
        assert torch.equal(text_features(LABELS, model), expected) and model.calls == calls


def test_the_oldest_prompts_are_dropped(monkeypatch):
    monkeypatch.setattr(textcache, "MOST_PROMPTS", 3)
    for name in ("a", "b", "c", "d"):
        text_features(from_names([name]), Model())
    textcache.forget()
    model = Model()
    text_features(from_names(["d", "c", "b", "a"]), model)
    assert model.calls == [[from_names(["a"]).labels[0].prompts[0]]]
    textcache.forget()
    text_features(from_names(["a", "b", "c", "d"]), again := Model())  # a label set is stored whole
    assert again.calls == []


def test_a_cache_that_cannot_be_written_is_done_without(own_cache):
    own_cache.parent.mkdir()
    own_cache.write_text("a file where the folder should be")
    model = Model()
    assert text_features(LABELS, model).shape == (3, 8) and model.calls == [PROMPTS]


def test_a_locked_cache_is_done_without(own_cache, monkeypatch):
    monkeypatch.setattr(textcache, "LOCK_SECONDS", 0.05)
    own_cache.mkdir(parents=True)
    with FileLock(own_cache.with_suffix(".lock")):
        assert text_features(LABELS, Model()).shape == (3, 8)
    assert not list(own_cache.glob("*.safetensors"))


def encode_some(cache, first, answers):
    os.environ["XCLIP_CACHE"] = cache
    labels = from_names([f"label {n}" for n in range(first, first + 40)])
    answers.put(text_features(labels, Model()).sum().item())


def test_many_processes_share_one_file(own_cache, monkeypatch):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=encode_some, args=(str(own_cache.parent), 10 * n, answers)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    model = Model()
    text_features(from_names([f"label {n}" for n in range(60)]), model)
    assert model.calls == []


def test_a_kill_while_writing_leaves_a_sound_file(own_cache):
    """Killed with the new file half written: the next run reads the old one and encodes again what is missing."""
    text_features(from_names(["before"]), Model())
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from filelock import FileLock\n"
        "from xclip_cli.files import replacing\n"
        "with FileLock(Path(sys.argv[1]).parent.with_suffix('.lock')), replacing(Path(sys.argv[1])) as draft:\n"
        "    draft.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    [path] = own_cache.iterdir()
    assert subprocess.run([sys.executable, "-c", program, path]).returncode == -9
    textcache.forget()
    model = Model()
    text_features(from_names(["before", "after"]), model)
    assert model.calls == [["after"]]


def test_a_warm_cache_loads_neither_open_clip_nor_the_text_tower(toy_model):
    program = """
import sys
from xclip_cli.checkpoint import base
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.labels import from_names
from xclip_cli.tagger.textcache import text_features
if sys.argv[2] == "warm":
    base.make_tower = None  # building one would fail
checkpoint = open_checkpoint(sys.argv[1])
checkpoint.video_model()
print(text_features(from_names("running,slam dunk"), checkpoint).double().sum().item())
print("ftfy" in sys.modules, "open_clip" in sys.modules)  # the tokenizer needs the one, the package is the other
"""

    def run(how):
        done = subprocess.run(
            [sys.executable, "-c", program, toy_model, how], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    cold, warm = run("cold"), run("warm")
    assert cold[1:] == ["True", "False"] and warm[1:] == ["False", "False"] and cold[0] == warm[0]


def test_a_retrained_model_is_encoded_again(toy_model, tmp_path):
    path, labels, features = tmp_path / "tuned.safetensors", from_names("running,dunking"), []
    model = load_model(toy_model)
    for _ in range(2):
        save(model, path, preprocessing=Preprocessing(36, 32), name="tuned")
        features.append(text_features(labels, open_checkpoint(str(path))))
        model.text.proj.weight.data *= 2
    assert torch.allclose(features[1], 2 * features[0])
