"""One Tagger in this process, on one device; decoding runs ahead in worker processes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from xclip_cli.labels import LabelSet
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings


def run(videos: Sequence[str], label_set: LabelSet, settings: TagSettings) -> Iterator[VideoResult]:
    """One result per video, in order of completion. Raises ModelError, LabelError or UsageError before the first."""
    from xclip_cli.tagger import Tagger  # here, so that a run with nothing left to do needs no torch

    yield from Tagger(**asdict(settings)).set_labels(label_set).tag_many(videos)
