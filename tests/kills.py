"""Kill every command that writes, again and again; the next run must leave what an undisturbed one leaves. By hand.

    python tests/kills.py [KILLS] [COMMAND...]

SIGKILL and SIGTERM take turns, at random moments. After every third kill the command runs to its end, and its files are
compared, byte for byte, with those of an undisturbed run. Of an index, what it answers is compared.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from conftest import SHARED, _toy_file, write_clip, write_long_clip

from xclip_cli.cli.app import main as xclip
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig

MODEL = "--model ../toy/toy.safetensors --workers 1"
TAG = f"tag clips {MODEL} --labels a,running,archery"
COMMANDS = {
    "tag": f"{TAG} -o tags.csv",
    "tag, windows": f"{TAG.replace('clips', 'long.mp4')} --window 0.5 -o tags.jsonl",
    "tag, subtitles": f"{TAG} --window 1 --threshold 0.05 -o subtitles --format srt",
    "report": f"{TAG} --report report.html",
    "cut": f"{TAG} --window 1 --threshold 0.05 --cut cuts",
    "annotate": f"{TAG.replace('clips', 'clips/b.mp4')} --annotate annotated.mp4 --overwrite",
    "sidecars": f"{TAG} --write-sidecars",
    "index": f"index clips {MODEL} --index index",
    "finetune, linear": f"finetune classes {MODEL} -o tuned --regime linear --resume",
    "finetune, few-shot": f"finetune classes {MODEL} -o tuned --regime few-shot --epochs 3 --batch-size 2 --resume",
    "calibrate": f"calibrate classes {MODEL} -o labels.yaml --overwrite",
    "merge": "merge ../shards/1.csv ../shards/2.csv -o all.csv --overwrite",
    "accuracy": f"benchmark accuracy classes {MODEL} -o accuracy",
}


def start(folder: Path, command: str) -> int:
    """The program in a process of its own, which has long imported what it needs."""
    if process := os.fork():
        return process
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), number)
    sys.argv[1:] = command.split()
    try:
        xclip()
    except SystemExit as stop:
        os._exit(stop.code or 0)
    os._exit(0)


def finish(folder: Path, command: str) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(start(folder, command), 0)[1])
    said = Path(f"{folder}.log").read_text()[-2000:]
    assert code == 0 or "is finished: there is nothing to go on with" in said, f"{command}: exit code {code}\n{said}"


def kill(folder: Path, command: str, seconds: float, number: int) -> bool:
    """Whether the run was still going at some moment of its ``seconds``; it has 30 s to leave."""
    process, until = start(folder, command), time.monotonic() + random.uniform(0.05, 1) * seconds
    while not os.waitpid(process, os.WNOHANG)[0]:
        if time.monotonic() > until:
            os.kill(process, number)
            signal.alarm(30)
            os.waitpid(process, 0)
            signal.alarm(0)
            return True
        time.sleep(0.002)
    return False


def files(folder: Path) -> dict[str, bytes]:
    """What a run left, but for journals, whose lines come in any order, and for an index."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".journal" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.parent.name != "index"}


def drafts(*folders: Path) -> set[Path]:
    return {
        path for folder in folders for path in folder.rglob("*") if path.name.startswith((".xclip-", "tmp", "xclip-"))
    }


def torture(base: Path, command: str, kills: int) -> tuple[object, ...]:
    """How many kills, how many of the runs after them are equal, drafts after SIGTERM and at the end."""
    whole, killed, seconds = base / "whole", base / "killed", 0.0
    for _ in range(2):  # the first one fills the cache
        shutil.rmtree(whole, ignore_errors=True), shutil.copytree(base / "input", whole)
        began = time.monotonic()
        finish(whole, command)
        seconds = time.monotonic() - began
    equal = runs = hit = termed = left = 0
    while hit < kills:
        shutil.rmtree(killed, ignore_errors=True), shutil.copytree(base / "input", killed)
        for _ in range(3):
            number, before = signal.SIGTERM if hit % 2 else signal.SIGKILL, drafts(killed, base / "tmp")
            hit += kill(killed, command, seconds, number)
            termed += number == signal.SIGTERM and len(drafts(killed, base / "tmp") - before)
        finish(killed, command)
        for folder in (whole, killed) if "--index" in command else ():
            finish(folder, f"{TAG} --from-index --index index --overwrite -o asked.csv")
        runs, equal = runs + 1, equal + (files(whole) == files(killed))
        left += len(drafts(killed, base / "cache", base / "tmp"))
    return hit, f"{equal} of {runs}", termed, left


def make(folder: Path) -> None:
    """Few clips, in a folder and in classes, and a longer one."""
    for path, scenes in (("clips/a.mp4", 1), ("clips/b.mp4", 2), ("long.mp4", 8)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_long_clip(folder / path, scenes)
    if SHARED.is_dir():
        shutil.copy2(min((SHARED / "clips").glob("*.mp4"), key=lambda path: path.stat().st_size), folder / "clips")
    for shade in range(12):
        path = folder / "classes" / ("cat", "dog")[shade % 2] / f"{shade}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, shade=shade)


def main(kills: int, names: list[str]) -> None:
    import torch

    base = Path(tempfile.mkdtemp(prefix="kills-"))
    for name in ("toy", "cache", "tmp", "shards"):
        (base / name).mkdir()
    os.environ |= {"XCLIP_CACHE": str(base / "cache"), "TMPDIR": str(base / "tmp")}
    tempfile.tempdir = None
    torch.set_num_threads(1)
    vision = VisionConfig(image_size=32, patch_size=16, width=64, layers=2, heads=2)
    config = XclipConfig(vision=vision, text=TextConfig(width=64, layers=2, heads=2), embed_dim=64, num_frames=4)
    _toy_file(SimpleNamespace(mktemp=lambda name: base / name), config)
    make(base / "input")
    for n in "12":
        finish(base / "input", f"{TAG} --shard {n}/2 -o ../shards/{n}.csv")
    print("command\tkills\tequal\tdrafts after SIGTERM\tdrafts left", flush=True)
    for name in names or COMMANDS:
        print(name, *torture(base, COMMANDS[name], kills), sep="\t", flush=True)
    shutil.rmtree(base)


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["30"])[0]), sys.argv[2:])
