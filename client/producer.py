"""A producer: messages in, batches out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, Unpack

from ..peers import wire
from ..peers.errors import Closed, InvalidArgument, PenstockError, TooLarge
from ..peers.units import Duration, duration_ms, size_bytes
from .batcher import BATCH_BYTES, BATCH_MAX, MESSAGE_OVERHEAD, Batch, Batcher
from .channel import Channel
from .closing import Closing
from .headers import Header, Headers, many_headers, one_header, with_own, with_own_each
from .infos import has_room
from .properties import BatchOptions, Properties, SendOptions, Shape, pack_batch, pack_properties
from .receipt import BaseReceipt, Receipt, wait_or_raise
from .requests import Request
from .several import as_bytes, several
from .steps import Deadline, Steps, Wait
from .waiting import Waiting

R = TypeVar("R", bound=BaseReceipt)

NEVER_MS = 2**62
REFUSED_MAX = 100  # batches
NO_ARGS: Mapping[str, Any] = {}


class BaseProducer(Generic[R]):
    """Batches of one producer, from the sending of a message to its answer, and the steps of what it waits for."""

    RECEIPT: type[R]

    def __init__(
        self,
        connection: Channel,
        queue: str,
        *,
        linger: Duration = 0,
        batch_max: int = BATCH_MAX,
        batch_bytes: int | str = BATCH_BYTES,
    ) -> None:
        self.queue = queue
        self.due_ms = NEVER_MS
        self._receipt = self.RECEIPT  # found faster in here: `send` makes one for each message
        self._connection: Any = connection
        self._lock = connection.lock
        self._linger_ms = duration_ms(linger, "linger")
        session = connection.session
        batch_size = min(size_bytes(batch_bytes, "batch_bytes"), session.max_message // 2)
        self._batcher = Batcher(self._linger_ms, min(batch_max, session.max_batch), batch_size)
        self._dead: PenstockError | None = None
        self._refused: list[Batch] = []  # whose receipts nobody has looked at yet; the first ones
        self._refused_more = 0  # messages beyond those
        if self._linger_ms:
            connection.timers.append(self)

    @property
    def closed(self) -> bool:
        """Has it been closed?"""
        return self._dead is not None

    @property
    def max_batch(self) -> int:
        """How many messages the daemon takes in one batch."""
        return int(self._connection.session.max_batch)

    def _name(self) -> str:
        return f"the producer of {self.queue!r}"

    # -- steps -----------------------------------------------------------------------------------------------------

    def send_packed(self, bodies: list[bytes], headers: Headers, args: Mapping[str, Any] = NO_ARGS) -> Steps[R]:
        """As `send_many`, with bytes, headers and arguments of `append` that need no check, headers of Penstock's own
        among them. For this room."""
        batch = Batch(Shape(args) if args else None)
        batch.bodies, batch.headers = bodies, headers
        receipt = self._send_batch(batch)
        yield from self._room()
        return receipt

    def land(self, batch: Batch, timeout_s: float | None) -> Steps[None]:
        """Have this batch leave now and wait for its answer. For receipts."""
        if self._connection.dead is not None and not batch.done:
            raise self._connection.dead
        with self._lock:
            if not batch.sent:
                batch.wanted = True
                self._push()
        ready = yield Wait(lambda: batch.done, timeout_s)
        wait_or_raise(ready, timeout_s, f"the receipt of a message for {self.queue!r}")

    def _room(self) -> Steps[None]:
        if self._batcher.crowded():
            yield Wait(lambda: not self._batcher.crowded())

    def _flush(self, timeout: Duration | None) -> Steps[None]:
        timeout_s = Deadline(timeout).timeout_s
        self._connection.check()
        with self._lock:
            self._push()
            batches = list(self._batcher.flying)
        ready = yield Wait(lambda: all(batch.done for batch in batches), timeout_s)
        wait_or_raise(ready, timeout_s, f"flushing {self._name()}")
        self._raise_refusals()

    def _close(self) -> Steps[None]:
        if self._dead is not None:
            return
        try:
            if self._connection.dead is None:
                yield from self._flush(None)
        finally:
            self._dead = Closed(f"{self._name()} is closed", "make a new one")
            with self._lock:
                if self in self._connection.timers:
                    self._connection.timers.remove(self)

    def _can_send(self, messages: int) -> Steps[bool]:
        with self._lock:
            mine = sum(len(batch.bodies) for batch in self._batcher.flying)
            mine += len(self._batcher.open.bodies) if self._batcher.open is not None else 0
        answer = yield Request("describe", {"name": self.queue})
        return has_room(answer.body, mine + messages)

    # -- sending ---------------------------------------------------------------------------------------------------

    def _send_alone(self, body: bytes, header: Header, properties: Properties) -> R:
        """One whose id may be taken: that refuses the whole batch, so nothing else is in it."""
        shape = properties.shape
        batch = Batch(Shape({**shape.args, "ids": [properties.id]}, shape.clock))
        batch.bodies, batch.times = [body], [properties.time_ms]
        batch.headers = None if header is None else [header]
        return self._send_batch(batch)

    def _batch_for(self, shape: Shape | None, size: int) -> Batch:
        """The open batch, if a message of this shape and size may be in it, or a new one. The lock is held."""
        batcher = self._batcher
        large = size > BATCH_BYTES
        if large:
            self._check_size(size, 1)
        if batcher.open is not None and (large or batcher.open.shape != shape):
            self._leave(batcher.open)  # a large one and others together might be more than the daemon takes
        return batcher.open or batcher.begin(shape, self._connection.now_ms() if self._linger_ms else 0)

    def _gather(self, index: int) -> None:
        """Message `index` has come into the open batch: shall the batch leave? The lock is held."""
        batcher = self._batcher
        if not batcher.flying or (batcher.open is not None and batcher.open.full):
            self._leave_if_due()
            self._wait_for_room()
        elif index == 0:
            self._connection.listen()  # the answer may have come: then this one need not wait for company

    def _send_batch(self, batch: Batch) -> R:
        batch.size = sum(map(len, batch.bodies)) + MESSAGE_OVERHEAD * len(batch.bodies)
        if self._dead is not None or self._connection.dead is not None:
            raise self._why_dead()
        self._check_size(batch.size - MESSAGE_OVERHEAD * len(batch.bodies), len(batch.bodies))
        with self._lock:
            if self._batcher.open is not None:  # nothing overtakes
                self._leave(self._batcher.open)
            self._leave(batch)
            self._wait_for_room()
        return self.RECEIPT(self, batch, 0)

    def _wait_for_room(self) -> None:
        """Have the sender wait while the producer is crowded, if it can. The lock is held."""

    # -- batches; the lock is held ---------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """The open batch may have lingered long enough."""
        self.due_ms = NEVER_MS
        self._leave_if_due()

    def _push(self) -> None:
        if self._batcher.open is not None:
            self._batcher.open.wanted = True
            self._leave_if_due()

    def _leave_if_due(self) -> None:
        batch = self._batcher.due(self._connection.now_ms() if self._linger_ms else 0)
        if batch is not None:
            self._leave(batch)
        elif self._linger_ms and (due_ms := self._batcher.due_ms()) is not None:
            self.due_ms = due_ms
            self._connection.hurry(due_ms)

    def _leave(self, batch: Batch) -> None:
        # It is no longer the open one before anybody waits: another thread may put messages meanwhile.
        batcher = self._batcher
        payload = wire.pack_payload(batch.bodies, batch.all_headers())
        count = len(batch.bodies)
        args: dict[str, Any] = {"queue": self.queue, "count": count}
        if batch.shape is not None:
            args |= batch.properties()
        batcher.left(batch)
        self._connection.ask(
            Request(
                "append",
                args,
                payload,
                counted=True,
                then=lambda request: self._landed(batch, count, request),
            )
        )

    def _landed(self, batch: Batch, count: int, request: Request) -> None:
        body = request.body if request.error is None else {"offset": -1, "index": 0}
        self._batcher.landed(batch, body["offset"], body["index"], request.error)
        if request.error is not None:
            batch.size = count
            self._refused = [b for b in self._refused if not b.told]
            if len(self._refused) < REFUSED_MAX:
                self._refused.append(batch)
            else:
                self._refused_more += count
        if self._batcher.open is not None:
            self._leave_if_due()

    # -- refusals --------------------------------------------------------------------------------------------------

    def _raise_refusals(self) -> None:
        with self._lock:
            refused, self._refused = [b for b in self._refused if not b.told], []
            count, self._refused_more = self._refused_more + sum(batch.size for batch in refused), 0
        for batch in refused:
            batch.told = True
        if refused and (first := refused[0].error) is not None:
            hint = f"{count} messages were refused since the last flush"
            raise type(first)(first.message, f"{first.hint}; {hint}" if first.hint else hint)

    def _why_dead(self) -> PenstockError:
        return self._dead or self._connection.dead or Closed("the producer is closed")

    def _check_size(self, size: int, count: int) -> None:
        session = self._connection.session
        if count > session.max_batch:
            raise TooLarge(f"a batch of {count} messages is more than the daemon takes", f"at most {session.max_batch}")
        if size > session.max_message:
            raise TooLarge(
                f"{size} bytes in one batch are more than the daemon takes", f"at most {session.max_message}"
            )


class Producer(Waiting, BaseProducer[Receipt], Closing):
    """Sends messages to one queue or topic. Thread-safe. Made by `Client.producer`; use it in a `with`, or close it.

    Messages leave in batches that form by themselves: at once when nothing is under way, together while something is.
    `send` returns before the message is durable; `Receipt.wait`, `flush` and `close` wait until it is.
    """

    RECEIPT = Receipt

    def send(
        self,
        body: bytes,
        headers: Mapping[str, Any] | None = None,
        key: str | None = None,
        **options: Unpack[SendOptions],
    ) -> Receipt:
        """Queue one message. `headers`: a map with text keys. Blocks only while 16 batches or 16 MiB are under way.

        options, all optional: priority, delay, due, ttl, id, after, on_failure, max_failures, retry_delay,
        retry_backoff, retry_delay_max, retry_jitter (see SendOptions). Messages whose options differ in more than delay
        or due travel in batches of their own, and one with an id alone; the order of sending is kept.

        The receipt tells the offset, or why the message was refused; a refusal that no receipt was asked for is raised
        by `flush` and `close`. Raises InvalidArgument, TooLarge, Closed.
        """
        if type(body) is not bytes:
            body = as_bytes(body)
        header = None if headers is None and key is None else one_header(headers, key)
        properties = pack_properties(options) if options else None
        if self._dead is not None or self._connection.dead is not None:
            raise self._why_dead()
        shape = None
        if properties is not None:
            header = with_own(header, properties.shape.args)
            if properties.id is not None:
                return self._send_alone(body, header, properties)
            shape = properties.shape
        size = len(body)
        with self._lock:
            batch = self._batcher.open
            if batch is None or batch.shape is not shape or size > BATCH_BYTES:
                batch = self._batch_for(shape, size)
            index = batch.add(body, size, header)
            if properties is not None and properties.shape.clock:
                batch.times.append(properties.time_ms)
            if batch.full or index == 0 or self._linger_ms:
                self._gather(index)
            receipt = self._receipt  # not called as if it were a method, which is slower
            return receipt(self, batch, index)

    def send_many(
        self,
        bodies: Iterable[bytes],
        headers: Sequence[Mapping[str, Any] | None] | None = None,
        key: str | None = None,
        **options: Unpack[BatchOptions],
    ) -> Receipt:
        """Queue messages as one batch: all of them or none. The receipt's offset is that of the first one.

        `headers`: one map, or None, for each body; `key` is that of all. options: as `send` has, for all of them, with
        `ids`, `delays` or `dues`, one for each body, in place of id, delay and due; a single id that is taken refuses
        them all. Raises InvalidArgument (also for an empty batch), TooLarge, Closed.
        """
        batch = Batch()
        batch.bodies = several(bodies, "bodies", "bytes")
        if set(map(type, batch.bodies)) != {bytes}:
            batch.bodies = [as_bytes(body) for body in batch.bodies]
        if not batch.bodies:
            raise InvalidArgument("an empty batch cannot be sent", "give at least one body")
        if headers is not None or key is not None:
            batch.headers = many_headers(headers, len(batch.bodies), key)
        if options and (args := pack_batch(options, len(batch.bodies))):
            batch.shape = Shape(args)
            batch.headers = with_own_each(batch.headers, args, len(batch.bodies))
        return self._send_batch(batch)

    def can_send(self, messages: int = 1) -> bool:
        """Is there room for `messages` more under the queue's limits? Asks the daemon; others may be faster than
        you."""
        return self._run(self._can_send(messages))

    def flush(self, timeout: Duration | None = None) -> None:
        """Return once all that was sent is durable. `timeout` is a duration; None waits as long as the client
        tries.

        Raises Timeout, or the first refusal that no receipt has told yet; its hint says how many messages were refused.
        """
        return self._run(self._flush(timeout))

    def close(self) -> None:
        """Flush, then end. Raises what `flush` raises; the producer is closed in any case. Twice does nothing."""
        return self._run(self._close())

    def _wait_for_room(self) -> None:
        if self._batcher.crowded():
            self._connection.wait(lambda: not self._batcher.crowded(), None)
