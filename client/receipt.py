"""What `send` and `ack` give back at once: a promise of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..peers.errors import PenstockError, Timeout
from ..peers.units import duration_ms

if TYPE_CHECKING:
    from .acks import Settlement
    from .batcher import Batch
    from .consumer import Consumer
    from .producer import Producer


class Receipt:
    """The promise that a message, or a batch, is durable. Thread-safe."""

    __slots__ = ("_batch", "_index", "_producer")

    def __init__(self, producer: Producer, batch: Batch, index: int) -> None:
        self._producer = producer
        self._batch = batch
        self._index = index

    def wait(self, timeout: float | str | None = None) -> int:
        """The offset of the message (of a batch: of its first one), once it is durable.

        `timeout` in seconds or as text; None waits as long as the client tries. Raises Timeout, after which the
        message may still arrive, or why the message was refused: NotFound, QueueFull, TooLarge, StorageFull,
        SessionExpired, Closed ...
        """
        batch = self._batch
        if not batch.done:
            self._producer.wait_for(batch, None if timeout is None else duration_ms(timeout, "timeout") / 1000)
        if batch.error is not None:
            batch.told = True
            raise batch.error
        return batch.offset + self._index

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


class AckReceipt:
    """The promise that messages were acked, nacked, rejected, released, extended or completed. Thread-safe."""

    __slots__ = ("_consumer", "_settlements")

    def __init__(self, consumer: Consumer, settlements: list[Settlement]) -> None:
        self._consumer = consumer
        self._settlements = settlements

    def wait(self, timeout: float | str | None = None) -> None:
        """Return once it is durable.

        `timeout` in seconds or as text; None waits as long as the client tries. Raises Timeout, and LeaseLost if at
        least one of the messages had been given back before: perhaps to somebody else.
        """
        if not self.done():
            timeout_s = None if timeout is None else duration_ms(timeout, "timeout") / 1000
            ready = self._consumer.wait_for(self.done, timeout_s)
            wait_or_raise(ready, timeout_s, "the acknowledgement")
        error: PenstockError | None = None
        for settlement in self._settlements:
            settlement.told = True
            error = error or settlement.error
        if error is not None:
            raise error

    def done(self) -> bool:
        """Has the answer come? Then `wait` returns, or raises, at once."""
        return all(settlement.done for settlement in self._settlements)


def wait_or_raise(ready: bool, timeout_s: float | None, what: str) -> None:
    """Timeout, unless `ready`."""
    if not ready:
        raise Timeout(f"{what} did not happen within {timeout_s:g} s", "wait longer, or look if the daemon is well")
