"""What learns, at which rate; mixing; the share of the original weights that is kept."""

from dataclasses import replace

import pytest
import torch

from xclip_cli.errors import UsageError
from xclip_cli.finetune.augment import mix
from xclip_cli.finetune.keep import SHARES, choose, interpolate, top
from xclip_cli.finetune.learner import FrameFront, Front, Learner, StemFront, choose_front
from xclip_cli.finetune.regimes import NEW_RATE, NOTHING, REGIMES, choose_regime, parameter_groups
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.finetune.store import seeded
from xclip_cli.model.xclip import Xclip

NAMES = ["running", "dunking", "a dog"]


@pytest.fixture
def model(toy_config):
    torch.manual_seed(0)
    return Xclip(toy_config)


@pytest.mark.parametrize(
    ("regime", "begins", "front"),
    [
        ("few-shot", {"visual", "mit", "prompts", "text", "logit_scale"}, "pixels"),
        ("full", {"visual", "mit", "prompts", "text", "logit_scale"}, "pixels"),
        ("zero-shot", {"visual", "mit", "prompts", "logit_scale"}, "pixels"),
    ],
)
def test_a_regime_changes_what_it_says_and_nothing_else(model, regime, begins, front):
    chosen = choose_front(model, REGIMES[regime])
    assert chosen.name == front and chosen.model is model
    learner = Learner(chosen, NAMES, REGIMES[regime])
    before = {name: p.detach().clone() for name, p in learner.named_parameters()}
    inputs = learner.front(torch.randn(3, 4, 3, 32, 32))
    torch.nn.functional.cross_entropy(learner(inputs), torch.arange(3)).backward()
    optimiser = torch.optim.AdamW(parameter_groups(learner.trained, 1e-2), lr=1e-2)
    optimiser.step()
    changed = {n.removeprefix("model.").split(".")[0] for n, p in learner.named_parameters() if not p.equal(before[n])}
    assert changed == begins


@pytest.mark.parametrize("regime", ["few-shot", "full", "zero-shot"])
def test_a_convolutional_stem_stays_as_it_is(toy_config, regime):
    model = Xclip(replace(toy_config, vision=replace(toy_config.vision, stem="efficientnet_lite0", patch_size=32)))
    assert isinstance(choose_front(model, REGIMES[regime]), StemFront)
    assert not [name for name in REGIMES[regime].parameters(model) if name.startswith("visual.stem.")]


def test_the_front_and_the_rest_are_the_whole_network(model):
    frames, tokens = torch.randn(2, 4, 3, 32, 32), Learner(FrameFront(model), NAMES, NOTHING).tokens
    with torch.inference_mode():
        wanted = model(frames, tokens)
        for front in (Front(model), StemFront(model), FrameFront(model)):
            torch.testing.assert_close(Learner(front, NAMES, NOTHING)(front(frames)), wanted)


def test_new_modules_learn_ten_times_as_fast_and_vectors_do_not_decay(model):
    trained = REGIMES["few-shot"].parameters(model)
    groups = {id(p): group for group in parameter_groups(trained, 1e-6) for p in group["params"]}
    for name, parameter in trained.items():
        new = ".message." in name or name.startswith(("mit.", "prompts."))
        assert groups[id(parameter)]["peak"] == pytest.approx(1e-6 * (NEW_RATE if new else 1)), name
        plain = parameter.ndim < 2 or "position_embedding" in name or "class_embedding" in name
        assert (groups[id(parameter)]["weight_decay"] == 0) == plain, name


def test_a_label_longer_than_the_text_tower_reads_is_refused(model):
    with pytest.raises(UsageError, match="tokens: this model reads 77"):
        Learner(Front(model), ["dog " * 80], REGIMES["few-shot"])


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixed_targets_say_how_much_of_each_clip_is_seen(mixup, cutmix):
    black_and_white = torch.stack([torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)])
    for seed in range(20):
        frames, targets = mix(black_and_white, torch.eye(2), mixup, cutmix, seeded(seed))
        torch.testing.assert_close(frames.mean(dim=(1, 2, 3, 4)), targets[:, 1])
        torch.testing.assert_close(targets.sum(1), torch.ones(2))
    assert mix(black_and_white, torch.eye(2), 0, 0, seeded(0))[0] is black_and_white


