"""The options of queues and topics, as users give them and as they travel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from ..peers.errors import InvalidArgument
from ..peers.units import Duration, duration_ms, rate_of, size_bytes

Size = int | str


class RetryOptions(TypedDict, total=False):
    """What becomes of a message that failed. max_failures: then it goes to the dead letters; None: never (default 5).
    retry_delay: the pause before it is given again (default 0); with retry_backoff "exponential" (1 s unless
    retry_delay says more) twice as long after each failure, up to retry_delay_max (default 1 h). retry_jitter: by how
    many percent at most the pause is shorter (default 0), so that those that failed together do not all come again
    together."""

    max_failures: int | None
    retry_delay: Duration
    retry_backoff: Literal["constant", "exponential"]
    retry_delay_max: Duration
    retry_jitter: int


class ChangeableQueueOptions(RetryOptions, total=False):
    """Those of a queue that can be changed later; None means no limit, which is the default.

    max_messages, max_bytes ("1GiB"): how much may be there; overflow: what then happens, "reject" (QueueFull; the
    default) or "drop_oldest". max_message: bytes of one body. rate: how many are given out, "100/s", "10/m".
    max_leased: how many may be in hand at once, over all consumers. result_ttl: how long results of jobs are kept
    (default 1 day). unique: how long the id of a message is taken (default 1 day), and in any case until it has ended.
    result_queue: where results are sent as well.
    """

    max_messages: int | None
    max_bytes: Size | None
    overflow: Literal["reject", "drop_oldest"]
    max_message: Size | None
    rate: str | None
    max_leased: int | None
    result_ttl: Duration
    unique: Duration
    result_queue: str | None


class QueueOptions(ChangeableQueueOptions, total=False):
    """Those of a new queue. ordered_by "key": of the messages with one key, one is in hand at a time, the oldest
    first."""

    ordered_by: Literal["key"] | None


class TopicOptions(RetryOptions, total=False):
    """Those of a topic. retention ("7d"), retention_bytes ("1GiB"), retention_messages: what is older, or beyond that,
    goes; None (the default) keeps everything."""

    retention: Duration | None
    retention_bytes: Size | None
    retention_messages: int | None


class AnyOptions(ChangeableQueueOptions, TopicOptions, total=False):
    """Those of a queue or topic that can be changed: ChangeableQueueOptions or TopicOptions."""


def pack_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they travel. Raises InvalidArgument for one that there is not, and for what is no duration, size
    or rate."""
    packed: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _WIRE:
            raise InvalidArgument(f"there is no option {name!r}", f"options are {', '.join(_WIRE)}")
        wire_name, pack = _WIRE[name]
        packed[wire_name] = value if value is None or pack is None else pack(value, name)
    return packed


def _pack_rate(value: Any, what: str) -> list[int]:
    return list(rate_of(value, what))


_Pack = Callable[[Any, str], Any]
_WIRE: dict[str, tuple[str, _Pack | None]] = {
    "max_messages": ("max_messages", None),
    "max_bytes": ("max_bytes", size_bytes),
    "overflow": ("overflow", None),
    "max_message": ("max_message", size_bytes),
    "rate": ("rate", _pack_rate),
    "max_leased": ("max_leased", None),
    "ordered_by": ("ordered_by", None),
    "max_failures": ("max_failures", None),
    "retry_delay": ("retry_delay_ms", duration_ms),
    "retry_backoff": ("retry_backoff", None),
    "retry_delay_max": ("retry_delay_max_ms", duration_ms),
    "retry_jitter": ("retry_jitter", None),
    "result_ttl": ("result_ttl_ms", duration_ms),
    "unique": ("unique_ms", duration_ms),
    "result_queue": ("result_queue", None),
    "retention": ("retention_ms", duration_ms),
    "retention_bytes": ("retention_bytes", size_bytes),
    "retention_messages": ("retention_messages", None),
}
