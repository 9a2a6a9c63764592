"""How often a model is right: every clip once, every variant of the model on the same frames, resumable."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

from xclip_cli import __version__
from xclip_cli.benchmark.protocols import Task, read_task
from xclip_cli.benchmark.settings import AccuracySettings
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.dataset import Sample
from xclip_cli.dataset.metrics import Bin, calibration, class_accuracies, confusion, hits, interval, share
from xclip_cli.errors import ModelError, UsageError, VideoError
from xclip_cli.files import make_folder
from xclip_cli.labels import LabelSet
from xclip_cli.model.xclip import VideoFeatures, Xclip
from xclip_cli.outputs.journal import Journal, video_key
from xclip_cli.results import Segment, VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.encoder import Encoder
from xclip_cli.tagger.tagger import Tagger
from xclip_cli.video.ahead import prefetch_clips
from xclip_cli.video.pool import DecodePool
from xclip_cli.video.types import Clip

PREDICTIONS = "predictions.csv"
TOP = 5
TEMPLATE = "a video of {}."
# CLIP's ensemble for Kinetics (Radford et al., ICML 2021): every kind of picture with every way to do something.
_KINDS = ("photo", "video", "example", "demonstration")
_VERBS = ("", "using ", "doing ", "during ", "performing ", "practicing ")
_DOINGS = ("{}", *(f"a person {verb}{{}}" for verb in _VERBS))
ENSEMBLE = tuple(f"a {kind} of {doing}." for doing in _DOINGS for kind in _KINDS)
_TEMPLATES = {"none": ("{}",), "template": (TEMPLATE,), "ensemble": ENSEMBLE, "video": ("{}",)}
# Patch size, vision width and image side of an X-CLIP -> the CLIP that it was made from.
_ORIGINALS = {
    (32, 768, 224): "open_clip:ViT-B-32/openai",
    (16, 768, 224): "open_clip:ViT-B-16/openai",
    (14, 1024, 224): "open_clip:ViT-L-14/openai",
    (14, 1024, 336): "open_clip:ViT-L-14-336/openai",
}

OnProgress = Callable[[int, int], None]  # how many clips are done, of how many


@dataclass(frozen=True)
class Variant:
    """A way to tag, with its labels set; ``what`` says why the row is there.

    ``encoder``'s features of a video are what the tagger scores; variants of one temporal modelling share it.
    """

    model: str
    temporal: str
    prompting: str
    what: str
    tagger: Tagger
    encoder: Encoder

    @property
    def name(self) -> str:
        return f"{self.model} {self.temporal} {self.prompting}"

    @property
    def configuration(self) -> str:
        """The same for two variants that answer alike."""
        checkpoint, settings = self.tagger.checkpoint, self.tagger.settings
        labels = self.tagger.label_set.fingerprint
        parts = [__version__, checkpoint.fingerprint, checkpoint.num_frames, labels, settings.fingerprint]
        return hashlib.sha256(json.dumps([*parts, self.temporal, self.prompting]).encode()).hexdigest()


def variants(label_set: LabelSet, settings: AccuracySettings) -> tuple[list[Variant], list[str]]:
    """The rows, the model's own first, and a line for each row that should be there and cannot.

    Raises UsageError for a part that the model does not have, ModelError where it cannot be opened.
    """
    base, rows = Encoder(settings.tag.model, settings.tag), []
    if not isinstance(base.network, Xclip):
        if "video" in settings.prompting or set(settings.temporal) - {"mean"}:
            raise UsageError(f"{settings.tag.model} knows no time and has no prompts", "leave those rows out")
        ways = dict.fromkeys(settings.prompting or ("none",))
        return [_row(base, base.network, settings.tag, ("mean", way), label_set, "as it is") for way in ways], []
    config = base.network.config
    own = "+".join(["cct"] * config.cross_frame + ["mit"] * bool(config.mit_layers)) or "mean"
    prompting = "video" if config.prompt_layers else "none"
    asked = product(settings.temporal or (own,), settings.prompting or (prompting,))
    what = {("mean", "none"): "the same backbone, frames averaged", (own, prompting): "as it is"}
    encoders: dict[str, Encoder] = {}
    for temporal, way in dict.fromkeys([(own, prompting), *asked, ("mean", "none")]):
        if temporal not in encoders:
            encoders[temporal] = base.with_network(_temporal(base.network, temporal))
        encoder = encoders[temporal]
        network = encoder.network if way == "video" else encoder.network.switched(prompt_layers=0)
        if way == "video" and not config.prompt_layers:
            raise UsageError("--prompting video is asked for, and the model has no such part", "leave it out")
        rows.append(_row(encoder, network, settings.tag, (temporal, way), label_set, what.get((temporal, way), "")))
    return _with_original(rows, label_set)


def _row(
    encoder: Encoder, network: nn.Module, tag: TagSettings, way: tuple[str, str], label_set: LabelSet, what: str
) -> Variant:
    """The variant of which ``way`` names the temporal model and the prompting."""
    tagger = Tagger(encoder.with_network(network), prompted(label_set, way[1]), tag)
    return Variant(encoder.checkpoint.name, *way, what, tagger, encoder)


def _temporal(model: Xclip, temporal: str) -> Xclip:
    """The model with its messages and its integration on or off. Raises UsageError for a part that it does not have."""
    parts = temporal.split("+")
    has = {"cct": model.config.cross_frame, "mit": model.config.mit_layers}
    if absent := [part for part in parts if part in has and not has[part]]:
        raise UsageError(f"--temporal {absent[0]} is asked for, and the model has no such part", "leave it out")
    on = {part: value if part in parts else type(value)(0) for part, value in has.items()}
    return model.switched(cross_frame=on["cct"], mit_layers=on["mit"])


def _with_original(rows: list[Variant], label_set: LabelSet) -> tuple[list[Variant], list[str]]:
    """Adds the CLIP that the backbone was, where it is on this machine."""
    base, vision = rows[0].tagger, rows[0].encoder.network.config.vision
    name = _ORIGINALS.get((vision.patch_size, vision.width, vision.image_size)) if vision.stem == "patch" else None
    if name is None:
        return rows, []
    try:
        checkpoint = replace(open_checkpoint(name), num_frames=base.checkpoint.num_frames)
        original = Encoder(checkpoint, base.settings)
    except ModelError as error:
        return rows, [f"{name}, the backbone before it was tuned, is not measured: {error.message}; {error.hint}"]
    what = "the backbone before it was tuned"
    return [*rows, _row(original, original.network, base.settings, ("mean", "none"), label_set, what)], []


def prompted(label_set: LabelSet, prompting: str) -> LabelSet:
    """The set with every prompt put into every template of a way of prompting."""
    templates = _TEMPLATES[prompting]

    def prompts(texts: tuple[str, ...]) -> Iterator[str]:
        return dict.fromkeys(template.replace("{}", text) for text in texts for template in templates)

    labels = tuple(replace(label, prompts=tuple(prompts(label.prompts))) for label in label_set.labels)
    return LabelSet(label_set.name, labels)


@dataclass(frozen=True)
class Scores:
    """Shares, 0 to 1, of the ``clips`` that were tagged; ``errors`` counts those that were not, which are not in them.

    ``top1_interval`` is where top-1 may truly lie (95 %); ``top5`` is None where there are no more than five labels;
    ``mean_class`` averages over the classes that have clips; ``calibration_error`` is of the best label's score.
    """

    clips: int
    errors: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float | None
    mean_class: float
    calibration_error: float
    bins: list[Bin]
    confusion: np.ndarray

    @classmethod
    def of(cls, results: Sequence[VideoResult], targets: Sequence[int], names: Sequence[str]) -> "Scores":
        """Of results in the order of the targets, which are indices of ``names``. Without a clip, shares are NaN."""
        index = {name: i for i, name in enumerate(names)}
        measured = [(t, r.segments[0].tags) for t, r in zip(targets, results, strict=True) if r.error is None]
        targets, ranked = [t for t, _ in measured], [[index[tag.label] for tag in tags] for _, tags in measured]
        right, near = hits(ranked, targets, 1), hits(ranked, targets, TOP)
        counts = confusion(targets, [best for best, *_ in ranked], len(names))
        error, bins = calibration([tags[0].score for _, tags in measured], right)
        with_clips = class_accuracies(counts)[counts.sum(axis=1) > 0]
        return cls(
            len(measured),
            len(results) - len(measured),
            share(right),
            interval(int(right.sum()), len(right)),
            share(near) if len(names) > TOP else None,
            share(with_clips),
            error,
            bins,
            counts,
        )


@dataclass(frozen=True)
class Evaluation:
    """What was measured: ``results`` of each variant, in the order of the task's samples; ``absent`` rows, why."""

    task: Task
    variants: list[Variant]
    results: list[list[VideoResult]]
    absent: list[str]
    facts: dict[str, str]

    @property
    def warnings(self) -> list[str]:
        """What may be wrong about the list, the labels (a protocol's are its own), the model; what is not measured."""
        of_labels = [] if self.task.protocol else self.task.label_set.warnings()
        return [*self.task.warnings, *of_labels, *self.variants[0].tagger.checkpoint.warnings, *self.absent]

    @cached_property
    def scores(self) -> list[Scores]:
        """One for each variant."""
        targets, names = list(self.task.targets.values()), [label.name for label in self.task.label_set.labels]
        return [Scores.of(results, targets, names) for results in self.results]


