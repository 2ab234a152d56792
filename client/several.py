"""Where several things are wanted, one is a mistake that iterates: a text gives its letters, bytes give numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..peers.errors import InvalidArgument, shown

T = TypeVar("T")


def several(given: Iterable[T], what: str, right: str) -> list[T]:
    """A list of what was given; `right` says what a right one holds. Raises InvalidArgument, which names `what`."""
    if type(given) is list:
        return given
    if isinstance(given, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(given, Iterable):
        raise InvalidArgument(f"{what} is {shown(given)}, and several are wanted", f"give a list of {right}")
    return list(given)


def as_bytes(body: Any) -> bytes:
    """A body. Raises InvalidArgument."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)  # a copy, since it may change before it leaves
    raise InvalidArgument(
        f"a body is of type {type(body).__name__}", "give bytes; text.encode() makes them, submit() takes other values"
    )


def how_many(number: Any, what: str) -> int:
    """A number of things. Raises InvalidArgument, which names `what`."""
    if type(number) is not int or number < 0:
        raise InvalidArgument(f"{what} is {shown(number)}", "give an integer from 0 on")
    return number
