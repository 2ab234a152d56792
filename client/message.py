"""A message in hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..peers.units import Duration
from .headers import KEY, RESERVED

if TYPE_CHECKING:
    from .consumer import Consumer
    from .delivery import Delivery
    from .receipt import AckReceipt


class BaseMessage:
    """A message: `body` (bytes) and what is known about it."""

    __slots__ = ("_delivery", "_index", "body")

    def __init__(self, delivery: Delivery, index: int, body: bytes) -> None:
        self._delivery = delivery
        self._index = index
        self.body = body

    @property
    def queue(self) -> str:
        """The queue or topic it came from."""
        return self._delivery.consumer.queue

    @property
    def offset(self) -> int:
        """Its number in the queue, from 0 on."""
        return self._delivery.offset_of(self._index)

    @property
    def id(self) -> str:
        """QUEUE/OFFSET: the id of the job that it is."""
        return f"{self.queue}/{self.offset}"

    @property
    def attempt(self) -> int:
        """How many times it was handed out, this time included: 1 for the first. A fencing token of its own."""
        delivery = self._delivery
        return delivery.ranges[delivery.range_of(self._index)][2]

    @property
    def timestamp(self) -> float:
        """When it was published, in seconds since 1970 (UTC)."""
        delivery = self._delivery
        return delivery.ranges[delivery.range_of(self._index)][3] / 1000

    @property
    def failures(self) -> int:
        """How many times it was nacked or its lease ran out."""
        delivery = self._delivery
        return delivery.ranges[delivery.range_of(self._index)][4]

    @property
    def lease(self) -> int:
        """The id of the lease: the token to fence side effects with."""
        return self._delivery.lease

    @property
    def lost(self) -> bool:
        """Has the lease ended, as far as is known here?"""
        return self._delivery.lost_why != ""

    @property
    def cancelled(self) -> bool:
        """Was the job cancelled while it was in hand, as far as is known here? Then its result will be refused."""
        return self._delivery.is_cancelled(self._index)

    @property
    def all_headers(self) -> dict[str, Any]:
        """The headers with those of Penstock's own (`penstock-key`, `penstock-task`, of dead letters `penstock-reason`
        ...)."""
        headers = self._delivery.headers
        return dict((headers[self._index] if headers is not None else None) or {})

    @property
    def headers(self) -> dict[str, Any]:
        """The headers that it was sent with."""
        return {name: value for name, value in self.all_headers.items() if not name.startswith(RESERVED)}

    @property
    def key(self) -> str | None:
        """The key that it was sent with."""
        return self.all_headers.get(KEY)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} attempt {self.attempt}, {len(self.body)} bytes>"


class Message(BaseMessage):
    """A message in hand: `body` (bytes) and what is known about it.

    Settle each message once: `ack` (or `complete`), `nack`, `reject` or `release`. What is not settled comes back to
    the queue when its lease ends. These methods return at once and travel together; their receipt's `wait` confirms,
    or raises LeaseLost. Thread-safe.
    """

    __slots__ = ()

    @property
    def _consumer(self) -> Consumer:
        consumer: Any = self._delivery.consumer
        return consumer  # type: ignore[no-any-return]  # its messages are of its kind

    def ack(self) -> AckReceipt:
        """Done: it is gone for good."""
        return self._consumer.ack_many([self])

    def nack(self, delay: Duration | None = None, error: Any = None) -> AckReceipt:
        """It failed: give it back, to be tried again after `delay` (default: the queue's retry_delay).

        After the queue's max_failures it goes to the dead letters, with `error` (an exception or a map) as the job's
        error.
        """
        return self._consumer.nack_many([self], delay=delay, error=error)

    def reject(self, reason: str = "", error: Any = None) -> AckReceipt:
        """It can never succeed: to the dead letters at once. `reason` is text for people; without one, the error is."""
        return self._consumer.reject_many([self], reason=reason, error=error)

    def release(self) -> AckReceipt:
        """Give it back unworked: no failure is counted."""
        return self._consumer.release_many([self])

    def complete(self, result: Any = None, outputs: Mapping[str, Sequence[bytes]] | None = None) -> AckReceipt:
        """Done, with a result, in one step. `result`: a msgpack value, see `penstock.peers.values.pack`.

        `outputs`: bodies to append to other queues, by name, in that same step; see `Consumer.complete`.
        """
        return self._consumer.complete(self, result, outputs)

    def progress(self, fraction: float, text: str = "") -> AckReceipt:
        """Tell how far the job is: a fraction, 0 to 1, and a text."""
        return self._consumer.progress(self, fraction, text)

    def log(self, *lines: str) -> AckReceipt:
        """Add lines to the log of the job."""
        return self._consumer.log(self, *lines)

    def extend(self, duration: Duration) -> AckReceipt:
        """Let the lease end `duration` from now. It holds for all messages that came in the same delivery."""
        return self._consumer.extend(self, duration)
