"""The probe begins at the texts, is held to them, and tags from its file as it was validated."""

import pytest
import torch
import torch.nn.functional as F

from xclip_cli.finetune.probe import STRENGTHS, Probe, Videos

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
    return Videos(features, features @ probe.text.T, probe.text.norm(dim=1).expand(CLIPS, -1), targets)


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
    assert len(solutions) == len(STRENGTHS)
    assert lengths == sorted(lengths) and lengths[0] < 0.1 < 0.3 < lengths[-1]
    untouched = F.cross_entropy(probe.logits(videos, torch.zeros_like(probe.text)), videos.targets).item()
    assert losses == sorted(losses, reverse=True) and losses[-1] < untouched / 2


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_solution_is_where_the_slope_is_nothing(probe, videos, strength):
    offsets = probe.solve(videos, strength).requires_grad_()
    loss = F.cross_entropy(probe.logits(videos, offsets), videos.targets, reduction="sum")
    (loss + strength / 2 * offsets.square().sum()).backward()
    assert offsets.grad.abs().max() < 0.02 + 1e-4 * strength  # of a hold that is so steep


def test_solving_draws_nothing(probe, videos):
    assert torch.equal(probe.solve(videos, 3.0), probe.solve(videos, 3.0))


def test_in_turn_no_clip_is_scored_by_what_learned_from_it(probe, videos):
    folds = [i // 8 for i in range(CLIPS)]
    parts = probe.in_turn(videos, folds)
    untouched, *strengths = probe.candidates(videos, folds, parts)
    assert torch.equal(untouched, probe.logits(videos, torch.zeros_like(probe.text)))
    assert len(strengths) == len(STRENGTHS)
    others = torch.tensor(folds) != 3
    offsets = list(probe.solutions(videos[others]))
    for logits, of_strength in zip(strengths, offsets, strict=True):
        torch.testing.assert_close(logits[~others], probe.logits(videos, of_strength)[~others])
