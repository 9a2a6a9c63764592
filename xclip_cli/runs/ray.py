"""A Ray cluster: actors, each with a model on a GPU or on some CPUs and decoders of its own.

An actor has a few more videos than it can work on at once, and gives results as they are finished. Where it dies, what
it had is tried again, each video alone: one that ends its actor every time is a failed video, and costs no other.
"""

import importlib.util
import os
import platform
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice

from xclip_cli import __version__
from xclip_cli.errors import MissingExtraError, ModelError, UsageError, VideoError, XclipError
from xclip_cli.labels import LabelSet
from xclip_cli.labels.labelset import Calibration, Label
from xclip_cli.results import VideoResult
from xclip_cli.settings import TagSettings
from xclip_cli.tagger.embeddings import Embeddings
from xclip_cli.video.source import shown

Answer = tuple[str, VideoResult | Embeddings | VideoError]  # of a video, by its path

MAX_DEATHS = 3
_PATIENCE_SECONDS, _ANSWER_SECONDS = 10, 60
_STORE_BYTES = 2**27  # of shared memory in a cluster of our own: results are small, and Ray would take a third


def check_installed() -> None:
    """MissingExtraError without Ray. Imports nothing."""
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("--engine ray needs Ray", "pip install 'xclip-cli[ray]'")


def tag(
    videos: Iterable[str], label_set: LabelSet, settings: TagSettings, checkpoint, address: str = "auto"
) -> Iterator[VideoResult]:
    """One result per video, in order of completion, from the Ray cluster at ``address``; "local" starts one here.

    Paths must lead to the same files on every node, and so must the model's name, whose fingerprint is compared with
    that of ``checkpoint``. Raises XclipError where there is no cluster or it has no room, ModelError where a node has
    another model.
    """
    for video, found in _answers(videos, label_set, settings, checkpoint, address):
        if isinstance(found, VideoError):
            yield VideoResult(video, checkpoint.name, label_set.name, error=found.message)
        else:
            yield replace(found, video=video)


def embed(
    videos: Iterable[str], settings: TagSettings, checkpoint, address: str = "auto"
) -> Iterator[tuple[str, Embeddings | VideoError]]:
    """As `Encoder.embed_many`, but in order of completion, from the Ray cluster at ``address``; raises as `tag`."""
    return _answers(videos, None, settings, checkpoint, address)


def _answers(
    videos: Iterable[str], label_set: LabelSet | None, settings: TagSettings, checkpoint, address: str
) -> Generator[Answer]:
    if settings.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device is {settings.device!r}: Ray assigns the devices", "use auto, cpu or cuda")
    ray = _connect(address)
    try:
        yield from ActorPool(ray, label_set, settings, checkpoint).run(iter(videos))
    finally:
        ray.shutdown()


def _connect(address: str):
    check_installed()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":  # as on macOS and Windows: Ray listens on loopback alone
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    found = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    own = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if address == "local" else {}
    try:
        if found:
            socket.create_connection((found[1], int(found[2])), _PATIENCE_SECONDS).close()
        if not own:
            _check_cluster(address)
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(address, log_to_driver=False, logging_level="ERROR", **own)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own ends the program without a word
    except Exception as error:  # Ray raises even plain Exception where it cannot start
        ray.shutdown()
        hint = "start one with ray start --head, or use --address local"
        if own:
            hint = "Ray needs free ports, /dev/shm and a temporary folder to write to; or leave out --engine ray"
        raise XclipError(f"there is no Ray cluster at {address!r}: {_line(error)}", hint) from error
    return ray


def _check_cluster(address: str) -> None:
    """Connect in a process that can be killed: where nobody answers as Ray does, Ray waits for minutes, or aborts."""
    program = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"
    try:
        subprocess.run(
            [sys.executable, "-c", program, address],
            check=True,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"nobody answers as Ray does within {_ANSWER_SECONDS} seconds") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise ConnectionError(lines[-1]) from error


class Actor:
    """What lives on the cluster: a Tagger in a thread, between a queue of videos and one of what it finds."""

    def __init__(self):
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

    def open(self, settings: dict, label_set: dict | None, folder: str) -> dict:
        """Opens the model, to tag videos or, without labels, to embed them.

        Says where, which model it is and how many videos to have here at once, or what is wrong.
        """
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the program, before torch is there
        with suppress(OSError):
            os.chdir(folder)  # a model may be named by a relative path
        about = {"node": platform.node(), "version": __version__}
        from xclip_cli.tagger.encoder import Encoder
        from xclip_cli.tagger.tagger import Tagger

        try:
            settings = TagSettings(**settings)
            encoder = Encoder(settings.model, settings)
            self._tagger = Tagger(encoder, label_set and _label_set(**label_set), settings)
            self._embeds = label_set is None
        except XclipError as error:
            return about | {"error": error.message, "hint": error.hint}
        threading.Thread(target=self._work, daemon=True).start()
        room = 2 * settings.workers + 4 * encoder.batch_size  # more than it asks for ahead of results
        return about | {"fingerprint": encoder.checkpoint.fingerprint, "room": room}

    def exchange(self, videos: list[str | None]) -> list[Answer]:
        """Takes further videos, None where the last ones are to be finished, and gives answers: one at least."""
        for video in videos:
            self._inbox.put(video)
        found = [self._outbox.get()]
        while not self._outbox.empty():
            found.append(self._outbox.get())
        for answer in found:
            if isinstance(answer, Exception):
                raise answer
        return found

    def _work(self) -> None:
        try:
            while True:
                for answer in self._answers(iter(self._inbox.get, None)):
                    self._outbox.put(answer)
        except Exception as error:
            self._outbox.put(error)

    def _answers(self, videos: Iterator[str]) -> Iterator[Answer]:
        if self._embeds:
            return self._tagger.encoder.embed_many(videos, self._tagger.windowing)
        return ((result.video, result) for result in self._tagger.tag_many(videos))


