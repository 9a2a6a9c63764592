"""A long video, window after window, in memory that does not grow with it.

Whoever decodes answers one request at a time and keeps the video open between them (see ``worker``); ``pieces`` is the
other side of that talk, and knows which frames come next.
"""

import contextlib
import importlib.util
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from xclip_cli.errors import MissingExtraError, VideoError
from xclip_cli.video.display import Resize
from xclip_cli.video.sampling import Windows, steps, windows
from xclip_cli.video.source import shown
from xclip_cli.video.types import Clip, VideoInfo

NUM_TIMES = 32  # frames in a piece
_PIECES_AHEAD, _WAIT_SECONDS = 2, 0.2
_AUTO_FPS = 2  # of a window whose length is "auto": four seconds of eight frames


@dataclass(frozen=True)
class Windowing:
    """How a video is cut into windows of ``num_frames`` frames; with ``scenes`` none crosses a shot change."""

    num_frames: int
    window_seconds: float
    stride_seconds: float
    scenes: bool = False

    @classmethod
    def of(
        cls,
        num_frames: int,
        window_seconds: float | str | None = None,
        stride_seconds: float | None = None,
        scenes: bool = False,
    ) -> "Windowing":
        """Windows of two frames a second for "auto" and None; they overlap by half unless a stride is given."""
        window = num_frames / _AUTO_FPS if window_seconds in ("auto", None) else float(window_seconds)
        return cls(num_frames, window, stride_seconds or window / 2, scenes)


@dataclass(frozen=True, eq=False)
class Piece:
    """The next frames of a video and the windows that are whole with them.

    ``clip`` holds the frames, each picture once, and ``numbers`` ascend from piece to piece; ``index`` int (W, T) says
    which make the W windows, ``spans`` (W, 2) and ``scenes`` (W,) are as in ``Windows``. Later windows are made of none
    that come before number ``needed``.
    """

    clip: Clip
    numbers: np.ndarray
    needed: int
    spans: np.ndarray
    scenes: np.ndarray
    index: np.ndarray


class Stream:
    """The pieces of one video, a few of them ahead of whoever iterates, once. Raises VideoError.

    The other end runs in the thread of the worker that decodes.
    """

    def __init__(self, pieces: Callable[[Callable], Iterator[Piece]]):
        self._pieces = pieces
        self._cancelled = threading.Event()
        self._ready: queue.Queue[Piece | BaseException | None] = queue.Queue(_PIECES_AHEAD)

    def __iter__(self) -> Iterator[Piece]:
        while (piece := self._next()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def _next(self) -> Piece | BaseException | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._ready.get(timeout=_WAIT_SECONDS)
            if self._cancelled.is_set():
                raise CancelledError

    def run(self, ask: Callable[[dict], Clip | tuple]) -> Callable[[], None]:
        """Decode all pieces; the call that comes back says that there are no more."""
        for piece in self._pieces(ask):
            self._put(piece)
        return partial(self._put, None)

    def fail(self, error: BaseException) -> None:
        self._put(error)

    def cancel(self) -> None:
        """Let the other end stop: nobody iterates any more."""
        self._cancelled.set()

    def _put(self, piece: Piece | BaseException | None) -> None:
        """Waits for room as long as somebody may make some."""
        while not self._cancelled.is_set():
            with contextlib.suppress(queue.Full):
                return self._ready.put(piece, timeout=_WAIT_SECONDS)
        if isinstance(piece, Piece):
            raise CancelledError


def check_scenes() -> None:
    """MissingExtraError where shot changes cannot be found."""
    if importlib.util.find_spec("scenedetect") is None:
        raise MissingExtraError("--scenes needs PySceneDetect", "pip install 'xclip-cli[scenes]'")


def pieces(
    ask: Callable[[dict], Clip | list], path: str, how: Windowing, resize: Resize | None = None, first_window: int = 0
) -> Iterator[Piece]:
    """The video from window ``first_window`` on. ``ask`` answers one request for frames or cuts. Raises VideoError.

    Where the video ends before its length says so, the windows that are left are planned anew up to there. A picture
    that stands still is one frame of each piece, however many windows show it.
    """

    def frames(times: np.ndarray) -> Clip:
        return ask({"path": path, "times_seconds": times.tolist(), "resize": resize and asdict(resize)})

    info = frames(np.empty(0)).info
    end = info.end_seconds
    cuts = _cuts(ask, path) if how.scenes else []
    done, shift, planned = first_window, 0, None
    while planned != end:
        planned, plan = end, _plan(path, info, end, how, cuts)
        same = np.arange(len(plan.times) + 1)  # the number of the frame that is shown at each time
        for step in steps(plan, NUM_TIMES, done):
            times = plan.times[step.times]
            clip = frames(times)
            last = end if clip.end_seconds is None else clip.end_seconds
            if times.max() >= last and info.start_seconds < last < end:
                end = last
                break
            new = np.flatnonzero(np.diff(clip.times_seconds, prepend=-np.inf))
            numbers = np.arange(step.times.start, step.times.stop)[new]
            same[step.times] = np.repeat(numbers, np.diff(new, append=len(times)))
            clip = replace(clip, frames=clip.frames[new], times_seconds=clip.times_seconds[new])
            which, done = step.windows, step.windows.stop
            index, needed = same[plan.index[which]] + shift, int(same[step.needed]) + shift
            yield Piece(clip, numbers + shift, needed, plan.spans[which], plan.scenes[which], index)
        shift += len(plan.times)
    ask({"path": path, "end": True})
    if done == first_window:
        raise VideoError(f"{shown(path)} ends earlier than when it was begun", "run the same command again")


def _cuts(ask: Callable[[dict], list], path: str) -> list[float]:
    """When shots change, in seconds, looked for a stretch at a time."""
    cuts, more = [], True
    while more:
        found, more = ask({"path": path, "cuts": True})
        cuts += found
    return cuts


def _plan(path: str, info: VideoInfo, stop_seconds: float, how: Windowing, cuts: list[float]) -> Windows:
    size = how.num_frames, how.window_seconds, how.stride_seconds
    where = {"start_seconds": info.start_seconds, "gaps_seconds": info.gaps_seconds}
    try:
        return windows(stop_seconds, *size, cuts, **where)
    except ValueError as error:
        raise VideoError(f"{shown(path)}: {error}", "take a longer --stride") from error
