"""What `send` and `ack` give back at once: a promise of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..peers.errors import PenstockError, Timeout
from ..peers.units import Duration
from .steps import Deadline, Steps

if TYPE_CHECKING:
    from .acks import Settlement
    from .batcher import Batch
    from .consumer import BaseConsumer
    from .producer import BaseProducer


class BaseReceipt:
    """Which message it is about, and what is known of it."""

    __slots__ = ("_batch", "_index", "_producer")

    def __init__(self, producer: BaseProducer[Any], batch: Batch, index: int) -> None:
        self._producer: Any = producer
        self._batch = batch
        self._index = index

    def done(self) -> bool:
        """Has the answer come? Then `wait` returns, or raises, at once."""
        return self._batch.done

    @property
    def offset(self) -> int | None:
        """The offset, if the answer has come and is a good one."""
        return self._batch.offset + self._index if self._batch.done and self._batch.error is None else None

    @property
    def log_index(self) -> int:
        """Where in the daemon's log the batch is, once it is durable: outcomes of its jobs come after that."""
        return self._batch.log_index

    def landed(self, timeout: Duration | None = None) -> Steps[int]:
        """The steps of `wait`."""
        if not self._batch.done:
            yield from self._producer.land(self._batch, Deadline(timeout).timeout_s)
        return self._answer()

    def _answer(self) -> int:
        batch = self._batch
        if batch.error is not None:
            batch.told = True
            raise batch.error
        return batch.offset + self._index


class Receipt(BaseReceipt):
    """The promise that a message, or a batch, is durable. Thread-safe."""

    __slots__ = ()

    def wait(self, timeout: Duration | None = None) -> int:
        """The offset of the message (of a batch: of its first one), once it is durable.

        `timeout` is a duration; None waits as long as the client tries. Raises Timeout, after which the
        message may still arrive, or why the message was refused: NotFound, QueueFull, TooLarge, StorageFull,
        SessionExpired, Closed ...
        """
        if self._batch.done:
            return self._answer()
        offset: int = self._producer._run(self.landed(timeout))
        return offset


class BaseAckReceipt:
    """What was said about messages, and what is known of it."""

    __slots__ = ("_consumer", "_settlements")

    def __init__(self, consumer: BaseConsumer[Any, Any], settlements: list[Settlement]) -> None:
        self._consumer: Any = consumer
        self._settlements = settlements

    def done(self) -> bool:
        """Has the answer come? Then `wait` returns, or raises, at once."""
        return all(settlement.done for settlement in self._settlements)

    def settled(self, timeout: Duration | None = None) -> Steps[None]:
        """The steps of `wait`."""
        if not self.done():
            timeout_s = Deadline(timeout).timeout_s
            ready = yield from self._consumer.settle_until(self.done, timeout_s)
            wait_or_raise(ready, timeout_s, "the acknowledgement")
        error: PenstockError | None = None
        for settlement in self._settlements:
            settlement.told = True
            error = error or settlement.error
        if error is not None:
            raise error


class AckReceipt(BaseAckReceipt):
    """The promise that messages were acked, nacked, rejected, released, extended or completed. Thread-safe."""

    __slots__ = ()

    def wait(self, timeout: Duration | None = None) -> None:
        """Return once it is durable.

        `timeout` is a duration; None waits as long as the client tries. Raises Timeout, and LeaseLost if at
        least one of the messages had been given back before: perhaps to somebody else.
        """
        return self._consumer._run(self.settled(timeout))  # type: ignore[no-any-return]  # whichever shell that is


def wait_or_raise(ready: bool, timeout_s: float | None, what: str) -> None:
    """Timeout, unless `ready`."""
    if not ready:
        raise Timeout(f"{what} did not happen within {timeout_s:g} s", "wait longer, or look if the daemon is well")