def _label_set(labels, background, calibration: dict | None, **plain) -> LabelSet:
    """Of what ``asdict`` made of one: nothing but plain data travels."""
    labels, background = (tuple(Label(**label) for label in part) for part in (labels, background))
    calibration = calibration and Calibration(**calibration)
    return LabelSet(labels=labels, background=background, calibration=calibration, **plain)


@dataclass(eq=False)
class _ActorState:
    """An actor as seen from here: the call that it has not answered yet, and the videos it has, by their paths."""

    actor: object
    call: object
    room: int = 0  # for so many videos at once; 0: it is not open yet
    given: dict[str, str] = field(default_factory=dict)
    closed: bool = False  # it knows that no more come before those that it has are finished


class ActorPool:
    """The actors of one run."""

    def __init__(self, ray, label_set: LabelSet | None, settings: TagSettings, checkpoint):
        self._ray, self._checkpoint, self._folder = ray, checkpoint, os.getcwd()
        self._job = asdict(settings), label_set and asdict(label_set), self._folder
        self._most, self._wants = _room(ray.nodes(), settings)
        self._actors: list[_ActorState] = []
        self._fresh: Iterator[str] = iter(())
        self._exhausted = False
        self._retry: deque[str] = deque()  # videos that an actor had when it died
        self._deaths: Counter[str] = Counter()
        self._unopened = 0  # actors in a row that died before they were open

    def run(self, videos: Iterator[str]) -> Iterator[Answer]:
        """What actors find in each video, in order of completion."""
        first = list(islice(videos, self._most))
        self._fresh = chain(first, videos)
        self._actors = [self._start_actor() for _ in first]
        while True:
            for state in self._actors:
                if state.call is None:
                    self._supply(state)
            if self._exhausted and not self._retry and not any(state.given for state in self._actors):
                return
            calls = {state.call: state for state in self._actors if state.call is not None}
            [ready], _ = self._ray.wait(list(calls), num_returns=1)
            yield from self._answer(calls[ready])

    def _start_actor(self) -> _ActorState:
        actor = self._ray.remote(Actor).options(**self._wants).remote()
        return _ActorState(actor, actor.open.remote(*self._job))

    def _supply(self, state: _ActorState) -> None:
        """Gives an actor what it has room for: new videos; or a video to retry, with nothing beside it."""
        state.closed = state.closed and bool(state.given)
        more: list[str] = []
        if self._retry and not state.given:
            more, state.closed = [self._retry.popleft()], True
        elif not state.closed:
            more = list(islice(self._fresh, state.room - len(state.given)))
            if len(state.given) + len(more) < state.room:
                self._exhausted = state.closed = True
        paths = {os.path.join(self._folder, video): video for video in more}
        state.given |= paths
        if state.given:
            state.call = state.actor.exchange.remote([*paths, *[None] * state.closed])

    def _answer(self, state: _ActorState) -> Iterator[Answer]:
        call, state.call = state.call, None
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, XclipError):  # the actor lives, its model does not work: no other would do better
                raise type(cause)(cause.message, cause.hint) from error
            yield from self._replace(state, error)
            return
        if not state.room:
            state.room, self._unopened = self._admitted(answer), 0
            return
        for path, found in answer:
            yield state.given.pop(path), found

    def _admitted(self, about: dict) -> int:
        """How many videos an actor that is open has room for. Raises ModelError, XclipError."""
        node = f"the node {about['node']!r}"
        if "error" in about:
            raise ModelError(f"on {node}: {about['error']}", about["hint"])
        if about["version"] != __version__:
            raise XclipError(
                f"{node} has xclip-cli {about['version']}, not {__version__}", "install the same everywhere"
            )
        if about["fingerprint"] != self._checkpoint.fingerprint:
            name = self._checkpoint.name
            raise ModelError(f"{node} has another file of the model {name!r}", "copy the same to every node")
        return about["room"]

    def _replace(self, state: _ActorState, error: Exception) -> Iterator[Answer]:
        """Another actor for one that died; gives the videos that died with it too often."""
        self._actors.remove(state)
        self._ray.kill(state.actor)
        self._unopened += not state.room
        if self._unopened == MAX_DEATHS:
            raise XclipError(f"actors of the Ray cluster die before they are open: {_line(error)}")
        for video in state.given.values():
            self._deaths[video] += 1
            if self._deaths[video] < MAX_DEATHS:
                self._retry.append(video)
                continue
            reason = f"{shown(video)} ended its worker {MAX_DEATHS} times: {_line(error)}"
            yield video, VideoError(reason)
        self._actors.append(self._start_actor())


def _room(nodes: Iterable[dict], settings: TagSettings) -> tuple[int, dict]:
    """How many actors the nodes hold, and what each takes: CPUs for its decoders, and a GPU where there are."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    on_cpus = [int(has.get("CPU", 0)) // settings.workers for has in resources]
    on_gpus = [min(slots, int(has.get("GPU", 0))) for slots, has in zip(on_cpus, resources, strict=True)]
    wants = {"num_cpus": settings.workers}
    if settings.device != "cpu" and any(on_gpus):
        return sum(on_gpus), wants | {"num_gpus": 1}
    if settings.device != "cuda" and any(on_cpus):
        return sum(on_cpus), wants
    gpu = " and a GPU" if settings.device == "cuda" else ""
    raise XclipError(
        f"no node of the Ray cluster has the {settings.workers} CPUs{gpu} that an actor takes", "give fewer --workers"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
