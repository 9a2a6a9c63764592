"""Search an index: a sentence or an example in, the nearest moments of all videos out (exact search).

A question is compared, by cosine, with every window that is kept. What it costs is reading them once; neither torch nor
a video is touched where the sentence was asked before.
"""

import os
import re
from dataclasses import dataclass, replace
from heapq import nlargest
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from xclip_cli.checkpoint import hub
from xclip_cli.checkpoint.registry import MODELS
from xclip_cli.errors import VideoError
from xclip_cli.files import content_sha256
from xclip_cli.index.entries import Collection
from xclip_cli.index.store import Store
from xclip_cli.labels import Label, LabelSet, builtin
from xclip_cli.labels.typed import is_foreign, script_warnings, translate_labels
from xclip_cli.results import Moment, Segment, Tag, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.textcache import prompt_features
from xclip_cli.tagger.timeline import cells, split_at_jumps
from xclip_cli.video.source import shown

_BY_CHANCE = 0.25  # of searches for what is not there: those in which a window may seem to stand out


@dataclass(frozen=True)
class Scope:
    """Limits of a search: a folder or a video (its real path), files changed since a time in nanoseconds."""

    folder: str | None = None
    since_ns: int = 0


class Query(NamedTuple):
    """Features (E,) of a sentence, or of an example (``like``).

    ``texts`` (T, E) are those of general texts, of unit length, by which a moment is judged. ``warnings`` are about
    the sentence.
    """

    features: np.ndarray
    texts: np.ndarray
    like: bool = False
    warnings: tuple[str, ...] = ()


class Answer(NamedTuple):
    """Moments, best first, among so many ``windows`` of a collection; ``lost`` files are gone or have changed."""

    moments: list[Moment]
    lost: list[str]
    windows: int
    collection: Collection


def collection(store: Store, model: str) -> Collection:
    """Return the collection of a model, which is a name or a path. Raises UsageError, ModelError.

    A model that its file alone defines is found by the file's hash. Any other is opened, which needs torch.
    """
    path = hub.local_file(MODELS[model]) if model in MODELS else hub.user_path(model)
    if path is not None and path.is_file():
        weights = content_sha256(path)
        if any(known.weights == weights for known in store.collections()):
            return store.find(model, weights=weights)
    from xclip_cli.checkpoint.load import open_checkpoint

    checkpoint = open_checkpoint(model)
    return store.find(checkpoint.name, fingerprint=checkpoint.fingerprint)


def sentence(text: str, known: Collection, model: str) -> tuple[np.ndarray, list[str]]:
    """Return the features float32 (E,) of a sentence, and warnings about it.

    A name that a built-in label set has in another language is searched by that label's prompts; one that a tuned model
    has, as it stands. Raises LabelError for a text that is empty or longer than the model reads.
    """
    typed = LabelSet("search", (Label(text.strip(), (text.strip(),)),))
    own = None
    if is_foreign(text) and model not in MODELS:
        from xclip_cli.checkpoint.load import open_checkpoint

        own = open_checkpoint(model).default_labels
    [label] = translate_labels(typed, own).labels
    features = prompt_features([label], _Named(known.fingerprint, model))
    return np.mean([_unit(features[prompt]) for prompt in label.prompts], axis=0), script_warnings([label], own)


def make_query(text: str | None, like: str | None, store: Store, known: Collection, settings: TagSettings) -> Query:
    """Return the query for a sentence, or for an example where ``text`` is None.

    Raises LabelError, VideoError, ModelError.
    """
    if text is None:
        features, warnings = example(like, store, known, settings), []
    else:
        features, warnings = sentence(text, known, settings.model)
    labels = builtin("background").labels
    general = prompt_features(labels, _Named(known.fingerprint, settings.model))
    texts = np.stack([_unit(general[prompt]) for label in labels for prompt in label.prompts])
    return Query(features, texts, text is None, tuple(warnings))


@dataclass(frozen=True)
class _Named:
    """What text features need of a checkpoint; the model is opened only if they are not in the cache."""

    fingerprint: str
    name: str

    def text_encoder(self):
        from xclip_cli.checkpoint.load import open_checkpoint

        return open_checkpoint(self.name).text_encoder()


def example(text: str, store: Store, known: Collection, settings: TagSettings) -> np.ndarray:
    """Return the features float32 (E,) of an example: ``clip.mp4``, or ``clip.mp4@12.5`` for that second of it.

    A video in the index is not decoded. Raises VideoError.
    """
    path, at = _video_and_moment(text)
    with store.reading():
        entry = store.entry(known, os.path.realpath(path))
        embeddings = store.read(known, entry) if entry is not None and entry.is_unchanged else None
    if embeddings is None:
        return _features(path, at, known.recipe.window_seconds, settings)
    if at is None:
        return embeddings.whole
    if at >= embeddings.end_seconds:
        raise VideoError(f"{shown(path)} has no moment {at:g} s: it ends at {embeddings.end_seconds:.3f} s")
    return embeddings.windows[np.abs(embeddings.spans.mean(axis=1) - at).argmin()]


def _video_and_moment(text: str) -> tuple[str, float | None]:
    path, _, at = text.rpartition("@")
    if not path or os.path.exists(text) or not re.fullmatch(r"\d+(\.\d*)?", at):
        return text, None
    return path, float(at)


