"""This machine: one Tagger in this process, decoders in others."""

from collections.abc import Callable, Iterable, Iterator

from xclip_cli.checkpoint.base import Checkpoint
from xclip_cli.labels import LabelSet
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.tagger import Tagger
from xclip_cli.tagger.timeline import WindowMemory


def tag(
    videos: Iterable[str],
    label_set: LabelSet,
    settings: TagSettings,
    checkpoint: Checkpoint,
    memory: WindowMemory | None = None,
    on_progress: Callable[[float, float], None] = lambda seconds, end: None,
) -> Iterator[VideoResult]:
    """One result per video, in order of completion; timelines go on behind the windows that ``memory`` has of them.

    ``on_progress`` is that of `Tagger.tag_many`.
    """
    with Tagger(checkpoint, label_set, settings) as tagger:
        yield from tagger.tag_many(iter(videos), memory=memory, on_progress=on_progress)
