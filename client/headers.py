"""Headers of messages: what users may put there, and what is Penstock's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from ..peers.errors import InvalidArgument
from .several import several

RESERVED = "penstock-"
KEY = "penstock-key"
TASK = "penstock-task"
AFTER = "penstock-after"  # [[queue, first offset, count], ...]: the jobs that this one waits for
TIME_LIMIT = "penstock-time-limit-ms"

Header = dict[str, Any] | None
Headers = list[Header] | None  # None: no message has any


def one_header(headers: Mapping[str, Any] | None, key: str | None) -> Header:
    """The header of a message with the user's `headers` and `key`. Raises InvalidArgument."""
    header = {} if headers is None else _checked(headers)
    if key is not None:
        if not isinstance(key, str):
            raise InvalidArgument(f"key is of type {type(key).__name__}", "give text")
        header[KEY] = key
    return header or None


def many_headers(headers: Sequence[Mapping[str, Any] | None] | None, count: int, key: str | None) -> Headers:
    """The headers of `count` messages, `key` among them; None if no message has any. Raises InvalidArgument."""
    headers = [None] * count if headers is None else several(headers, "headers", "maps, or None")
    if len(headers) != count:
        raise InvalidArgument(f"{len(headers)} headers for {count} bodies", "give one, or None, for each body")
    checked = [None if header is None and key is None else one_header(header, key) for header in headers]
    return checked if any(checked) else None


def with_own(header: Header, args: Mapping[str, Any]) -> Header:
    """The header of a message that waits for others: it tells for which."""
    return {**(header or {}), AFTER: args["after"]} if "after" in args else header


def with_own_each(headers: Headers, args: Mapping[str, Any], count: int) -> Headers:
    """As `with_own`, of `count` messages."""
    return [with_own(header, args) for header in headers or [None] * count] if "after" in args else headers


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
