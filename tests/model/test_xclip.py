"""What the wired network promises: switches, batches, frames, its cost."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from xclip_cli.errors import ModelError
from xclip_cli.model.block import activate
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig
from xclip_cli.model.xclip import Xclip


@pytest.fixture
def build(kit):
    def build(seed: int = 0, text: bool = True, **changes) -> Xclip:
        return kit.randomise(Xclip(kit.config(**changes), text=text), seed)

    return build


SWITCHES = list(itertools.product([True, False], [1, 0], [2, 0]))
STEMS = {
    "patch": VisionConfig(image_size=48, patch_size=16, width=24, layers=2, heads=4),
    "efficientnet_lite0": VisionConfig(image_size=70, width=24, layers=2, heads=4, stem="efficientnet_lite0"),
}


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("cross_frame, mit_layers, prompt_layers", SWITCHES)
def test_a_video_is_the_same_in_any_batch(build, kit, stem, cross_frame, mit_layers, prompt_layers):
    model = build(vision=STEMS[stem], cross_frame=cross_frame, mit_layers=mit_layers, prompt_layers=prompt_layers)
    frames, tokens = kit.frames(3, model.config), kit.tokens()
    with torch.inference_mode():
        together = model(frames, tokens)
        alone = torch.cat([model(video[None], tokens) for video in frames])
        swapped = model(frames.flip(0), tokens).flip(0)
    assert together.shape == (3, 3)
    assert together.std() > 0.01
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(together, swapped, rtol=0, atol=1e-5)


def test_the_activation_in_place_gives_the_same_numbers_and_leaves_its_input():
    x = torch.randn(7, 33, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, ours = x.clone(), activate(x, "quick_gelu")
    assert torch.equal(x, before) and torch.equal(ours, activate(x, "quick_gelu"))
    y = x.clone().requires_grad_()
    activate(y, "quick_gelu").sum().backward()
    s = torch.sigmoid(1.702 * x)
    torch.testing.assert_close(y.grad, s + 1.702 * x * s * (1 - s))


@pytest.mark.parametrize("prompt_layers", [0, 2])
def test_cosines_and_logits_are_float32_beside_any_precision(build, kit, prompt_layers):
    """Under autocast the network rounds what goes in; cosines of that are exact, and no wider than they should be."""
    model = build(prompt_layers=prompt_layers)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        text = model.encode_text(kit.tokens()).float()
        features = model.encode_video(kit.frames(2, model.config))
        seen = text[None] if model.prompts is None else model.prompts(text, features.patches)
        similarity = model.similarity(features, text)
        logits = model.logits(similarity)
    exact = torch.cosine_similarity(features.video.double()[:, None], seen.double(), dim=-1)
    assert similarity.dtype == logits.dtype == torch.float32
    assert (similarity - exact).abs().max() < 1e-6
    assert (logits - exact * model.logit_scale.double().exp()).abs().max() < 1e-5


def test_a_text_is_the_same_beside_any_other(build, kit):
    model, tokens = build(), kit.tokens()
    frames = kit.frames(2, model.config)
    with torch.inference_mode():
        together = model(frames, tokens)
        alone = torch.cat([model(frames, row[None]) for row in tokens], dim=1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cross_frame, mit_layers, prompt_layers", SWITCHES)
def test_frames_exchange_only_where_a_switch_lets_them(build, kit, cross_frame, mit_layers, prompt_layers):
    model = build(cross_frame=cross_frame, mit_layers=mit_layers, prompt_layers=prompt_layers)
    frames, order = kit.frames(1, model.config), torch.tensor([2, 0, 3, 1])
    with torch.inference_mode():
        forward, shuffled = model.encode_video(frames), model.encode_video(frames[:, order])
        parts = torch.stack([model.visual(frames[:, t : t + 1])[0] for t in range(4)], dim=1).squeeze(2)
        whole = model.visual(frames)[0]
    assert torch.allclose(forward.video, shuffled.video, atol=1e-5) == (mit_layers == 0), "only MIT knows the order"
    assert torch.allclose(parts, whole, atol=1e-5) == (not cross_frame), "only messages cross frames"
    assert (forward.patches is None) == (prompt_layers == 0)


@pytest.mark.parametrize("num_frames", [1, 3, 9])
def test_without_mit_any_number_of_frames_does(build, kit, num_frames):
    model = build(mit_layers=0)
    with torch.inference_mode():
        features = model.encode_video(kit.frames(2, model.config, num_frames))
    assert features.video.shape == (2, 16)
    assert features.patches.shape == (2, 9, 16)


@pytest.mark.parametrize("num_frames", [1, 3, 5, 8])
def test_with_mit_another_number_of_frames_is_an_error(build, kit, num_frames):
    model = build()
    with pytest.raises(ModelError, match=f"has {num_frames} frames; this model takes exactly 4") as caught:
        model.encode_video(kit.frames(2, model.config, num_frames))
    assert "mit_layers" in caught.value.hint


@pytest.mark.parametrize("shape", [(1, 4, 3, 32, 32), (1, 4, 1, 48, 48), (4, 3, 48, 48), (1, 4, 3, 48, 64)])
def test_frames_of_another_shape_are_an_error(build, shape):
    with pytest.raises(ModelError, match="takes \\(B, T, 3, 48, 48\\)"):
        build().encode_video(torch.zeros(shape))


def test_the_text_tower_can_be_left_out(build, kit):
    whole, half = build(), build(text=False)
    state = {key: value for key, value in whole.state_dict().items() if not key.startswith("text.")}
    half.load_state_dict(state, strict=True)
    frames = kit.frames(2, whole.config)
    with torch.inference_mode():
        text = whole.encode_text(kit.tokens())
        expected = whole.similarity(whole.encode_video(frames), text)
        assert torch.equal(half.similarity(half.encode_video(frames), text), expected)
    with pytest.raises(ModelError, match="text tower"):
        half.encode_text(kit.tokens())


def test_similarity_is_a_cosine_and_logits_its_multiple(build, kit):
    model = build()
    with torch.inference_mode():
        similarity = model.similarity(model.encode_video(kit.frames(3, model.config)), model.encode_text(kit.tokens()))
        logits = model(kit.frames(3, model.config), kit.tokens())
    assert similarity.abs().max() <= 1
    torch.testing.assert_close(logits, similarity * torch.tensor(3.0).exp())


def test_every_weight_is_used(build, kit):
    model = build()
    model(kit.frames(2, model.config), kit.tokens()).square().sum().backward()
    # A key's bias shifts all of a query's scores alike: softmax cannot see it.
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(name.endswith(("attn.k.bias", "token_embedding")) for name in unused), unused


def test_prompting_starts_near_the_text_itself(kit):
    model = Xclip(kit.config(prompt_alpha=0.1)).eval()
    assert torch.equal(model.prompts.alpha, torch.full((16,), 0.1))


def test_an_empty_frame_of_weights_costs_no_compiler():
    code = (
        "import sys, torch; from xclip_cli.model.xclip import Xclip; from xclip_cli.model.config import XclipConfig\n"
        "with torch.device('meta'): Xclip(XclipConfig())\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


B16 = VisionConfig(patch_size=16)
L14 = VisionConfig(patch_size=14, width=1024, layers=24, heads=16)
L14_TEXT = TextConfig(width=768, heads=12)
COSTS = {  # giga multiply-adds of one video and one 77-token text (paper, table 1), and of the video alone
    "B/32 8f": (XclipConfig(), 39, 35.8),
    "B/16 8f": (XclipConfig(B16), 145, 141.1),
    "B/16 16f": (XclipConfig(B16, num_frames=16), 287, 282.2),
    "L/14 8f": (XclipConfig(L14, L14_TEXT, embed_dim=768), 658, 650.2),
}


@pytest.mark.parametrize("size", COSTS)
def test_the_cost_is_the_papers(size):
    config, both, video = COSTS[size]
    with torch.device("meta"):
        model = Xclip(config).eval()
        frames, tokens = torch.empty(1, config.num_frames, 3, 224, 224), torch.empty(1, 77, dtype=torch.long)
    with torch.no_grad():
        with FlopCounterMode(display=False) as of_video:
            features = model.encode_video(frames)
        with FlopCounterMode(display=False) as of_text:
            model.similarity(features, model.text(tokens))
    counted = of_video.get_total_flops() / 2e9
    total = counted + of_text.get_total_flops() / 2e9
    print(f"{size}: {total:.1f} G multiply-adds, the video alone {counted:.1f}")
    assert torch.ops.aten.bmm in of_video.get_flop_counts()["Global"], "attention must be counted"
    assert counted == pytest.approx(video, rel=0.02)
    assert total == pytest.approx(both, rel=0.02)
