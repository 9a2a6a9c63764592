import multiprocessing
import os
import sqlite3
import subprocess
import sys

import pytest
import torch

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


@pytest.mark.parametrize("size", [0, 10, 100, 3000])
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
    assert torch.equal(text_features(LABELS, model), expected) and model.calls == [["running"]]


def test_a_cache_of_another_shape_is_replaced(own_cache):
    own_cache.mkdir(parents=True)
    base = sqlite3.connect(own_cache / f"{'f' * 64}.sqlite")
    base.execute("CREATE TABLE prompts (other INT)")
    base.commit()
    base.close()
    assert text_features(LABELS, Model()).shape == (3, 8)


def test_a_cache_that_cannot_be_written_is_done_without(own_cache):
    own_cache.parent.mkdir()
    own_cache.write_text("a file where the folder should be")
    model = Model()
    assert text_features(LABELS, model).shape == (3, 8) and model.calls == [PROMPTS]


def test_a_locked_cache_is_done_without(own_cache, monkeypatch):
    text_features(LABELS, Model())
    monkeypatch.setattr(textcache, "LOCK_SECONDS", 0.05)
    [path] = own_cache.iterdir()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("BEGIN EXCLUSIVE")
    textcache.forget()
    assert text_features(LABELS, Model()).shape == (3, 8)
    base.close()
    assert path.exists()


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


def test_a_kill_while_writing_leaves_a_sound_file(own_cache, monkeypatch):
    """Killed in the middle of the transaction: the next run reads a sound file and encodes again what is missing."""
    text_features(from_names(["before"]), Model())
    program = (
        "import os, sqlite3, sys\n"
        "base = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "base.execute('PRAGMA cache_size=1'); base.execute('BEGIN IMMEDIATE')\n"
        "for n in range(2000): base.execute('INSERT INTO prompts VALUES (?, ?, 0)', (str(n), os.urandom(500)))\n"
        "os.kill(os.getpid(), 9)"
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