def _features(path: str, at: float | None, window_seconds: float, settings: TagSettings) -> np.ndarray:
    from xclip_cli.tagger.encoder import Encoder

    encoder = Encoder(settings.model, settings)
    start = None if at is None else max(0.0, at - window_seconds / 2)
    span = start, None if at is None else start + window_seconds
    with encoder:
        clip = encoder.pool.submit(path, encoder.checkpoint.num_frames, 1, *span, resize=encoder.resize).result()
    return encoder.encode([clip]).video[0].float().numpy(force=True)


def find(store: Store, known: Collection, query: Query, top_k: int, scope: Scope) -> Answer:
    """Return the ``top_k`` moments nearest to a query; moments of one video do not overlap.

    Videos are visited in order of their best window, until no other can be among the best.
    """
    found: list[tuple[Moment, int]] = []  # and the row of its best window
    lost = []
    with store.reading():
        rows = store.rows(known)
        spans = [(0, rows.num_rows)] if scope == Scope() else store.spans(known, scope.folder, scope.since_ns)
        cosines = rows.cosines(query.features, spans)
        compared = cosines > -np.inf
        background_mean = cosines.mean(where=compared, dtype=np.float64) if compared.any() else 0.0
        while compared.any() and cosines[best := int(cosines.argmax())] > -np.inf:
            if len(found) == top_k and found[-1][0].score >= cosines[best]:
                break
            entry = store.entry_at(known, best)
            own = slice(best, best + 1) if entry is None else slice(entry.first, entry.first + entry.count)
            if entry is not None and entry.is_unchanged:
                spans, end = store.timeline(entry)
                own_moments = _moments(entry.path, spans, end, cosines[own], background_mean, top_k)
                found += [(moment, entry.first + window) for moment, window in own_moments]
                found = nlargest(top_k, found, key=lambda pair: pair[0].score)
            elif entry is not None:
                lost.append(entry.path)
            cosines[own] = -np.inf
        windows = int(compared.sum())
        moments = [
            replace(moment, stands_out=stands_out(rows.read(row, 1)[0], query, windows)) for moment, row in found
        ]
    return Answer(moments, lost, windows, known)


def stands_out(features: np.ndarray, query: Query, windows: int) -> bool:
    """Return whether a window of these features (E,), one of so many, fits a query better than chance explains.

    A sentence is compared with the general texts: in standard deviations of their cosines with the window it must lie
    so far above their mean as the best of ``windows`` normal numbers does in one search of four. The cosines of an
    example and of the window with these texts must correlate by 0.71: they have half of their variance in common.
    """
    window, wanted = _unit(features), _unit(query.features)
    general = query.texts @ window
    if query.like:
        return bool(np.corrcoef(general, query.texts @ wanted)[0, 1] >= 0.5**0.5)
    deviations = NormalDist().inv_cdf(1 - _BY_CHANCE / windows)
    return bool(wanted @ window >= general.mean() + deviations * general.std())


def _moments(
    path: str, spans: np.ndarray, end: float, cosines: np.ndarray, background_mean: float, most: int
) -> list[tuple[Moment, int]]:
    """Return the moments of a video, `stands_out` not yet set, and the number of the best window of each."""
    found = []
    for part, part_end in split_at_jumps(spans, end):
        borders, middles, near = cells(spans[part], part_end), spans[part].mean(axis=1), cosines[part]
        found += [
            (
                Moment(
                    path, float(borders[first]), float(borders[stop]), float(near[peak]), float(middles[peak]), False
                ),
                part.start + peak,
            )
            for first, stop, peak in peaks(near, background_mean, most)
        ]
    return found


def peaks(cosines: np.ndarray, background_mean: float, most: int) -> list[tuple[int, int, int]]:
    """Return moments from the cosines (W,) of a video's windows: windows [first, stop) and the best of them.

    A moment is a window that is better than those beside it, with all around it that come at least half as far above
    ``background_mean``; the best moments take their windows first, and there are up to ``most``.
    """
    before, after = np.append(-np.inf, cosines[:-1]), np.append(cosines[1:], -np.inf)
    tops = np.flatnonzero((cosines >= before) & (cosines > after))
    free, found = np.ones(len(cosines), bool), []
    for peak in tops[np.argsort(-cosines[tops], kind="stable")].tolist():
        if free[peak] and len(found) < most:
            best = cosines[peak]
            borders = np.flatnonzero((cosines < min(best, (best + background_mean) / 2)) | (cosines > best) | ~free)
            after_peak = int(np.searchsorted(borders, peak))
            first = int(borders[after_peak - 1]) + 1 if after_peak else 0
            stop = int(borders[after_peak]) if after_peak < len(borders) else len(cosines)
            free[first:stop] = False
            found.append((first, stop, peak))
    return found


def results(moments: list[Moment], query: str, model: str) -> list[VideoResult]:
    """Return the moments as timelines of their videos, the best video first."""
    found: dict[str, list[Segment]] = {}
    for moment in moments:
        label = query if moment.stands_out else f"{query} (does not stand out)"
        tag = Tag(label, moment.score, moment.score, moment.score, moment.peak_seconds)
        found.setdefault(moment.video, []).append(Segment(moment.start_seconds, moment.end_seconds, (tag,)))
    return [
        VideoResult(video, model, "search", tuple(sorted(segments, key=lambda segment: segment.start_seconds)))
        for video, segments in found.items()
    ]


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features)
