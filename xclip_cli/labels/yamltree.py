"""YAML as a tree that knows its line numbers, and typed looks into it.

The file is read event by event and never turned into objects: tags, anchors, a second document and deep nesting stop at
the first one met, so a hostile file costs nothing. Everything here raises LabelError starting with "file:line: ".
"""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from xclip_cli.errors import LabelError

_MAX_DEPTH = 5  # set, labels, label, prompts, text
_MEANS = {"bool": "true or false", "null": "nothing", "int": "a number", "float": "a number", "timestamp": "a date"}
_NOT_YAML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Node:
    """A "list" or "map" with its nodes (a map's keys stand between), or a scalar: its type ("str", ...) and text."""

    kind: str
    value: "str | list[Node]"
    source: str

    def error(self, message: str, hint: str | None = None) -> LabelError:
        return LabelError(f"{self.source}: {message}", hint)

    def text(self, what: str) -> str:
        """The text, stripped; not what YAML 1.1 takes for a number, a date or a truth value."""
        if self.kind in ("list", "map"):
            raise self.error(f"{what} is a {self.kind}; it must be text", 'A text with ": " in it must be quoted.')
        if not self.value:
            raise self.error(f"{what} is empty; it must hold text")
        if self.kind != "str":
            means = f"{what} {self.value} means {_MEANS.get(self.kind, 'something special')} in YAML"
            raise self.error(f"{means}; it must be text", f'Quote it: "{self.value}"')
        return self.value.strip()

    def texts(self, what: str) -> tuple[str, ...]:
        """One text or a list of one or more."""
        texts = tuple(item.text(what) for item in (self.value if self.kind == "list" else [self]))
        if not texts:
            raise self.error(f"{what} is an empty list; it must hold text")
        return texts

    def items(self, what: str) -> "list[Node]":
        if self.kind != "list":
            raise self.error(f"{what} must be a list", 'Write one "- ..." a line.')
        return self.value

    def fields(self, what: str, allowed: Sequence[str] = ()) -> "dict[str, Node]":
        """A mapping's values by key; without `allowed` any text is a key."""
        if self.kind != "map":
            raise self.error(f"{what} must be a mapping", 'Write "key: value".')
        found: dict[str, Node] = {}
        for key_node, value in zip(self.value[::2], self.value[1::2], strict=True):
            key = key_node.text(f"key of {what}")
            if allowed and key not in allowed:
                close = difflib.get_close_matches(key, allowed, 1)
                hint = f"Did you mean {close[0]!r}?" if close else 'A text with ": " in it must be quoted.'
                raise key_node.error(f"unknown key {key!r} in {what}; keys are {', '.join(allowed)}", hint)
            if key in found:
                raise key_node.error(f"key {key!r} stands twice in {what}; keys must differ")
            found[key] = value
        return found

    def number(self, what: str, low: float, high: float) -> float:
        """A number between two others."""
        try:
            value = float(self.value) if self.kind in ("int", "float") else math.nan
        except ValueError:  # YAML also counts in base 60 and 16
            value = math.nan
        if not low <= value <= high:
            shown = self.value if isinstance(self.value, str) else f"a {self.kind}"
            raise self.error(f"{what} is {shown}; it must be a number between {low:g} and {high:g}")
        return value


def parse(text: str, file: str) -> Node:
    """The tree of one YAML document; an empty one is an empty list."""
    root = Node("list", [], file)
    stack = [root]
    resolver = yaml.resolver.Resolver()
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, yaml.NodeEvent):
                node = _node(event, resolver, f"{file}:{event.start_mark.line + 1}")
                stack[-1].value.append(node)
                if node.kind in ("list", "map"):
                    stack.append(node)
                if len(stack) > _MAX_DEPTH:
                    raise node.error(f"nested {len(stack)} deep; a label file needs at most {_MAX_DEPTH}")
                if len(root.value) > 1:
                    raise node.error("a second YAML document starts; a label file holds one")
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None
    return root.value[0] if root.value else root


def _node(event: yaml.NodeEvent, resolver: yaml.resolver.Resolver, source: str) -> Node:
    if event.anchor or getattr(event, "tag", None):
        message = "YAML anchors, aliases and tags (&, *, !) are not allowed"
        raise LabelError(f"{source}: {message}", "Quote a text that starts with one of these characters.")
    if isinstance(event, yaml.CollectionStartEvent):
        return Node("list" if isinstance(event, yaml.SequenceStartEvent) else "map", [], source)
    tag = resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
    return Node(tag.rsplit(":", 1)[1], event.value, source)


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> LabelError:
    lines = text.rstrip().count("\n") + 1
    if mark := getattr(error, "problem_mark", None):
        line = min(mark.line + 1, lines)
    else:  # a forbidden character: PyYAML gives an offset that counts bytes or characters
        found = _NOT_YAML.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else lines
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    hint = 'Indent with spaces; quote a text that holds ": " or " #" or starts with one of []{},&*!|>%@`'
    return LabelError(f"{file}:{line}: not valid YAML: {what}", hint)
