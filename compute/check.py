"""Annotations as checks: may this value be sent for that parameter? Built once per task, called once per job."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

Check = Callable[[Any], bool]

_LISTS = (list, tuple, Sequence, Collection, set, frozenset)


def check_of(annotation: Any) -> Check | None:
    """A function that says if a value fits `annotation`; None if any value does, or if it is one not known here."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _any_of([check_of(option) for option in arguments])
    if origin is typing.Literal:
        return lambda value: value in arguments
    if origin is typing.Annotated:
        return check_of(arguments[0])
    if origin in (dict, Mapping):
        return _map_of(check_of(arguments[0]), check_of(arguments[1]))
    if origin in _LISTS:
        return _list_of(arguments[0] if arguments else Any, exact=_exact_types(arguments))
    return _PLAIN.get(annotation) if isinstance(annotation, type) or annotation is None else None


def words_of(annotation: Any) -> str:
    """`annotation` as a person would write it: `list[int]`, `int | None`."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


_PLAIN: dict[Any, Check] = {
    int: _is_int,
    float: _is_float,
    bool: lambda value: isinstance(value, bool),
    str: lambda value: isinstance(value, str),
    bytes: lambda value: isinstance(value, bytes | bytearray | memoryview),
    dict: lambda value: isinstance(value, dict),
    list: _is_list,
    tuple: _is_list,
    type(None): lambda value: value is None,
    None: lambda value: value is None,
}


def _exact_types(arguments: tuple[Any, ...]) -> frozenset[type]:
    """The plain types that a list may hold without a closer look: most lists are judged by one set operation."""
    if not arguments:
        return frozenset()
    union = typing.get_origin(arguments[0]) in (typing.Union, types.UnionType)
    options = typing.get_args(arguments[0]) if union else (arguments[0],)
    exact = {option for option in options if option in (int, float, str, bytes, bool)}
    return frozenset(exact | {int} if float in exact else exact)


def _list_of(item: Any, exact: frozenset[type]) -> Check:
    check = check_of(item)

    def fits(value: Any) -> bool:
        if not isinstance(value, list | tuple):
            return False
        return check is None or set(map(type, value)) <= exact or all(map(check, value))

    return fits


def _map_of(key: Check | None, item: Check | None) -> Check:
    def fits(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        return (key is None or all(map(key, value))) and (item is None or all(map(item, value.values())))

    return fits


def _any_of(checks: list[Check | None]) -> Check | None:
    known = [check for check in checks if check is not None]
    if len(known) < len(checks):
        return None
    return lambda value: any(check(value) for check in known)
