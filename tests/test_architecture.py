"""No two files of the package import each other in a circle: not in a function, not under TYPE_CHECKING either.

import-linter holds the layers; it sees packages and not what is inside them.
"""

import ast
from pathlib import Path

import xclip_cli

ROOT = Path(xclip_cli.__file__).parent


def modules() -> dict[str, Path]:
    """Every file by its name inside the package; a package is its __init__."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items() if name != "__init__"}


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The files that one names in its imports, wherever in it they stand."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ["xclip_cli", *package[: len(package) - node.level + 1]] if node.level else []
            base = start + (node.module.split(".") if node.module else [])
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for target in (target[1:] for target in targets if target[0] == "xclip_cli"):
            while target and ".".join(target) not in known:
                target = target[:-1]
            if target:
                found.add(".".join(target))
    return found - {name}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of files each of which is reached from every other."""

    def reached(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for name in graph[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    far = {name: reached(name) for name in graph}
    groups = {frozenset({name} | {other for other in far[name] if name in far[other]}) for name in graph}
    return sorted((set(group) for group in groups if len(group) > 1), key=sorted)


def test_no_files_import_each_other_in_a_circle():
    known = modules()
    graph = {name: imported(name, path, known) for name, path in known.items()}
    assert "tagger.tagger" in graph and "checkpoint.base" in graph["checkpoint.load"]
    assert circles(graph) == []


def test_a_circle_is_seen_wherever_it_is_imported(tmp_path):
    texts = {
        "a": "def f():\n    from xclip_cli.b import x\n",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import c\n",
        "c": "import xclip_cli.a as y\n",
        "d": "from .c import z\n",
    }
    known = {}
    for name, text in texts.items():
        known[name] = tmp_path / f"{name}.py"
        known[name].write_text(text)
    graph = {name: imported(name, path, known) for name, path in known.items()}
    assert graph == {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"c"}} and circles(graph) == [{"a", "b", "c"}]
