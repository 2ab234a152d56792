"""Headers of messages: what users may put there, and what is Penstock's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from ..peers.errors import InvalidArgument

RESERVED = "penstock-"
KEY = "penstock-key"
TASK = "penstock-task"

Header = dict[str, Any] | None


def one_header(headers: Mapping[str, Any] | None, key: str | None) -> Header:
    """The header of a message with the user's `headers` and `key`. Raises InvalidArgument."""
    header = {} if headers is None else _checked(headers)
    if key is not None:
        if not isinstance(key, str):
            raise InvalidArgument(f"key is of type {type(key).__name__}", "give text")
        header[KEY] = key
    return header or None


def many_headers(headers: Sequence[Mapping[str, Any] | None], count: int) -> list[Header] | None:
    """The headers of `count` messages; None if no message has any. Raises InvalidArgument."""
    if len(headers) != count:
        raise InvalidArgument(f"{len(headers)} headers for {count} bodies", "give one, or None, for each body")
    checked = [None if header is None else _checked(header) for header in headers]
    return checked if any(checked) else None


def _checked(headers: Mapping[str, Any]) -> dict[str, Any]:
    # Checked here, since a batch with one bad header would be refused as a whole, and later.
    if not isinstance(headers, Mapping):
        raise InvalidArgument(f"headers are of type {type(headers).__name__}", "give a map with text keys")
    for name in headers:
        if not isinstance(name, str) or name.startswith(RESERVED):
            raise InvalidArgument(f"headers have the key {name!r}", f"keys are text and do not start with {RESERVED!r}")
    header = dict(headers)
    try:
        msgpack.packb(header)
    except (TypeError, ValueError, OverflowError) as fault:
        raise InvalidArgument(f"headers cannot travel: {fault}", "use numbers, text, bytes, lists and maps") from fault
    return header
