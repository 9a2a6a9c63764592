"""A linear probe that begins at the features of the labels' texts and is held to them.

A class is the direction text + offset. The offsets are the most likely ones given the clips and a normal prior around
nothing: cross-entropy plus strength / 2 times the squared offsets, as CLAP (Silva-Rodriguez et al., CVPR 2024) and LP++
(Huang et al., CVPR 2024) hold a probe to its zero-shot weights. Nothing of the network changes, and nothing is drawn.

A scene is told by more directions than a movement and is learned first. Where the clips to learn from were filmed
elsewhere than those to come, that misleads; so the offsets are also found along the direction of movement alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

# From all but the texts themselves to all but the clips alone.
STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
WAYS = tuple((what, strength) for what in ("movement alone", "all that is seen") for strength in STRENGTHS)
_STEPS = 100


@dataclass(frozen=True)
class Videos:
    """Clips as the untouched network sees them: unit features (n, E) and classes (n,).

    Each has texts of its own, after video-specific prompting: ``along`` (n, N) is how far they reach along the clip's
    feature, ``lengths`` (n, N) how long they are, so that the cosines are ``along / lengths``. ``stills`` (n, E) are
    the unit features of the mean of each clip's frames, shown all the time.
    """

    features: Tensor
    along: Tensor
    lengths: Tensor
    targets: Tensor
    stills: Tensor

    def __getitem__(self, kept: Tensor) -> "Videos":
        return Videos(*(getattr(self, field.name)[kept] for field in fields(self)))

    @cached_property
    def movement(self) -> Tensor:
        """The unit direction (1, E), up to its sign, in which clips differ most from their stills; (0, E) of none."""
        return torch.linalg.svd(self.features - self.stills, full_matrices=False)[2][:1]


@dataclass(frozen=True)
class Probe:
    """The classes' texts (N, E), as the text tower gives them, how long they are when prompted (N,), which is the unit
    of the offsets, and the scale of the network's logits."""

    text: Tensor
    unit: Tensor
    scale: float

    def moved(self, offsets: Tensor) -> Tensor:
        """Features (N, E) of the classes that stand for the texts from now on."""
        return self.text + self.unit[:, None] * offsets

    def logits(self, videos: Videos, offsets: Tensor) -> Tensor:
        """Logits (n, N), exact for a network without prompts.

        What prompts add to a text is taken to stay what it is while the text moves, and to lie along it.
        """
        steps = self.unit * (F.normalize(self.text, dim=1) * offsets).sum(dim=1)
        squares = videos.lengths**2 + 2 * videos.lengths * steps + self.unit**2 * offsets.square().sum(dim=1)
        along = videos.along + self.unit * (videos.features @ offsets.T)
        return self.scale * along / squares.clamp_min(1e-12).sqrt()

    def solve(
        self, videos: Videos, strength: float, start: Tensor | None = None, within: Tensor | None = None
    ) -> Tensor:
        """The offsets (N, E), of any direction or ``within`` the span of these (K, E), which are orthonormal."""
        start = torch.zeros_like(self.text) if start is None else start
        if not len(videos.targets):
            return start
        free = (start if within is None else start @ within.T).clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [free], max_iter=_STEPS, tolerance_grad=1e-4, tolerance_change=1e-6, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            offsets = free if within is None else free @ within
            error = F.cross_entropy(self.logits(videos, offsets), videos.targets, reduction="sum")
            total = error + strength / 2 * free.square().sum()
            total.backward()
            return total

        optimiser.step(loss)
        return free.detach() if within is None else free.detach() @ within

    def solutions(self, videos: Videos) -> Iterator[Tensor]:
        """The offsets for each of WAYS, each found from the one before."""
        for within in (videos.movement, None):
            offsets = None
            for strength in STRENGTHS:
                offsets = self.solve(videos, strength, offsets, within)
                yield offsets

    def in_turn(self, videos: Videos, folds: Sequence[int]) -> dict[int, list[Tensor]]:
        """For each fold the solutions to the clips of all others."""
        part_of = torch.tensor(folds)
        return {fold: list(self.solutions(videos[part_of != fold])) for fold in sorted(set(folds))}

    def candidates(
        self, videos: Videos, folds: Sequence[int], solutions: Mapping[int, Sequence[Tensor]]
    ) -> list[Tensor]:
        """Logits (n, N) of the untouched network, then of each of WAYS, each clip by the solutions of its fold."""
        part_of = torch.tensor(folds or [0] * len(videos.targets))
        untouched = self.logits(videos, torch.zeros_like(self.text))
        logits = [untouched, *(torch.empty_like(untouched) for _ in WAYS)]
        for fold, offsets in solutions.items():
            held = part_of == fold
            for rows, solution in zip(logits[1:], offsets, strict=True):
                rows[held] = self.logits(videos[held], solution)
        return logits
