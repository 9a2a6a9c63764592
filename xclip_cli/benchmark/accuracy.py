"""How often a model is right: every clip once, every variant on the same frames, resumable."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from xclip_cli import __version__
from xclip_cli.errors import OutputError, UsageError, VideoError
from xclip_cli.journal import Journal, video_key
from xclip_cli.labels import LabelSet
from xclip_cli.model.xclip import VideoFeatures
from xclip_cli.results import Segment, VideoResult
from xclip_cli.samples import Sample
from xclip_cli.settings import AccuracySettings
from xclip_cli.video.ahead import decode_ahead
from xclip_cli.video.types import Clip
from xclip_cli.video.worker import DecodePool

from .protocols import Task, read_task
from .scores import TOP, Scores
from .variants import Variant, variants

PREDICTIONS = "predictions.csv"

Told = Callable[[int, int], None]


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
        """What may be wrong about the labels (a protocol's are its own), about the model, and what is not measured."""
        of_labels = [] if self.task.protocol else self.task.label_set.warnings()
        return [*of_labels, *self.variants[0].tagger.checkpoint.warnings, *self.absent]

    @cached_property
    def scores(self) -> list[Scores]:
        """One for each variant."""
        answers, names = list(self.task.answers.values()), [label.name for label in self.task.label_set.labels]
        return [Scores.of(results, answers, names) for results in self.results]


def run(
    data: str, label_set: LabelSet | None, settings: AccuracySettings, output: Path | None, told: Told
) -> Evaluation:
    """Measures every variant on every clip. ``told(done, total)`` counts clips.

    With ``output``, a folder, what is finished is kept in its journal and a second run goes on from there; clips that
    failed are tried again. Raises UsageError, ModelError, LabelError and OutputError.
    """
    task = read_task(data, label_set, settings)
    settings = replace(settings, tag=replace(settings.tag, top_k=TOP))
    rows, absent = variants(task.label_set, settings)
    with Journal(_folder(output) / PREDICTIONS) if output else nullcontext() as journal:
        known = journal.load() if journal else {}
        keys = {(i, s): _key(row, s) for i, row in enumerate(rows) for s in task.samples}
        found = {place: known[key] for place, key in keys.items() if key in known}
        lacking = {s: [i for i in range(len(rows)) if (i, s) not in found] for s in task.samples}
        before = sum(not missing for missing in lacking.values())
        told(before, len(task.samples))
        for done, (sample, results) in enumerate(_measure(rows, lacking, settings), before + 1):
            for i, result in results.items():
                found[i, sample] = result
                if journal:
                    journal.append(keys[i, sample], result)
            told(done, len(task.samples))
    results = [[found[i, sample] for sample in task.samples] for i in range(len(rows))]
    return Evaluation(task, rows, results, absent, _facts(task, rows[0], settings))


def _measure(
    rows: Sequence[Variant], lacking: Mapping[Sample, list[int]], settings: AccuracySettings
) -> Iterator[tuple[Sample, dict[int, VideoResult]]]:
    """Each sample that a variant lacks, with the results of those variants; it is decoded once for all."""
    tag, first = settings.tag, rows[0].tagger
    waiting = [sample for sample, missing in lacking.items() if missing]
    if not waiting:
        return
    requests = (
        (s, (s.path, first.checkpoint.num_frames, tag.num_clips, s.start_seconds, s.end_seconds)) for s in waiting
    )
    with DecodePool(tag.reader, min(tag.workers, len(waiting)), tag.decode_timeout_seconds) as pool:
        sizes = {row.tagger.resize for row in rows}  # where they differ, frames come as they are
        for decoded in decode_ahead(pool, requests, first.batch_size, sizes.pop() if len(sizes) == 1 else None):
            for sample, outcome in decoded:
                if isinstance(outcome, VideoError):
                    yield sample, {i: _result(rows[i], sample, error=outcome.message) for i in lacking[sample]}
            clips = {sample: clip for sample, clip in decoded if isinstance(clip, Clip)}
            if clips:
                yield from _answers(rows, clips, lacking)


def _answers(
    rows: Sequence[Variant], clips: Mapping[Sample, Clip], lacking: Mapping[Sample, list[int]]
) -> Iterator[tuple[Sample, dict[int, VideoResult]]]:
    """What the variants say; those of one encoder share the features of the videos."""
    results: dict[Sample, dict[int, VideoResult]] = {sample: {} for sample in clips}
    features: dict[tuple, VideoFeatures] = {}
    for i, row in enumerate(rows):
        wanted = [sample for sample in clips if i in lacking[sample]]
        if not wanted:
            continue
        decoded = [clips[sample] for sample in wanted]
        place = id(row.encoder), tuple(wanted)
        if place not in features:
            features[place] = row.encoder.encode(decoded)
        segments = row.tagger.tag_clips(decoded, features[place])
        for sample, segment in zip(wanted, segments, strict=True):
            results[sample][i] = _result(row, sample, segment, clips[sample].warnings)
    yield from results.items()


def _result(row: Variant, sample: Sample, segment: Segment | None = None, warnings=(), error=None) -> VideoResult:
    segments = ()
    if segment is not None:
        end = segment.end_seconds if sample.end_seconds is None else sample.end_seconds
        segments = (Segment(sample.start_seconds or 0.0, end, segment.tags),)
    return VideoResult(sample.path, row.name, row.tagger.label_set.name, segments, error, tuple(warnings))


def _key(row: Variant, sample: Sample) -> str:
    span = [sample.start_seconds, sample.end_seconds]
    return video_key(sample.path, json.dumps([row.configuration, *span]))


def _folder(output: Path) -> Path:
    if output.exists() and not output.is_dir():
        raise UsageError(f"the output {str(output)!r} is a file: it must be a folder", "choose another -o")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(output)!r}: {error.strerror}") from error
    return output


def _facts(task: Task, row: Variant, settings: AccuracySettings) -> dict[str, str]:
    tag, checkpoint, names = settings.tag, row.tagger.checkpoint, task.label_set
    return {
        "model": f"{checkpoint.name}, fingerprint {checkpoint.fingerprint[:16]}",
        **task.facts,
        "clips": str(len(task.samples)),
        "labels": f"{len(names.labels)} of {names.name}, sha256 {names.fingerprint[:16]}",
        "frames": str(checkpoint.num_frames),
        "views": f"{tag.num_clips} x {tag.num_crops} (clips x crops), at fixed places: no seed is used",
        "device": f"{row.tagger.device}, {tag.dtype}",
        "versions": f"xclip-cli {__version__}, torch {torch.__version__}",
    }
