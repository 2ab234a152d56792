"""Where reading of a topic begins and ends, and a replay: reading without a group, so that nothing is taken or left."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..peers.errors import InvalidArgument
from ..peers.units import Duration, duration_ms
from .delivery import Delivery
from .requests import Request
from .steps import Steps

if TYPE_CHECKING:
    from .consumer import BaseConsumer

Start: TypeAlias = Literal["earliest", "latest"] | int | float | datetime
Stop: TypeAlias = int | float | datetime

PAGE = 5_000  # messages of one request
PARK_MS = 20_000  # how long one request waits at the daemon
NEVER_MS = 2**62
OFFSET_MAX = 2**62
PLACES = 'give "earliest", "latest", an offset (an int), or a time (a datetime, or seconds since 1970 as a float)'


def pack_start(start: Start) -> dict[str, Any]:
    """A place in a topic as it travels. Raises InvalidArgument.

    An int is an offset. A float is seconds since 1970 (UTC); a datetime without a time zone is local time.
    """
    if start in ("earliest", "latest") and isinstance(start, str):
        return {"start": start}
    if isinstance(start, str):
        raise InvalidArgument(f"start is {start!r}", PLACES)
    offset, at_ms = _place(start, "start")
    return {"start": "time", "at": at_ms} if offset is None else {"start": "offset", "at": offset}


def _place(value: Stop, what: str) -> tuple[int | None, int]:
    """(offset, 0), or (None, ms since 1970)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < OFFSET_MAX:
        return value, 0
    seconds = value.timestamp() if isinstance(value, datetime) else value
    if isinstance(seconds, float) and 0 <= seconds < 1e12:
        return None, math.ceil(seconds * 1000)
    raise InvalidArgument(f"{what} is {value!r}", PLACES)


class Replay:
    """How far a replay has come. `over`: nothing more is to be read.

    `stop`: an offset or a time; what is there or later is not read. Without, and without a `wait`, it ends where the
    topic ended when it began. `wait`: how long it waits at the end for the next message (None: for ever).
    """

    def __init__(
        self, onlooker: BaseConsumer[Any, Any], start: Start, stop: Stop | None, wait: Duration | None
    ) -> None:
        self.over = False
        self._onlooker = onlooker  # of the topic; it can settle nothing
        self._where = pack_start(start)
        self._stop, self._stop_ms = (None, 0) if stop is None else _place(stop, "stop")
        self._wait_ms = NEVER_MS if wait is None else duration_ms(wait, "wait")
        self._left_ms = self._wait_ms  # of the wait for the next message
        self._ends = stop is None and not self._wait_ms

    @property
    def waits(self) -> bool:
        """Does it wait for messages to come?"""
        return self._wait_ms > 0

    def more(self) -> Steps[list[Any]]:
        """The next messages. []: nothing came, or it is over."""
        left = PAGE
        if self._stop is not None and self._where["start"] == "offset":
            left = min(PAGE, self._stop - self._where["at"])
            if left <= 0:
                self.over = True
                return []
        wait_ms = min(PARK_MS, self._left_ms)
        args = {"topic": self._onlooker.queue, "messages": left, "wait_ms": wait_ms, **self._where}
        answer = yield Request("read", args, wait_ms=wait_ms)
        body = answer.body
        self._where = {"start": "offset", "at": body["next"]}
        if self._ends:
            self._ends, self._stop = False, body["end"]
        if not body["ranges"]:
            self._left_ms -= wait_ms
            self.over = self._left_ms <= 0
            return []
        self._left_ms = self._wait_ms
        self.over = not self._wait_ms and body["next"] >= body["end"]
        return self._before_stop(Delivery(self._onlooker, body, answer.data or b""))

    def _before_stop(self, delivery: Delivery) -> list[Any]:
        """Those that lie before the stop."""
        messages = delivery.messages
        for at, each in enumerate(delivery.ranges):
            if self._stop_ms and each[3] >= self._stop_ms:
                self.over = True
                return messages[: delivery.starts[at]]
            if self._stop is not None and each[0] + each[1] > self._stop:
                self.over = True
                return messages[: delivery.starts[at] + max(0, self._stop - each[0])]
        return messages
