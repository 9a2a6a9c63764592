"""A configuration that breaks a rule is refused when it is made, with the value and the rule."""

import json

import pytest

from xclip_cli.errors import ModelError
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dog"]
BERT = {"kind": "bert", "vocab_size": 5, "vocabulary": WORDS}


@pytest.mark.parametrize("stem", ["patch", "efficientnet_lite0", "efficientnet_lite2"])
def test_a_configuration_survives_json(stem):
    config = XclipConfig(VisionConfig(image_size=256, stem=stem), TextConfig(token_width=64), mit_layers=0)
    assert XclipConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_vocabulary_and_an_mlp_survive_json():
    vision = VisionConfig(stem="efficientnet_lite1", class_hidden=24)
    config = XclipConfig(vision, TextConfig(kind="bert", vocab_size=5, vocabulary=WORDS))
    again = XclipConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.text.vocabulary == tuple(WORDS) and again.vision.class_hidden == 24
    assert hash(again) == hash(config) and "[PAD]" not in repr(config)


def test_absent_names_keep_their_defaults():
    assert XclipConfig.from_dict({"vision": {"patch_size": 16}}) == XclipConfig(VisionConfig(patch_size=16))


def test_heads_follow_the_embedding():
    large = XclipConfig(embed_dim=768)
    assert (large.mit_heads, large.prompt_heads) == (12, 12)
    assert (XclipConfig().mit_heads, XclipConfig(prompt_heads=4).prompt_heads) == (8, 4)


@pytest.mark.parametrize(
    "data, said",
    [
        ({"vision": {"width": 100, "heads": 3}}, "3 heads"),
        ({"vision": {"image_size": 225}}, "225"),
        ({"vision": {"layers": -1}}, "vision.layers is -1"),
        ({"vision": {"layers": True}}, "vision.layers is True"),
        ({"vision": {"stem": "resnet"}}, "'resnet'"),
        ({"vision": {"stem": "efficientnet_lite0", "patch_size": 16}}, "needs 32"),
        ({"vision": [1]}, "must be a mapping"),
        ({"text": {"vocab_size": 0}}, "text.vocab_size is 0"),
        ({"text": {"token_width": 0}}, "text.token_width is 0"),
        ({"text": {"token_width": "64"}}, "text.token_width is '64'"),
        ({"text": {"heads": 7}}, "7 heads"),
        ({"text": {"kind": "t5"}}, "'t5'"),
        ({"text": {"vocabulary": WORDS}}, "'clip', which has no text.vocabulary"),
        ({"text": BERT | {"token_width": 8}}, "text.token_width is 8"),
        ({"text": BERT | {"context_length": 2}}, "text.context_length is 2"),
        ({"text": BERT | {"vocabulary": None}}, "text.vocabulary is None"),
        ({"text": BERT | {"vocabulary": "[PAD] [UNK]"}}, "text.vocabulary is '[PAD] [UNK]'"),
        ({"text": BERT | {"vocabulary": dict.fromkeys(WORDS, 1)}}, "needs a list of strings"),
        ({"text": BERT | {"vocabulary": [*WORDS[:-1], 7]}}, "needs a list of strings"),
        ({"text": BERT | {"vocabulary": [*WORDS, "cat"]}}, "has 6 words; text.vocab_size is 5"),
        ({"text": BERT | {"vocabulary": [*WORDS[:-1], "[UNK]"]}}, "'[UNK]' more than once"),
        ({"text": BERT | {"vocabulary": [*WORDS[:3], "cat", "dog"]}}, "no [SEP]"),
        ({"text": BERT | {"vocabulary": WORDS[::-1]}}, "begins with 'dog'"),
        ({"vision": {"class_hidden": 8}}, "vision.class_hidden is 8"),
        ({"vision": {"stem": "efficientnet_lite0", "class_hidden": 0}}, "vision.class_hidden is 0"),
        ({"embed_dim": "512"}, "model.embed_dim is '512'"),
        ({"num_frames": 0}, "model.num_frames is 0"),
        ({"mit_layers": 1.5}, "model.mit_layers is 1.5"),
        ({"mit_heads": 5}, "5 heads"),
        ({"prompt_heads": 5}, "5 heads"),
        ({"activation": "relu"}, "'relu'"),
        ({"vision": {"depth": 3}}, "'depth'"),
        ({"drop_path": 0.1}, "'drop_path'"),
    ],
)
def test_a_broken_rule_is_one_line(data, said):
    with pytest.raises(ModelError) as caught:
        XclipConfig.from_dict(data)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