def run(
    data: str, label_set: LabelSet | None, settings: AccuracySettings, output: Path | None, on_progress: OnProgress
) -> Evaluation:
    """Measures every variant on every clip. ``on_progress(done, total)`` counts clips.

    With ``output``, a folder, what is finished is kept in its journal and a second run goes on from there; clips that
    failed are tried again. Raises UsageError, ModelError, LabelError and OutputError.
    """
    if output:
        make_folder(output)
    task = read_task(data, label_set, settings)
    settings = replace(settings, tag=replace(settings.tag, top_k=TOP))
    rows, absent = variants(task.label_set, settings)
    with Journal(output / PREDICTIONS) if output else nullcontext() as journal:
        known = journal.load() if journal else {}
        keys = {(i, s): _key(row, s) for i, row in enumerate(rows) for s in task.samples}
        found = {index: known[key] for index, key in keys.items() if key in known}
        lacking = {s: [i for i in range(len(rows)) if (i, s) not in found] for s in task.samples}
        before = sum(not missing for missing in lacking.values())
        on_progress(before, len(task.samples))
        for done, (sample, results) in enumerate(_measure(rows, lacking, settings), before + 1):
            for i, result in results.items():
                found[i, sample] = result
                if journal:
                    journal.append(keys[i, sample], result)
            on_progress(done, len(task.samples))
    results = [[found[i, sample] for sample in task.samples] for i in range(len(rows))]
    return Evaluation(task, rows, results, absent, _facts(task, rows[0], settings))