def test_half_of_the_original_weights_is_half_way(model):
    original = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    tuned = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    interpolate(model, original, tuned, 0.25)
    assert all(p.eq(0.75).all() for p in model.parameters())


def test_all_of_the_original_kept_is_the_original(model):
    original = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuned = {name: tensor + torch.randn(tensor.shape) for name, tensor in original.items()}
    interpolate(model, original, tuned, 1.0)
    assert all(tensor.equal(original[name]) for name, tensor in model.state_dict().items())


def logits(*margins):
    """Of two classes, of clips whose class is the first: by how much it leads."""
    return torch.stack([torch.tensor(margins), torch.zeros(len(margins))], dim=1)


FIRST = torch.zeros(8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([logits(*[0.1] * 8), logits(*[2.0] * 8)], 1),
        ([logits(*[0.1] * 8), logits(*[3.0] * 5, *[-0.1] * 3)], 0),  # likelier, but three clips are lost
        ([logits(*[0.1] * 8), logits(*[3.0] * 7, -0.1)], 1),  # or one: that may be chance
        ([logits(*[0.1] * 8), logits(*[0.3, 0.01] * 4)], 0),  # less than chance allows
        ([logits(*[2.0] * 8), logits(*[1.0] * 8)], 0),  # worse
        # what chance cannot tell from the best: the nearest to the original
        ([logits(*[0.1] * 8), logits(*[2.0, 3.0] * 4), logits(*[2.1, 2.8] * 4)], 1),
        ([logits(*[0.1] * 8), logits(*[1.0] * 8), logits(*[2.0] * 8)], 2),
        # but for a clip that the best has right
        ([logits(-0.1, *[0.1] * 7), logits(-0.01, *[3.0] * 7), logits(0.01, *[3.0] * 7)], 2),
    ],
)
def test_the_original_is_left_only_for_what_is_better_by_more_than_chance(candidates, chosen):
    assert choose(candidates, FIRST, slack=1) == chosen


def test_without_slack_the_likeliest_is_taken():
    assert choose([logits(*[0.1] * 8), logits(*[2.0, 3.0] * 4), logits(*[2.1, 2.8] * 4)], FIRST) == 2


def test_once_a_way_is_certain_its_far_end_need_not_be():
    near = [logits(*[0.1] * 8), logits(*[0.11] * 8)]
    helps_by_a_standard_error, by_less = logits(*[9.0] * 2, *[0.05] * 6), logits(9.0, *[0.05] * 7)
    assert choose([*near, helps_by_a_standard_error], FIRST) == 2 and choose([*near, by_less], FIRST) == 1
    assert choose([near[0], helps_by_a_standard_error], FIRST) == 0
    assert choose([*near, helps_by_a_standard_error], FIRST, paths=2) == 1


def test_one_clip_decides_nothing():
    assert choose([logits(0.1), logits(9.0)], FIRST[:1]) == 0


def test_noise_is_seldom_taken_for_a_gain():
    """Candidates that differ from the original by noise alone are taken in few of a hundred runs, not in half.

    Of a path of ten the luckiest may pass where each alone would in five of a hundred.
    """
    generator, taken = torch.Generator().manual_seed(0), 0
    for _ in range(100):
        targets = torch.randint(3, (30,), generator=generator)
        original = torch.randn(30, 3, generator=generator)
        noise = torch.randn(30, 3, generator=generator) / 10
        taken += choose([original + i * noise for i in range(len(SHARES))], targets) > 0
    assert 0 < taken < 20


def test_top_k_counts_rows_whose_class_is_among_the_best():
    scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    assert top(scores, torch.tensor([0, 2])) == 0.5 and top(scores, torch.tensor([1, 2]), 2) == 1.0
    assert top(scores, torch.tensor([0, 2]), 5) is None and top(scores[:0], torch.tensor([])) is None


def test_the_probe_is_the_default_until_an_option_asks_for_training():
    assert choose_regime(FinetuneSettings()).name == "linear"
    assert choose_regime(FinetuneSettings(epochs=2)).name == choose_regime(FinetuneSettings(), True).name == "few-shot"
    assert choose_regime(FinetuneSettings(regime="full", epochs=2)).name == "full"
    with pytest.raises(UsageError, match="--epochs is for regimes that train"):
        choose_regime(FinetuneSettings(regime="linear", epochs=2))
    with pytest.raises(UsageError, match="--regime is 'best'"):
        choose_regime(FinetuneSettings(regime="best"))
