"""Count our functions on the path of one video: `python tests/calls.py`.

Runs ``xclip tag clip.mp4 --labels a,b`` under a profiler, in the program and in its decoder process, and prints the
number of distinct functions of ``xclip_cli`` that each of them called, and how deep generators were nested. Functions
are those with a name: comprehensions, lambdas and class bodies are not counted. What opens the model, reads labels and
computes (``checkpoint``, ``model``, ``labels`` and the files at the top) is apart. ``-v`` lists all.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATH = ("cli", "runs", "tagger", "outputs", "video")  # the rooms that a video passes through
PROFILER = """
import atexit, inspect, os, sys, threading

ours = {package!r} + os.sep
seen, out = set(), open(os.path.join({folder!r}, str(os.getpid())), "w", buffering=1)

def profile(frame, event, argument):
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(ours) or code.co_name.startswith("<"):
        return
    depth, outer = 0, frame
    while outer is not None:
        flags = outer.f_code.co_flags
        depth += bool(flags & inspect.CO_GENERATOR) and outer.f_code.co_filename.startswith(ours)
        outer = outer.f_back
    if code.co_flags & inspect.CO_OPTIMIZED and (code, depth) not in seen:
        seen.add((code, depth))
        name = getattr(code, "co_qualname", code.co_name)
        out.write(f"{{depth}} {{code.co_filename[len(ours):]}} {{name}} {{code.co_firstlineno}}\\n")

threading.setprofile(profile)
sys.setprofile(profile)
"""


def measure(clip: Path, root: Path = ROOT) -> list[tuple[set[str], int]]:
    """Return (functions, deepest nesting of generators) of the main process and of its decoder process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "out").mkdir()
        code = PROFILER.format(package=str(root / "xclip_cli"), folder=str(folder / "out"))
        (folder / "sitecustomize.py").write_text(code)
        environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{root}", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "xclip_cli", "tag", str(clip), "--labels", "a,b"]
        main = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=folder)
        if main.wait():
            raise SystemExit(f"xclip tag {clip} ended with exit code {main.returncode}")
        files = sorted((folder / "out").iterdir(), key=lambda file: file.name != str(main.pid))
        counts = []
        for file in files:
            lines = [line.split(" ", 1) for line in file.read_text().splitlines()]
            if lines:
                counts.append(({function for _, function in lines}, max(int(depth) for depth, _ in lines)))
        return counts


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "-v"]
    clip = Path(arguments[0]) if arguments else next(iter(sorted(ROOT.parent.glob("shared/clips/*.mp4"))))
    for process, (functions, depth) in zip(("main process", "decoder process"), measure(clip), strict=False):
        rooms = Counter(function.split(os.sep)[0] if os.sep in function else "top" for function in functions)
        on_path = sum(rooms[room] for room in PATH)
        print(f"{process}: {on_path} functions, generators nested {depth} deep; {len(functions)} with the other rooms")
        print(
            "  " + ", ".join(f"{room if room in PATH else f'({room})'} {count}" for room, count in rooms.most_common())
        )
        if "-v" in sys.argv:
            print("\n".join(f"  {function}" for function in sorted(functions)))


if __name__ == "__main__":
    main()