def _measure(
    rows: Sequence[Variant], lacking: Mapping[Sample, list[int]], settings: AccuracySettings
) -> Iterator[tuple[Sample, dict[int, VideoResult]]]:
    """Each sample that a variant lacks, with the results of those variants; it is decoded once for all."""
    tag, first = settings.tag, rows[0].encoder
    waiting = [sample for sample, missing in lacking.items() if missing]
    if not waiting:
        return
    requests = (
        (s, (s.path, first.checkpoint.num_frames, tag.num_clips, s.start_seconds, s.end_seconds)) for s in waiting
    )
    with DecodePool(tag.reader, min(tag.workers, len(waiting)), tag.decode_timeout_seconds) as pool:
        sizes = {row.encoder.resize for row in rows}  # where they differ, frames come as they are
        for decoded in prefetch_clips(pool, requests, first.batch_size, sizes.pop() if len(sizes) == 1 else None):
            for sample, outcome in decoded:
                if isinstance(outcome, VideoError):
                    yield sample, {i: _result(rows[i], sample, error=outcome.message) for i in lacking[sample]}
            clips = {sample: clip for sample, clip in decoded if isinstance(clip, Clip)}
            if clips:
                yield from _tag(rows, clips, lacking)


def _tag(
    rows: Sequence[Variant], clips: Mapping[Sample, Clip], lacking: Mapping[Sample, list[int]]
) -> Iterator[tuple[Sample, dict[int, VideoResult]]]:
    """The tags of every variant; those of one encoder share the features of the videos."""
    results: dict[Sample, dict[int, VideoResult]] = {sample: {} for sample in clips}
    features: dict[tuple, VideoFeatures] = {}
    for i, row in enumerate(rows):
        wanted = [sample for sample in clips if i in lacking[sample]]
        if not wanted:
            continue
        decoded = [clips[sample] for sample in wanted]
        key = id(row.encoder), tuple(wanted)
        if key not in features:
            features[key] = row.encoder.encode(decoded)
        segments = row.tagger.tag_clips(decoded, features[key])
        for sample, segment in zip(wanted, segments, strict=True):
            results[sample][i] = _result(row, sample, segment, clips[sample].warnings)
    yield from results.items()


def _result(row: Variant, sample: Sample, segment: Segment | None = None, warnings=(), error=None) -> VideoResult:
    segments = ()
    if segment is not None:
        start = segment.start_seconds if sample.start_seconds is None else sample.start_seconds
        end = segment.end_seconds if sample.end_seconds is None else sample.end_seconds
        segments = (Segment(start, end, segment.tags),)
    return VideoResult(sample.path, row.name, row.tagger.label_set.name, segments, error, tuple(warnings))


def _key(row: Variant, sample: Sample) -> str:
    span = [sample.start_seconds, sample.end_seconds]
    return video_key(sample.path, json.dumps([row.configuration, *span]))


def _facts(task: Task, row: Variant, settings: AccuracySettings) -> dict[str, str]:
    tag, checkpoint, names = settings.tag, row.tagger.checkpoint, task.label_set
    return {
        "model": f"{checkpoint.name}, fingerprint {checkpoint.fingerprint[:16]}",
        **task.facts,
        "clips": str(len(task.samples)),
        "labels": f"{len(names.labels)} of {names.name}, sha256 {names.fingerprint[:16]}",
        "frames": str(checkpoint.num_frames),
        "views": f"{tag.num_clips} x {tag.num_crops} (clips x crops), at fixed places: no seed is used",
        "device": f"{row.encoder.device}, {tag.dtype}",
        "versions": f"xclip-cli {__version__}, torch {torch.__version__}",
    }
