"""What the owner of a queue or topic may set, and what is right for each option."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..peers.errors import InvalidArgument, shown
from ..peers.units import RATE_MAX, RATE_PERIOD_MAX_MS

QUEUE, TOPIC = "queue", "topic"
REJECT, DROP_OLDEST = "reject", "drop_oldest"  # what a full queue does
OPTION_MAX = 2**53
NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,199}(?:\.dead){0,4}")  # the longest name has dead letters, too


class Options(NamedTuple):
    """Sizes in bytes, times in ms. None: no limit, or kept for ever."""

    max_messages: int | None = None
    max_bytes: int | None = None
    max_failures: int | None = 5
    retry_delay_ms: int = 0
    result_ttl_ms: int = 86_400_000
    retention_ms: int | None = None
    overflow: str = REJECT
    max_message: int | None = None  # bytes of one body
    rate: tuple[int, int] | None = None  # (messages, period_ms): no more than so many are given
    max_leased: int | None = None  # messages in the hands of all consumers at a time
    ordered_by: str | None = None  # "key": of each key one message at a time, lowest offset first
    retry_backoff: str = "constant"  # or exponential: the delay doubles with each failure
    retry_delay_max_ms: int = 3_600_000
    retry_jitter: int = 0  # percent of the delay that are left to chance
    unique_ms: int = 86_400_000  # an id is not taken again for so long after its publish
    result_queue: str | None = None  # results of jobs are appended there, too
    retention_bytes: int | None = None
    retention_messages: int | None = None


class Rule(NamedTuple):
    """`right` says in words what `fits` checks; `kinds`: what has this option."""

    fits: Callable[[Any], bool]
    right: str
    kinds: tuple[str, ...] = (QUEUE, TOPIC)
    may_be_none: bool = False


def _from(least: int, most: int = OPTION_MAX) -> tuple[Callable[[Any], bool], str]:
    words = f"an integer from {least} on" if most == OPTION_MAX else f"an integer from {least} to {most}"
    return lambda value: type(value) is int and least <= value <= most, words


def _one_of(*words: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in words, " or ".join(words)


def _is_rate(value: Any) -> bool:
    return (
        type(value) in (tuple, list) and len(value) == 2 and all(type(part) is int for part in value)
        and 1 <= value[0] <= RATE_MAX and 1 <= value[1] <= RATE_PERIOD_MAX_MS
    )  # fmt: skip


def _is_name(value: Any) -> bool:
    return type(value) is str and NAME.fullmatch(value) is not None


_OF_QUEUES, _OF_TOPICS = (QUEUE,), (TOPIC,)
RULES: dict[str, Rule] = {
    "max_messages": Rule(*_from(1), _OF_QUEUES, True),
    "max_bytes": Rule(*_from(1), _OF_QUEUES, True),
    "max_failures": Rule(*_from(1), may_be_none=True),
    "retry_delay_ms": Rule(*_from(0)),
    "result_ttl_ms": Rule(*_from(0), _OF_QUEUES),
    "retention_ms": Rule(*_from(1), _OF_TOPICS, True),
    "overflow": Rule(*_one_of(REJECT, DROP_OLDEST), _OF_QUEUES),
    "max_message": Rule(*_from(1), may_be_none=True),
    "rate": Rule(_is_rate, f"[1 to {RATE_MAX}, in 1 to {RATE_PERIOD_MAX_MS} ms]", _OF_QUEUES, True),
    "max_leased": Rule(*_from(1), _OF_QUEUES, True),
    "ordered_by": Rule(*_one_of("key"), may_be_none=True),
    "retry_backoff": Rule(*_one_of("constant", "exponential")),
    "retry_delay_max_ms": Rule(*_from(0)),
    "retry_jitter": Rule(*_from(0, 100)),
    "unique_ms": Rule(*_from(0), _OF_QUEUES),
    "result_queue": Rule(_is_name, "the name of a queue", _OF_QUEUES, True),
    "retention_bytes": Rule(*_from(1), _OF_TOPICS, True),
    "retention_messages": Rule(*_from(1), _OF_TOPICS, True),
}
_WHY_NOT = {
    QUEUE: "a queue keeps a message until it is done",
    TOPIC: "a topic is bounded by its retention, and its groups take what they like",
}


def check_option(name: str, value: Any, kind: str | None) -> None:
    """Is this right for a queue or topic (`kind` None: for one of them)? Raises InvalidArgument, which says what is."""
    rule = RULES.get(name)
    if rule is None:
        raise InvalidArgument(f"unknown option {shown(name)}", f"options are {', '.join(RULES)}")
    if kind is not None and kind not in rule.kinds and value is not None:
        raise InvalidArgument(f"{name} is for {rule.kinds[0]}s", _WHY_NOT[kind])
    if value is None and rule.may_be_none:
        return
    if not rule.fits(value):
        right = rule.right + (" or nil" if rule.may_be_none else "")
        raise InvalidArgument(f"option {name} is {shown(value)}", f"give {right}")


def change_options(options: Options, changes: Mapping[str, Any], kind: str) -> Options:
    """The options with the changes made. Raises InvalidArgument, which names the option and what would be right."""
    for name, value in changes.items():
        check_option(name, value, kind)
    return with_options(options, changes)


def options_of(options: Options, kind: str) -> dict[str, Any]:
    """Those that a queue or topic has."""
    return {name: value for name, value in options._asdict().items() if kind in RULES[name].kinds}


def with_options(options: Options, changes: Mapping[str, Any]) -> Options:
    """The options with changes that have been checked."""
    rate = changes.get("rate")
    return options._replace(**{**changes, "rate": tuple(rate)} if rate is not None else changes)
