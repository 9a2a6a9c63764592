"""The same weights give the same numbers as transformers' XCLIPModel."""

import pytest
import torch

from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig

TOLERANCE = 1e-4


def difference(a, b) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.fixture(params=["quick_gelu", "gelu"])
def pair(request, kit):
    config = kit.config(activation=request.param)
    reference = kit.reference(config)
    return reference, kit.same_weights(reference, config)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("padding", ["zeros", "end tokens", "masked"])
def test_logits_are_the_references(pair, kit, batch, padding):
    reference, model = pair
    tokens = kit.tokens(kit.END if padding == "end tokens" else 0)
    frames = kit.frames(batch, model.config)
    positions = torch.arange(tokens.shape[1])
    mask = (positions <= tokens.argmax(-1, keepdim=True)).long() if padding == "masked" else None
    with torch.inference_mode():
        expected = reference(input_ids=tokens, pixel_values=frames, attention_mask=mask).logits_per_video
        assert expected.std() > 0.1, "the reference must tell the pairs apart"
        assert difference(model(frames, tokens), expected) < TOLERANCE


def test_logits_of_a_single_frame_are_the_references(kit):
    """Its message has only itself to hear, and is heard all the same."""
    config = kit.config(num_frames=1)
    reference = kit.reference(config)
    with torch.inference_mode():
        frames, tokens = kit.frames(2, config), kit.tokens()
        expected = reference(input_ids=tokens, pixel_values=frames).logits_per_video
        assert difference(kit.same_weights(reference, config)(frames, tokens), expected) < TOLERANCE


def test_text_features_are_the_references(pair, kit):
    reference, model = pair
    with torch.inference_mode():
        expected = reference.get_text_features(input_ids=kit.tokens()).pooler_output
        assert difference(model.encode_text(kit.tokens()), expected) < TOLERANCE


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_video_features_are_the_references(pair, kit, batch):
    reference, model = pair
    frames = kit.frames(batch, model.config)
    with torch.inference_mode():
        expected = reference.get_video_features(pixel_values=frames).pooler_output
        assert difference(model.encode_video(frames).video, expected) < TOLERANCE


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_prompted_text_is_the_references(pair, kit, batch):
    reference, model = pair
    frames, tokens = kit.frames(batch, model.config), kit.tokens()
    with torch.inference_mode():
        text = model.encode_text(tokens)
        patches = model.encode_video(frames).patches
        hidden = reference.vision_model(frames.flatten(0, 1)).last_hidden_state[:, 1:]
        seen = reference.prompts_visual_layernorm(hidden) @ reference.prompts_visual_projection
        seen = seen.unflatten(0, (batch, -1)).mean(dim=1)
        expanded = text.expand(batch, -1, -1)
        expected = expanded + reference.prompts_generator(expanded, seen)
        assert difference(patches, seen) < TOLERANCE
        assert difference(model.prompts(text, patches), expected) < TOLERANCE


BIG_TEXT = TextConfig(width=768, layers=12, heads=12)
SIZES = {
    "B/32 8f": XclipConfig(VisionConfig(patch_size=32)),
    "B/16 8f": XclipConfig(VisionConfig(patch_size=16)),
    "L/14 8f": XclipConfig(VisionConfig(patch_size=14, width=1024, layers=24, heads=16), BIG_TEXT, embed_dim=768),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_logits_are_the_references_in_real_sizes(kit, size):
    config = SIZES[size]
    reference = kit.reference(config)
    model = kit.same_weights(reference, config)
    tokens = torch.zeros(4, 77, dtype=torch.long)
    for row, length in enumerate((3, 9, 40, 77)):
        tokens[row, :length] = torch.randint(1, 49000, (length,), generator=torch.Generator().manual_seed(row))
        tokens[row, length - 1] = 49407
    frames = kit.frames(2, config)
    with torch.inference_mode():
        output = reference(input_ids=tokens, pixel_values=frames)
        features, text = model.encode_video(frames), model.encode_text(tokens)
        logits = difference(model.logits(model.similarity(features, text)), output.logits_per_video)
        print(f"{size}: logits differ by at most {logits:.1e}")
        assert logits < TOLERANCE
        assert difference(features.video, output.mit_output.pooler_output) < TOLERANCE
        assert difference(text, reference.get_text_features(input_ids=tokens).pooler_output) < TOLERANCE
