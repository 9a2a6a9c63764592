"""A model of BERT's kind is one file, its vocabulary in it."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from xclip_cli.checkpoint.load import load_model, open_checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.errors import LabelError, ModelError
from xclip_cli.labels import from_names
from xclip_cli.model.text import make_tokenizer
from xclip_cli.tagger.textcache import text_features


@pytest.fixture
def rewrite(bert_model, tmp_path):
    """The file with its text configuration changed, its tensors as they were."""

    def write(change):
        with safe_open(bert_model, framework="pt") as file:
            about = json.loads(file.metadata()["xclip"])
        change(about["config"]["text"])
        path = tmp_path / "changed.safetensors"
        save_file(load_file(bert_model), path, metadata={"xclip": json.dumps(about)})
        return path

    return write


@pytest.mark.parametrize("half", [False, True])
def test_the_vocabulary_is_in_the_file(bert_model, bert_config, vocabulary, tmp_path, half):
    model, path = load_model(bert_model), tmp_path / "again.safetensors"
    checkpoint = open_checkpoint(bert_model)
    expected = checkpoint.text_encoder()(["a dog running", "slam dunk"])
    save(model.half() if half else model, path, preprocessing=checkpoint.preprocessing, name="again")
    again = open_checkpoint(str(path))
    assert again.full_model().config == bert_config
    found = again.text_encoder()(["a dog running", "slam dunk"])
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=5e-3 if half else 0)
    assert load_model(str(path)).config.text.vocabulary == vocabulary


def test_the_text_encoder_speaks_the_files_tokens(bert_model, bert_config):
    checkpoint = open_checkpoint(bert_model)
    encoder, model = checkpoint.text_encoder(), checkpoint.full_model()
    assert encoder.context_length == 77 and encoder.count_tokens(["a dog", "dogs", ""]) == [4, 4, 2]
    texts = ["a dog", "running", "a" * 200]
    with torch.inference_mode():
        expected = model.encode_text(make_tokenizer(bert_config.text).tokenize(texts))
    assert torch.allclose(encoder(texts), expected, atol=1e-6)


def test_a_prompt_that_is_too_long_is_counted_in_the_files_tokens(bert_model):
    text_features(from_names(["a " * 75]), open_checkpoint(bert_model))
    with pytest.raises(LabelError, match="78 tokens long; this model reads 77"):
        text_features(from_names(["a " * 76]), open_checkpoint(bert_model))


def test_a_changed_vocabulary_is_another_model(bert_model, rewrite):
    """With the same tensors: features kept of the one are not those of the other."""

    def swap(text):
        words = text["vocabulary"]
        one, other = words.index("dog"), words.index("run")
        words[one], words[other] = words[other], words[one]

    before, after = open_checkpoint(bert_model), open_checkpoint(str(rewrite(swap)))
    assert before.fingerprint != after.fingerprint
    labels = from_names(["dog", "run"])
    assert torch.allclose(text_features(labels, before), text_features(labels, after).flip(0), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.update(vocabulary=None), "vocabulary is None"),
        (lambda text: text.update(vocabulary="[PAD]" * 40), "list of strings"),
        (lambda text: text.update(vocabulary={"[PAD]": 0}), "list of strings"),
        (lambda text: text["vocabulary"].__setitem__(9, ["a"]), "list of strings"),
        (lambda text: text["vocabulary"].pop(), "vocab_size"),
        (lambda text: text["vocabulary"].__setitem__(9, "dog"), "'dog' more than once"),
        (lambda text: text["vocabulary"].__setitem__(3, "[END]"), r"no \[SEP\]"),
        (lambda text: text["vocabulary"].reverse(), "begins with"),
        (lambda text: text.update(kind=["bert"]), "text.kind"),
        (lambda text: text.pop("kind"), "no text.vocabulary"),
        (lambda text: text.update(kind="clip", vocabulary=None), "ln_final.weight is missing"),
        (lambda text: text.update(vocab_size=10**15), "vocab_size"),
        (lambda text: text.update(context_length=1), "context_length"),
        (lambda text: text.update(context_length=5), "position_embedding has the shape"),
    ],
)
def test_a_hostile_vocabulary_is_refused_in_one_line(rewrite, change, says):
    with pytest.raises(ModelError, match=says) as caught:
        open_checkpoint(str(rewrite(change))).full_model()
    assert "\n" not in caught.value.message and len(caught.value.message) < 400


def test_a_model_of_berts_kind_in_a_folder(bert_model, bert_config, tmp_path):
    shutil.copy(bert_model, tmp_path / "model.safetensors")
    assert load_model(str(tmp_path)).config == bert_config
