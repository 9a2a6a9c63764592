"""Scores a run on names that it was never shown (`protocol.py`), and tells two runs apart.

Each clip is told among the names of its own set, and among those mixed into two long lists. A set's figure is the mean
of both kinds, and the number to choose by is the mean of the sets' mean reciprocal ranks.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from protocol import NUM_FRAMES, SAME, Caches, Task, long_lists, tasks
from torch import Tensor

from xclip_cli.model.xclip import VideoFeatures, Xclip

GRID, RESAMPLED = 8, 2000
SCALES = torch.arange(8.0, 61.0, 2.0)
Embed = Callable[[list[str]], Tensor]


class Run(Protocol):
    """What is scored: clips -> features, and their cosines with texts."""

    def features(self, caches: Caches, clips: list[tuple[int, ...]]) -> VideoFeatures: ...

    def cosines(self, features: VideoFeatures, text: Tensor) -> Tensor: ...


class Pooled:
    """A head on pooled features, its unit answers averaged over the frames of a clip."""

    def __init__(self, head: Callable[[Tensor], Tensor]):
        self.head = head

    def features(self, caches: Caches, clips: list[tuple[int, ...]]) -> VideoFeatures:
        pooled = caches.pooled[0]
        return VideoFeatures(torch.stack([F.normalize(self.head(pooled[list(c)]), dim=-1).mean(0) for c in clips]))

    def cosines(self, features: VideoFeatures, text: Tensor) -> Tensor:
        return F.normalize(features.video, dim=-1) @ text.T


class Network:
    """The whole network on trunk maps; a still is a clip of equal frames, a pair half of each."""

    def __init__(self, model: Xclip):
        self.model = model

    def features(self, caches: Caches, clips: list[tuple[int, ...]]) -> VideoFeatures:
        video, patches = [], []
        for first in range(0, len(clips), 16):
            part = self._encode(caches, clips[first : first + 16])
            video.append(part.video)
            patches.append(part.patches)
        return VideoFeatures(torch.cat(video), None if patches[0] is None else torch.cat(patches))

    def cosines(self, features: VideoFeatures, text: Tensor) -> Tensor:
        if features.patches is None:
            return self.model.similarity(features, text)
        parts = zip(features.video.split(16), features.patches.split(16), strict=True)
        return torch.cat([self.model.similarity(VideoFeatures(v, p), text) for v, p in parts])

    def _encode(self, caches: Caches, clips: list[tuple[int, ...]]) -> VideoFeatures:
        visual = self.model.visual
        places = [place for clip in clips for place in clip]
        maps = torch.from_numpy(caches.maps(places)).float().transpose(1, 2).unflatten(2, (GRID, GRID))
        tokens = visual.stem.tokens(F.relu6(visual.stem.trunk.head(maps)))
        tokens = [t.repeat_interleave(NUM_FRAMES // len(t), 0) for t in tokens.split([len(clip) for clip in clips])]
        return self.model.integrate(*visual.encode(torch.stack(tokens)))


class Scores:
    """Of every clip of a set: reciprocal ranks and log-likelihoods, by list, ``own`` first."""

    def __init__(self, ranks: dict[str, np.ndarray], likelihoods: dict[str, np.ndarray]):
        self.ranks, self.likelihoods = ranks, likelihoods  # (lists, N) and (lists, scales, N)

    def save(self, path: Path) -> None:
        """One .npz."""
        path.parent.mkdir(exist_ok=True)
        arrays = {f"rank/{k}": v for k, v in self.ranks.items()} | {f"ll/{k}": v for k, v in self.likelihoods.items()}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, *paths: Path) -> "Scores":
        """Of several files, such as one of each fold, the clips of all."""
        files = [dict(np.load(path)) for path in paths]
        both = {k: np.concatenate([f[k] for f in files if k in f], axis=-1) for k in files[0]}
        parts = ({k.split("/")[1]: v for k, v in both.items() if k.startswith(kind)} for kind in ("rank", "ll"))
        return cls(*parts)

    def scale(self) -> float:
        """The softmax scale of least surprise over all sets and lists."""
        return SCALES[int(sum(_balanced(v).mean(-1) for v in self.likelihoods.values()).argmax())].item()

    def per_clip(self) -> dict[str, np.ndarray]:
        """Set -> reciprocal rank of each clip: the mean of its own list and of the long ones."""
        return {task: _balanced(ranks) for task, ranks in self.ranks.items()}

    def per_clip_likelihood(self) -> dict[str, np.ndarray]:
        """The same of log-likelihoods."""
        k = SCALES.tolist().index(self.scale())
        return {task: _balanced(values[:, k]) for task, values in self.likelihoods.items()}


def _balanced(values: np.ndarray) -> np.ndarray:
    return 0.5 * values[0] + 0.5 * values[1:].mean(0)


@torch.inference_mode()
def score(run: Run, embed: Embed, plain: Embed, data: Path, caches: Caches, fold: int) -> Scores:
    """``embed`` gives the run's text features, ``plain`` MiniLM's, by which two names mean the same."""
    ranks, likelihoods = {}, {}
    for name, task in tasks(caches, fold).items():
        features = run.features(caches, task.clips)
        lists = [task.names] + [sorted({*task.names, *more}) for more in long_lists(data, caches).values()]
        cosines = run.cosines(features, embed(sorted({n for some in lists for n in some})))
        scored = [_among(task, cosines, sorted({n for s in lists for n in s}), some, plain) for some in lists]
        ranks[name] = np.stack([r for r, _ in scored])
        likelihoods[name] = np.stack([ll for _, ll in scored])
    return Scores(ranks, likelihoods)


def _among(task: Task, cosines: Tensor, columns: list[str], names: list[str], plain: Embed):
    place = {n: i for i, n in enumerate(columns)}
    answer = torch.tensor([names.index(label) for label in task.labels])
    cosines = cosines[:, [place[n] for n in names]].float()
    if names != task.names:
        same = plain(names) @ plain(names).T >= SAME
        same.fill_diagonal_(False)
        cosines = cosines.masked_fill(same[answer], -1)
    own = cosines.gather(1, answer[:, None])
    ranks = 1 / (1 + (cosines > own).sum(1))
    logits = SCALES[:, None, None] * cosines
    likelihood = (logits.gather(2, answer.expand(len(SCALES), -1)[..., None])[..., 0] - logits.logsumexp(2)).numpy()
    return ranks.numpy(), likelihood


def interval(values: dict[str, np.ndarray], seed: int = 0) -> tuple[float, float, float]:
    """Mean over the sets of the mean over clips, and its 95 % bootstrap interval, clips drawn anew in every set."""
    rng = np.random.default_rng(seed)
    drawn = [v[rng.integers(len(v), size=(RESAMPLED, len(v)))].mean(1) for v in values.values()]
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    return float(np.mean([v.mean() for v in values.values()])), float(low), float(high)


def table(scores: Scores, against: Scores | None = None) -> str:
    """A line a set, and the number to choose by; with ``against`` the paired difference as well."""
    lines, ranks, likelihoods = [], scores.per_clip(), scores.per_clip_likelihood()
    others = against.per_clip() if against else None
    for task in [*ranks, "all sets"]:
        some = ranks if task == "all sets" else {task: ranks[task]}
        mean, low, high = interval(some)
        lists = scores.ranks[task].mean(1) if task in ranks else np.mean([r.mean(1) for r in scores.ranks.values()], 0)
        surprise = np.mean([likelihoods[k].mean() for k in some])
        clips = sum(map(len, some.values()))
        line = f"{task:10} {clips:5} clips  MRR {100 * mean:5.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        line += f"  own {100 * lists[0]:5.1f} all {100 * lists[1]:5.1f} k400 {100 * lists[2]:5.1f}  ll {surprise:6.3f}"
        if others:
            mean, low, high = interval({k: some[k] - others[k] for k in some})
            line += f"  diff {100 * mean:+5.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        lines.append(line)
    return "\n".join([*lines, f"scale {scores.scale():.0f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("names", nargs="+", help="of runs with --fold, all folds and seeds of one recipe")
    parser.add_argument("--against", nargs="+", help="as many runs of another recipe")
    args = parser.parse_args()
    runs, others = (
        Scores.load(*(args.work / "scores" / f"{name}.npz" for name in some)) if some else None
        for some in (args.names, args.against)
    )
    print(table(runs, others))


if __name__ == "__main__":
    main()
