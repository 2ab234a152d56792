"""What one pull brought: messages under one lease, and which of them are settled."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from ..peers import wire
from ..peers.errors import LeaseLost
from .headers import Header
from .message import Message

if TYPE_CHECKING:
    from .consumer import Consumer

SETTLED = b"\x01"


class Delivery:
    """Messages under one lease. The lease belongs to all of them: extending it for one extends it for all."""

    __slots__ = (
        "cancelled",
        "consumer",
        "headers",
        "lease",
        "left",
        "lost_why",
        "messages",
        "ranges",
        "settled",
        "starts",
        "taken",
    )

    def __init__(self, consumer: Consumer, body: dict[str, Any], payload: bytes) -> None:
        bodies, self.headers = wire.unpack_payload(payload)
        self.consumer = consumer
        self.lease: int = body["lease"] or 0
        self.ranges: Sequence[tuple[int, int, int, int, int]] = body["ranges"]
        self.starts: list[int] = []  # the index of the first message of each range
        start = 0
        for each in self.ranges:
            self.starts.append(start)
            start += each[1]
        self.left = len(bodies)  # not settled yet
        self.lost_why = ""  # not empty: why the lease is gone
        self.taken = 0  # messages that the application has received
        self.settled = bytearray(len(bodies))
        self.cancelled: list[tuple[int, int]] = []  # [first, end) by index: jobs that were cancelled in hand
        self.messages: list[Message] = list(map(Message, repeat(self), count(), bodies))

    def range_of(self, index: int) -> int:
        """Which range message `index` is in."""
        return bisect_right(self.starts, index) - 1

    def offset_of(self, index: int) -> int:
        at = self.range_of(index)
        return self.ranges[at][0] + index - self.starts[at]

    def offsets(self, first: int, end: int) -> list[tuple[int, int]]:
        """Messages `first` to `end` as ranges of offsets."""
        # There may be as many ranges as messages, and each of them may be acked by itself: hence the search.
        at = self.range_of(first)
        found = []
        while first < end:
            start, size, *_ = self.ranges[at]
            inside = first - self.starts[at]
            count = min(size - inside, end - first)
            found.append((start + inside, count))
            first += count
            at += 1
        return found

    def spans(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """Messages `first` to `end` as ranges of offsets, each with its attempt."""
        found = []
        for offset, length in self.offsets(first, end):
            found.append((offset, length, self.ranges[self.range_of(first)][2]))
            first += length
        return found

    def settle(self, first: int, end: int) -> list[tuple[int, int]]:
        """Note that messages `first` to `end` are settled. Returns the runs of those that were not before."""
        if self.lost_why:
            return []
        settled = self.settled
        runs = []
        position = first
        while position < end:
            if settled[position]:
                position += 1
                continue
            stop = settled.find(SETTLED, position, end)
            stop = end if stop < 0 else stop
            settled[position:stop] = SETTLED * (stop - position)
            self.left -= stop - position
            runs.append((position, stop))
            position = stop
        if self.left == 0:
            self.messages = []  # they point here, and would keep each other alive
        return runs

    def unsettle(self, index: int) -> None:
        """What was said about this message was refused: it is in hand as before."""
        self.settled[index] = 0
        self.left += 1

    def cancel(self, first: int, count: int) -> list[Message]:
        """Jobs [first, first + count), by offset, were cancelled. Returns those of them that were not settled."""
        found: list[Message] = []
        for at, (start, size, *_) in enumerate(self.ranges):
            low, high = max(first, start), min(first + count, start + size)
            if low >= high:
                continue
            begin, end = self.starts[at] + low - start, self.starts[at] + high - start
            self.cancelled.append((begin, end))
            messages = self.messages
            for run in self.settle(begin, end):
                found += messages[run[0] : run[1]]
        return found

    def is_cancelled(self, index: int) -> bool:
        return any(first <= index < end for first, end in self.cancelled)

    def why_lost(self, first: int) -> LeaseLost:
        """Why messages from `first` on cannot be settled."""
        cancelled = "its job was cancelled" if self.is_cancelled(first) else ""
        why = cancelled or self.lost_why or "it was acked, nacked or completed before"
        return LeaseLost(
            f"message {self.consumer.queue}/{self.offset_of(first)} is not yours any more: {why}",
            "renew the lease or take a longer one; what you did with it may be done twice",
        )


def runs_of(messages: Sequence[Message]) -> list[tuple[Delivery, int, int]]:
    """Messages as runs (delivery, first, end) of neighbours, in the order given.

    Messages that are in the order they were received in are compared in bulk, by identity: 5 ns each.
    """
    runs: list[tuple[Delivery, int, int]] = []
    position, total = 0, len(messages)
    given = messages if type(messages) is list else list(messages)
    while position < total:
        message = given[position]
        delivery, first = message._delivery, message._index
        length = max(1, min(len(delivery.messages) - first, total - position))
        if length > 1 and delivery.messages[first : first + length] != given[position : position + length]:
            length = 1
            while position + length < total and _follows(given[position + length], delivery, first + length):
                length += 1
        runs.append((delivery, first, first + length))
        position += length
    return runs


def _follows(message: Message, delivery: Delivery, index: int) -> bool:
    return message._delivery is delivery and message._index == index


def places_of(messages: Sequence[Message]) -> tuple[list[tuple[int, int, int]], list[Header] | None]:
    """Where messages are in their queue, as [(offset of the first, how many, attempt), ...], and their headers."""
    spans: list[tuple[int, int, int]] = []
    headers: list[Header] = []
    for delivery, first, end in runs_of(messages):
        spans += delivery.spans(first, end)
        headers += [None] * (end - first) if delivery.headers is None else delivery.headers[first:end]
    return spans, headers if any(headers) else None
