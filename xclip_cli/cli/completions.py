"""What the Tab key offers for an option's value; nothing here is loaded before the key is pressed."""

from collections.abc import Callable, Iterable


def _offer(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _models() -> Iterable[str]:
    from xclip_cli.checkpoint.registry import MODELS

    return MODELS


def _labelsets() -> Iterable[str]:
    from xclip_cli.labels import builtin_names

    return builtin_names()


def _dtypes() -> Iterable[str]:
    from xclip_cli.settings import DTYPES

    return DTYPES


def _readers() -> Iterable[str]:
    from xclip_cli.settings import READERS

    return READERS


models, labelsets, dtypes, readers = _offer(_models), _offer(_labelsets), _offer(_dtypes), _offer(_readers)
devices = _offer(lambda: ("auto", "cpu", "cuda", "mps"))
windows = _offer(lambda: ("auto",))
