"""Producers, consumers, their messages and receipts, and watches, to await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self

from ..peers.units import Duration
from .awaiting import AsyncClosing, Awaiting, awaited, like, own
from .consumer import BaseConsumer, Consumer
from .events import BaseWatch, Event, Watch
from .message import BaseMessage, Message
from .producer import BaseProducer, Producer
from .receipt import AckReceipt, BaseAckReceipt, BaseReceipt, Receipt

P = ParamSpec("P")


class AsyncReceipt(BaseReceipt):
    """The promise that a message, or a batch, is durable. `await` it for the offset, or its `wait` with a timeout."""

    __slots__ = ()

    wait = awaited(Receipt.wait)

    def __await__(self) -> Generator[Any, Any, int]:
        return self.wait().__await__()


class AsyncAckReceipt(BaseAckReceipt):
    """The promise that messages were acked, nacked, rejected, released, extended or completed. `await` it, or its
    `wait` with a timeout."""

    __slots__ = ()

    wait = awaited(AckReceipt.wait)

    def __await__(self) -> Generator[Any, Any, None]:
        return self.wait().__await__()


def _with_room(
    method: Callable[Concatenate[Any, P], Receipt],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncReceipt]]:
    """A method that sends, to be awaited: it waits while too much is under way, and lets the loop have what leaves."""

    async def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        receipt = method(self, *args, **kwargs)
        if self._batcher.crowded():
            await self._run(self._room())
        elif self._batcher.open is None:  # a batch has left: it goes while the next one is filled
            await asyncio.sleep(0)
        return receipt

    sending: Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncReceipt]] = own(method, call, AsyncReceipt)
    return sending


class AsyncProducer(Awaiting, BaseProducer[AsyncReceipt], AsyncClosing):
    """Sends messages to one queue or topic, with the methods of `Producer`, awaited. Made by `AsyncClient.producer`;
    use it in an `async with`, or close it.

    `send` gives a receipt before the message is durable; await the receipt, `flush` or `close` for that.
    """

    RECEIPT = AsyncReceipt

    send = _with_room(Producer.send)
    send_many = _with_room(Producer.send_many)
    can_send = awaited(Producer.can_send)
    flush = awaited(Producer.flush)
    close = awaited(Producer.close)


class AsyncMessage(BaseMessage):
    """A message in hand, with the methods of `Message`, awaited.

    Settle each message once: `ack` (or `complete`), `nack`, `reject` or `release`. What is not settled comes back to
    the queue when its lease ends. These methods give a receipt at once, and travel together; awaiting the receipt
    confirms, or raises LeaseLost.
    """

    __slots__ = ()

    @property
    def _consumer(self) -> Any:
        return self._delivery.consumer

    ack = awaited(Message.ack, AsyncAckReceipt)
    nack = awaited(Message.nack, AsyncAckReceipt)
    reject = awaited(Message.reject, AsyncAckReceipt)
    release = awaited(Message.release, AsyncAckReceipt)
    complete = awaited(Message.complete, AsyncAckReceipt)
    progress = awaited(Message.progress, AsyncAckReceipt)
    log = awaited(Message.log, AsyncAckReceipt)
    extend = awaited(Message.extend, AsyncAckReceipt)


class AsyncConsumer(Awaiting, BaseConsumer[AsyncMessage, AsyncAckReceipt], AsyncClosing):
    """Receives messages of one queue, or of one group of a topic, with the methods of `Consumer`, awaited. Several
    tasks may share the work.

    Made by `AsyncClient.consumer`; use it in an `async with`, or close it. Up to `prefetch` messages are leased ahead.
    With `renew`, the leases of all messages in hand are extended by the event loop while the consumer lives.
    A `receive` that is cancelled takes nothing: what came for it is there for the next one. `lost` counts messages
    whose lease ended before they were acknowledged. `on_cancelled` may be set to a function: it is called with a
    message in hand whose job was cancelled, when the daemon tells so (at the next renewal of its lease) or
    `note_cancelled` does.
    """

    MESSAGE = AsyncMessage
    RECEIPT = AsyncAckReceipt
    on_cancelled: Callable[[AsyncMessage], None] | None

    receive_many = awaited(Consumer.receive_many, list[AsyncMessage])

    @like(Consumer.receive)
    async def receive(self, timeout: Duration | None = None) -> AsyncMessage | None:
        messages = await self.receive_many(1, timeout)
        return messages[0] if messages else None

    size = awaited(Consumer.size)

    async def __aiter__(self) -> AsyncIterator[AsyncMessage]:
        """Messages until `stop` is called."""
        while not self._stopped:
            message = await self.receive()
            if message is not None:
                yield message

    ack = awaited(Consumer.ack, AsyncAckReceipt)
    ack_many = awaited(Consumer.ack_many, AsyncAckReceipt)
    nack_many = awaited(Consumer.nack_many, AsyncAckReceipt)
    fail_many = awaited(Consumer.fail_many, AsyncAckReceipt)
    reject_many = awaited(Consumer.reject_many, AsyncAckReceipt)
    release_many = awaited(Consumer.release_many, AsyncAckReceipt)
    complete = awaited(Consumer.complete, AsyncAckReceipt)
    complete_many = awaited(Consumer.complete_many, AsyncAckReceipt)
    complete_packed_many = awaited(Consumer.complete_packed_many, AsyncAckReceipt)
    progress = awaited(Consumer.progress, AsyncAckReceipt)
    log = awaited(Consumer.log, AsyncAckReceipt)
    extend = awaited(Consumer.extend, AsyncAckReceipt)
    flush = awaited(Consumer.flush)
    close = awaited(Consumer.close)


class AsyncWatch(Awaiting, BaseWatch):
    """Events as they happen, until `stop` is called, or its `async with` ends, with the methods of `Watch`, awaited. It
    goes on through a fail-over, and through lost connections.

    If events were told faster than they were read here, or the daemon was started again, some may be gone that match:
    then an event of the type "events.dropped" comes in their place. For one task.
    """

    receive = awaited(Watch.receive)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Event:
        event = await self.receive()
        if event is None:
            raise StopAsyncIteration
        return event
