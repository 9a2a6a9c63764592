"""Decoding that runs ahead of whoever uses the clips, with few of them in memory at once."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import TypeVar

from xclip_cli.errors import VideoError
from xclip_cli.video.display import Resize
from xclip_cli.video.pool import DecodePool, Session
from xclip_cli.video.source import check_file
from xclip_cli.video.types import Clip

Key = TypeVar("Key")
T = TypeVar("T")


def prefetch_clips(
    pool: DecodePool | Session, requests: Iterable[tuple[Key, tuple]], batch_size: int = 1, resize: Resize | None = None
) -> Iterator[list[tuple[Key, Clip | VideoError]]]:
    """Decoded videos, or why they cannot be, up to ``batch_size`` at a time, in order of completion.

    A request is a key, which comes back, and the arguments of ``DecodePool.submit``; ``resize`` is its too. Where no
    decoder is needed to see that there is no video, none is asked.
    """
    waiting = iter(requests)
    running: dict[Future, Key] = {}
    ready: list[tuple[Key, Clip | VideoError]] = []
    while True:
        for key, request in islice(waiting, pool.capacity + batch_size - 1 - len(running) - len(ready)):
            try:
                check_file(request[0])
                running[pool.submit(*request, resize=resize)] = key
            except VideoError as error:
                ready.append((key, error))
        while running and len(ready) < batch_size:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            ready += [(running.pop(future), _outcome(future)) for future in done]
        if not ready:
            return
        yield ready[:batch_size]
        ready = ready[batch_size:]


def _outcome(future: Future) -> Clip | VideoError:
    try:
        return future.result()
    except VideoError as error:
        return error


def prefetch(begun: Iterator[T], count: int) -> Iterator[T]:
    """The items in order; up to ``count`` of them, which begin as they are taken, are taken before they are asked for.

    The next one is taken when whoever iterates is done with the one before.
    """
    waiting = deque(islice(begun, count))
    while waiting:
        yield waiting.popleft()
        waiting.extend(islice(begun, 1))
