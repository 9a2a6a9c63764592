"""The probe begins at the texts, is held to them, and tags from its file as it was validated."""

import pytest
import torch
import torch.nn.functional as F

from xclip_cli.finetune.keep import choose
from xclip_cli.finetune.probe import STRENGTHS, WAYS, Probe, Videos

SCALE, CLIPS, CLASSES, WIDTH = 20.0, 40, 4, 16


@pytest.fixture
def probe():
    text = F.normalize(torch.randn(CLASSES, WIDTH, generator=seeded(0)), dim=1)
    return Probe(3 * text, torch.full((CLASSES,), 3.0), SCALE)


@pytest.fixture
def videos(probe):
    """Clips that lie about directions of their own, which are not quite the texts, of a network without prompts."""
    targets = torch.arange(CLIPS) % CLASSES
    centres = F.normalize(probe.text, dim=1) + 0.3 * torch.randn(CLASSES, WIDTH, generator=seeded(1))
    features = F.normalize(centres[targets] + 0.2 * torch.randn(CLIPS, WIDTH, generator=seeded(2)), dim=1)
    stills = F.normalize(features + 0.1 * torch.randn(CLIPS, 1, generator=seeded(3)), dim=1)
    return Videos(features, features @ probe.text.T, probe.text.norm(dim=1).expand(CLIPS, -1), targets, stills)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [0.0, 0.5, 3.0])
def test_the_logits_are_those_of_the_features_that_are_stored(probe, videos, size):
    offsets = size * torch.randn(probe.text.shape, generator=seeded(3))
    stored = SCALE * videos.features @ F.normalize(probe.moved(offsets), dim=1).T
    torch.testing.assert_close(probe.logits(videos, offsets), stored, rtol=0, atol=1e-4)


def test_a_weaker_hold_moves_farther_and_fits_better(probe, videos):
    solutions = list(probe.solutions(videos))
    lengths = [offsets.norm().item() for offsets in solutions]
    losses = [F.cross_entropy(probe.logits(videos, offsets), videos.targets).item() for offsets in solutions]
    untouched = F.cross_entropy(probe.logits(videos, torch.zeros_like(probe.text)), videos.targets).item()
    count = len(STRENGTHS)
    assert len(solutions) == len(WAYS) == 2 * count
    for part in (slice(count), slice(count, None)):
        assert lengths[part] == sorted(lengths[part]) and losses[part] == sorted(losses[part], reverse=True)
    assert lengths[count] < 0.1 < 0.3 < lengths[-1] and losses[-1] < untouched / 2
    for offsets in solutions[:count]:  # by movement alone
        torch.testing.assert_close(offsets, offsets @ videos.movement.T @ videos.movement)


def filmed(text, targets, scenes, seed):
    """Clips in these scenes (n, E), whose feature says by its last number how much moves: more in the first class."""
    stills = scenes + torch.randn(scenes.shape, generator=seeded(seed))
    stills = F.normalize(stills - 0.97 * stills @ text.T @ text, dim=1)  # they say little of either
    moved = 0.06 - 0.12 * targets + 0.03 * torch.randn(len(targets), generator=seeded(seed + 1))
    features = F.normalize(stills + moved[:, None] * torch.eye(stills.shape[1])[-1], dim=1)
    return Videos(features, features @ text.T, torch.ones(len(targets), len(text)), targets, stills)


def test_where_scenes_mislead_movement_tells_classes_apart():
    """What is one class's place in a fold is the other's in the next."""
    width, targets, folds = 128, torch.arange(60) % 2, torch.arange(60) // 12
    text = torch.eye(width)[:2]
    probe = Probe(text, torch.ones(2), SCALE)
    places = 3 * torch.randn(5, width, generator=seeded(5))
    videos = filmed(text, targets, places[(folds + targets) % 5], 6)
    assert videos.movement.shape == (1, width) and abs(videos.movement[0, -1]) > 0.99
    parts = probe.in_turn(videos, folds.tolist())
    chosen = choose(probe.candidates(videos, folds.tolist(), parts), targets)
    assert chosen and WAYS[chosen - 1][0] == "movement alone"
    targets = torch.arange(600) % 2
    others = filmed(text, targets, 3 * torch.randn(600, width, generator=seeded(8)), 9)
    before, *after = probe.candidates(others, [], {0: list(probe.solutions(videos))})
    untouched, taken = ((logits.argmax(1) == targets).float().mean() for logits in (before, after[chosen - 1]))
    assert taken > untouched + 0.2


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_solution_is_where_the_slope_is_nothing(probe, videos, strength):
    offsets = probe.solve(videos, strength).requires_grad_()
    loss = F.cross_entropy(probe.logits(videos, offsets), videos.targets, reduction="sum")
    (loss + strength / 2 * offsets.square().sum()).backward()
    assert offsets.grad.abs().max() < 0.02 + 1e-4 * strength  # of a hold that is so steep


def test_without_clips_the_texts_stand_as_they_are(probe, videos):
    solutions = list(probe.solutions(videos[videos.targets > CLASSES]))
    assert len(solutions) == len(WAYS) and not any(offsets.any() for offsets in solutions)


def test_solving_draws_nothing(probe, videos):
    assert torch.equal(probe.solve(videos, 3.0), probe.solve(videos, 3.0))


def test_in_turn_no_clip_is_scored_by_what_learned_from_it(probe, videos):
    folds = [i // 8 for i in range(CLIPS)]
    parts = probe.in_turn(videos, folds)
    untouched, *strengths = probe.candidates(videos, folds, parts)
    assert torch.equal(untouched, probe.logits(videos, torch.zeros_like(probe.text)))
    assert len(strengths) == len(WAYS)
    others = torch.tensor(folds) != 3
    offsets = list(probe.solutions(videos[others]))
    for logits, of_strength in zip(strengths, offsets, strict=True):
        torch.testing.assert_close(logits[~others], probe.logits(videos, of_strength)[~others])
