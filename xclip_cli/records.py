"""Reading what this program has kept and anybody may have changed: JSON and rows of a database.

Whoever reads a store names the type that is expected, and gets a value of it or a ValueError.
"""

import json
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
_SECONDS = (-1e11, 1e11)
_INTEGERS = (-(2**63), 2**63 - 1)
_COUNTS = "id size first count width generation num_rows number of videos positions epoch step"
LIMITS = {  # of every field of that name; what rounding adds is allowed
    "score": (-0.001, 1.001),
    "peak_score": (-0.001, 1.001),
    "similarity": (-1.001, 1.001),
    "start_seconds": _SECONDS,
    "end_seconds": _SECONDS,
    "peak_seconds": _SECONDS,
    "duration_seconds": _SECONDS,
    "seconds": (0, 1e11),
    "window_seconds": (1e-6, 1e11),
    "stride_seconds": (1e-6, 1e11),
    **dict.fromkeys(_COUNTS.split(), (0, 2**53)),
}


def from_json(text: str | bytes, kind: type[T]) -> T:
    """Return the JSON text as a ``kind`` (see `checked`). Raises ValueError."""
    try:
        return checked(json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique), kind)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def checked(value: Any, kind: type[T], name: str = "value") -> T:
    """Return plain data as a ``kind``: a dataclass or named tuple, a list or tuple of one type, a plain type or Any.

    Dataclasses and named tuples come as a dict, or as a sequence of all their fields. Raises ValueError for another
    type, a field too many or too few, and a number that is not finite or outside the LIMITS of its name.
    """
    arguments, origin = get_args(kind), get_origin(kind)
    if origin is UnionType:  # with None
        return None if value is None else checked(value, arguments[0], name)
    if origin is not None and isinstance(value, list | tuple):  # list[T] or tuple[T, ...]
        return origin(checked(item, arguments[0], name) for item in value)
    if kind is Any:
        return value
    if (fields := _fields(kind)) is not None:
        return _record(value, kind, fields, name)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{name} is of the type {type(value).__name__}, not {getattr(kind, '__name__', kind)}")
    if kind in (int, float):
        least, most = LIMITS.get(name, _INTEGERS)
        if not least <= value <= most:  # nor is NaN
            raise ValueError(f"{name} must be from {least} to {most}")
    return kind(value)


def _record(value: Any, kind: type[T], fields: Mapping[str, type], name: str) -> T:
    if isinstance(value, list | tuple) and len(value) == len(fields):
        value = dict(zip(fields, value, strict=True))
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no {kind.__name__}")
    if unknown := value.keys() - fields.keys():
        raise ValueError(f"{name} has an unknown field {sorted(unknown)[0][:60]!r}")
    try:
        return kind(**{field: checked(item, fields[field], field) for field, item in value.items()})
    except TypeError as error:
        raise ValueError(f"{name} lacks a field: {error}") from error


@cache
def _fields(kind: type) -> dict[str, type] | None:
    return get_type_hints(kind) if hasattr(kind, "__annotations__") else None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in it")
    return values
