"""What an append may ask for besides the plain, checked argument by argument: see section 4 of docs/protocol.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..peers.errors import InvalidArgument, shown
from .options import RULES

PRIORITY_MAX = 9
DELAY_MAX_MS = 10 * 365 * 86_400_000
TIME_MAX_MS = 2**53
ID_MAX = 200  # characters
PARENTS_MAX = 10_000
OFFSET_MAX = 2**62
KEY = "penstock-key"
RETRIES = ("max_failures", "retry_delay_ms", "retry_backoff", "retry_delay_max_ms", "retry_jitter")
PROPERTIES = ("priority", "delay_ms", "due_ms", "ttl_ms", "ids", "after", "on_failure", *RETRIES)


def properties_of(args: Mapping[str, Any], count: int) -> dict[str, Any] | None:
    """What a batch of `count` messages asks for; None: nothing. Raises InvalidArgument, which says what is right."""
    asked: dict[str, Any] = {}
    for name in PROPERTIES:
        if args.get(name) is not None or (name == "max_failures" and name in args):
            asked[name] = _CHECKS[name](name, args[name], count)
    if not asked:
        return None
    if "delay_ms" in asked and "due_ms" in asked:
        raise InvalidArgument("both delay_ms and due_ms are given", "give one of them")
    if "on_failure" in asked and "after" not in asked:
        raise InvalidArgument("on_failure is given without after", "say which jobs it waits for")
    if "after" in asked and any(isinstance(asked.get(name), tuple) for name in ("delay_ms", "due_ms")):
        raise InvalidArgument("a batch that waits for parents has one due time", "give one delay_ms or due_ms for it")
    return asked


def keys_of(headers: list[dict[str, Any] | None] | None) -> tuple[str | None, ...] | None:
    """The keys of the messages of a batch; None: they have none. Raises InvalidArgument."""
    if headers is None:
        return None
    keys = tuple([None if header is None else header.get(KEY) for header in headers])
    for key in keys:
        if key is not None and type(key) is not str:
            raise InvalidArgument(f"the header {KEY} is {shown(key)}", "a key is text")
    return keys if any(key is not None for key in keys) else None


def _integer(low: int, high: int) -> Callable[[str, Any, int], int]:
    def check(name: str, value: Any, count: int) -> int:
        if type(value) is not int or not low <= value <= high:
            raise InvalidArgument(f"{name} is {shown(value)}", f"give an integer from {low} to {high}")
        return value

    return check


def _times(high: int) -> Callable[[str, Any, int], int | tuple[int, ...]]:
    """One for all messages, or one for each."""

    def check(name: str, value: Any, count: int) -> int | tuple[int, ...]:
        if type(value) is int and 0 <= value <= high:
            return value
        if type(value) is tuple and len(value) == count and all(type(it) is int and 0 <= it <= high for it in value):
            return value
        raise InvalidArgument(
            f"{name} is {shown(value)}", f"give an integer from 0 to {high}, or a list of them, one a message"
        )

    return check


def _ids(name: str, value: Any, count: int) -> tuple[str, ...]:
    if type(value) is not tuple or not all(type(id) is str and 0 < len(id) <= ID_MAX for id in value):
        raise InvalidArgument(f"ids is {shown(value)}", f"give a list of texts of 1 to {ID_MAX} characters")
    if len(value) != count:
        raise InvalidArgument(f"there are {len(value)} ids for {count} messages", "give one id for each message")
    if len(set(value)) != count:
        raise InvalidArgument("two messages of a batch have the same id", "each id is taken once")
    try:
        "".join(value).encode()
    except UnicodeEncodeError:
        raise InvalidArgument("an id is no valid text", "leave surrogates out") from None
    return value


def _after(name: str, value: Any, count: int) -> tuple[tuple[str, int, int], ...]:
    if type(value) is not tuple or not 0 < len(value) <= PARENTS_MAX or not all(map(_is_parent, value)):
        raise InvalidArgument(
            f"after is {shown(value)}", f"give a list of 1 to {PARENTS_MAX} parents [queue, first offset, count]"
        )
    return value


def _is_parent(value: Any) -> bool:
    return (
        type(value) is tuple and len(value) == 3 and type(value[0]) is str
        and all(type(part) is int for part in value[1:]) and 0 <= value[1] < OFFSET_MAX and 0 < value[2] < OFFSET_MAX
    )  # fmt: skip


def _choice(*choices: str) -> Callable[[str, Any, int], str]:
    def check(name: str, value: Any, count: int) -> str:
        if value not in choices:
            raise InvalidArgument(f"{name} is {shown(value)}", f"give {' or '.join(choices)}")
        return str(value)

    return check


def _option(name: str, value: Any, count: int) -> Any:
    rule = RULES[name]
    if (value is None and rule.may_be_none) or rule.fits(value):
        return value
    raise InvalidArgument(f"{name} is {shown(value)}", f"give {rule.right}" + (" or nil" if rule.may_be_none else ""))


_CHECKS: dict[str, Callable[[str, Any, int], Any]] = {
    "priority": _integer(0, PRIORITY_MAX),
    "delay_ms": _times(DELAY_MAX_MS),
    "due_ms": _times(TIME_MAX_MS),
    "ttl_ms": _integer(1, DELAY_MAX_MS),
    "ids": _ids,
    "after": _after,
    "on_failure": _choice("cancel", "release"),
    **dict.fromkeys(RETRIES, _option),
}
