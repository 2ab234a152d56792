"""A consumer: leases messages ahead of the application, keeps the leases alive, and acknowledges in ranges."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from ..peers import values, wire
from ..peers.errors import Closed, InvalidArgument, LeaseLost, PenstockError, SessionExpired, TooLarge
from ..peers.units import duration_ms
from .acks import GATHER_BYTES, AckBatcher, Settlement
from .connection import Connection, wait_or_raise
from .delivery import Delivery, runs_of
from .failures import pack_error
from .message import Message
from .receipt import AckReceipt
from .requests import Request

PARK_MS = 20_000  # how long a pull waits at the daemon
PAUSE_MS = 200  # before the next pull, when the daemon answered one without a wait and without messages
NEVER_MS = 2**62

log = logging.getLogger("penstock")


class Consumer:
    """Receives messages of one queue, or of one group of a topic. Thread-safe: several threads may share the work.

    Made by `Client.consumer`; use it in a `with`, or close it. Up to `prefetch` messages are leased ahead. With `renew`, the leases of
    all messages in hand are extended in the background while the consumer lives. Acknowledgements return at once and travel together;
    their receipts, `flush` and `close` confirm them. `lost` counts messages whose lease ended before they were acknowledged.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        *,
        group: str = "",
        lease: float | str = 30.0,
        prefetch: int = 1000,
        renew: bool = True,
        passive: bool = False,
    ) -> None:
        if not isinstance(prefetch, int) or isinstance(prefetch, bool) or prefetch < 0:
            raise InvalidArgument(f"prefetch is {prefetch!r}", "give a number of messages, 0 or more")
        self.queue = queue
        self.group = group
        self.lost = 0
        self.due_ms = NEVER_MS
        self._lease_ms = duration_ms(lease, "lease")
        if self._lease_ms == 0:
            raise InvalidArgument(f"lease is {lease!r}", "give a time in which a message can be worked")
        self._prefetch = prefetch
        self._renew = renew
        self._connection = connection
        self._lock = connection.lock
        self._acks = AckBatcher()
        self._buffer: deque[Delivery] = deque()  # with messages that the application has not received
        self._buffered = 0  # messages in it
        self._asked = 0  # messages that pulls on their way may bring
        self._open: dict[int, Delivery] = {}  # leases with messages that are not settled
        self._renew_ms = self._pull_ms = NEVER_MS
        self._stopped = False
        self._closed = False
        self._error: PenstockError | None = None  # why the last pull failed
        self._untold: list[Settlement] = []  # refused, and perhaps nobody has looked at the receipt
        self._lost_error: LeaseLost | None = None
        if not passive:
            connection.timers.append(self)
            connection.on_session_lost.append(self._session_lost)

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(self, timeout: float | str | None = None) -> Message | None:
        """The next message. None: nothing came within `timeout` (seconds or text; None waits for ever), or `stop` was called.

        It comes back to the queue unless you settle it before its lease ends. Raises NotFound if the queue is gone,
        PermissionDenied without the right to pull, Timeout if no daemon answers for `retry_for`, Closed.
        """
        messages = self.receive_many(1, timeout)
        return messages[0] if messages else None

    def receive_many(self, limit: int, timeout: float | str | None = None) -> list[Message]:
        """At least one and at most `limit` messages, in order; [] if nothing came within `timeout`. As `receive`."""
        if limit < 1:
            raise InvalidArgument(f"limit is {limit!r}", "receive at least one message")
        timeout_s = None if timeout is None else duration_ms(timeout, "timeout") / 1000
        self._check()
        with self._lock:
            if not self._buffered:
                self._wait_for_messages(limit, timeout_s)
            messages = self._take(limit)
            # Before the application works on these: so the network overlaps with the work.
            self._pull_if_low()
        return messages

    def __iter__(self) -> Iterator[Message]:
        """Messages until `stop` is called."""
        while not self._stopped:
            message = self.receive()
            if message is not None:
                yield message

    def stop(self) -> None:
        """End iterations and waiting receives. May be called from other threads and from signal handlers."""
        self._stopped = True
        with self._lock:
            self._connection.notify()

    def size(self) -> int:
        """How many messages wait: for this group at the daemon (ready or delayed), and here, received by nobody."""
        self._check()
        body = self._connection.call("describe", {"name": self.queue}).body
        for group in body["groups"]:
            if group["name"] == self.group:
                return int(group["ready"]) + int(group["delayed"]) + self._buffered
        raise InvalidArgument(f"{self.queue!r} has no group {self.group!r}", "create it, or name another one")

    # -- settling --------------------------------------------------------------------------------------------------

    def ack(self, message: Message) -> AckReceipt:
        """Done: the message is gone for good."""
        return self._settle("ack", [message], {})

    def ack_many(self, messages: Sequence[Message]) -> AckReceipt:
        """Done: these are gone for good. Fastest with messages in the order they were received in."""
        return self._settle("ack", messages, {})

    def nack_many(
        self,
        messages: Sequence[Message],
        delay: float | str | None = None,
        error: BaseException | Mapping[str, Any] | str | None = None,
    ) -> AckReceipt:
        """These failed: give them back, to be tried again after `delay` (default: the queue's retry_delay).

        After the queue's max_failures they go to the dead letters, with `error` as the job's error.
        """
        args: dict[str, Any] = {}
        if delay is not None:
            args["delay_ms"] = duration_ms(delay, "delay")
        if error is not None:
            args["error"] = pack_error(error)
        return self._settle("nack", messages, args)

    def fail_many(
        self,
        messages: Sequence[Message],
        error: BaseException | Mapping[str, Any] | str,
        delay: float | str | None = None,
    ) -> AckReceipt:
        """`nack_many` for jobs: `error` is an exception, a text, or a map of type, message, traceback and rank."""
        return self.nack_many(messages, delay=delay, error=error)

    def reject_many(
        self,
        messages: Sequence[Message],
        reason: str = "",
        error: BaseException | Mapping[str, Any] | str | None = None,
    ) -> AckReceipt:
        """These can never succeed: to the dead letters at once."""
        args: dict[str, Any] = {"reason": reason} if reason else {}
        if error is not None:
            args["error"] = pack_error(error)
        return self._settle("reject", messages, args)

    def release_many(self, messages: Sequence[Message]) -> AckReceipt:
        """Give these back unworked: no failure is counted."""
        return self._settle("release", messages, {})

    def complete(self, message: Message, result: Any = None) -> AckReceipt:
        """Done, with a result (a msgpack value, numpy arrays included), in one step."""
        return self.complete_many([message], [result])

    def complete_many(self, messages: Sequence[Message], results: Sequence[Any]) -> AckReceipt:
        """Done, each with its result. Raises InvalidArgument for results that cannot travel; then nothing is done."""
        return self.complete_packed_many(messages, [values.pack(result) for result in results])

    def complete_packed_many(self, messages: Sequence[Message], results: Sequence[bytes]) -> AckReceipt:
        """As `complete_many`, with results that are packed already (`penstock.peers.values.pack`)."""
        if len(messages) != len(results):
            raise InvalidArgument(f"{len(results)} results for {len(messages)} messages", "give one for each")
        if (longest := max(map(len, results), default=0)) > self._connection.session.max_message:
            raise TooLarge(f"a result of {longest} bytes", f"at most {self._connection.session.max_message}")
        return self._settle("complete", messages, {}, results)

    def extend(self, message: Message, duration: float | str) -> AckReceipt:
        """Let the lease of this message, and of all that came in the same delivery, end `duration` from now."""
        self._check()
        delivery = message._delivery
        settlement = Settlement("extend", delivery.lease, {})
        if delivery.lost_why:
            settlement.end(delivery.why_lost(message._index))
            return AckReceipt(self, [settlement])
        args = {"leases": [delivery.lease], "lease_ms": duration_ms(duration, "duration")}
        with self._lock:
            self._connection.ask(
                Request("extend", args, counted=True, then=lambda r: self._extended(r, settlement, delivery))
            )
        return AckReceipt(self, [settlement])

    def flush(self, timeout: float | str | None = None) -> None:
        """Return once all that was acknowledged is durable. `timeout` in seconds or as text.

        Raises Timeout, and LeaseLost if messages were lost since the last flush and no receipt has told so.
        """
        timeout_s = None if timeout is None else duration_ms(timeout, "timeout") / 1000
        self._connection.check()
        with self._lock:
            self._push()
            ready = self._connection.wait(lambda: not self._acks.flying and not self._acks.gathered, timeout_s)
        wait_or_raise(ready, timeout_s, f"flushing the consumer of {self.queue!r}")
        self._raise_lost()

    def close(self) -> None:
        """Give back what was prefetched and not received, flush, then end. Raises what `flush` raises; it ends in any case.

        Messages in hand that are not settled stay leased until their lease ends, or until the client is closed.
        """
        if self._closed:
            return
        with self._lock:
            self._closed = True
            for delivery in self._buffer:
                self._give_back(delivery)
            self._buffer.clear()
            self._buffered = 0
            self._connection.timers.remove(self)
            self._connection.on_session_lost.remove(self._session_lost)
            self._connection.notify()
        if self._connection.dead is None:
            self.flush()

    @property
    def closed(self) -> bool:
        """Has it been closed?"""
        return self._closed

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except PenstockError as fault:
            if error is None:
                raise
            # The error under way is the better story; this one must not hide it.
            log.warning("closing the consumer of %r: %s", self.queue, fault)

    # -- pulling; the lock is held ---------------------------------------------------------------------------------

    def _wait_for_messages(self, limit: int, timeout_s: float | None) -> None:
        if self._error is not None and self._error.retryable:
            self._error = None  # that was then
        if self._prefetch:
            self._pull_if_low()
        elif not self._asked:
            self._pull(limit, PARK_MS if timeout_s is None else min(PARK_MS, round(timeout_s * 1000)))
        self._connection.wait(
            lambda: self._buffered or self._stopped or self._closed or self._error is not None, timeout_s
        )
        if self._buffered:
            return
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        self._check()

    def _take(self, limit: int) -> list[Message]:
        messages: list[Message] = []
        buffer = self._buffer
        while limit and buffer:
            delivery = buffer[0]
            first = delivery.taken
            some = delivery.messages[first : first + limit]
            delivery.taken += len(some)
            limit -= len(some)
            messages = messages + some if messages else some
            if delivery.taken == len(delivery.messages):
                buffer.popleft()
        self._buffered -= len(messages)
        return messages

    def _pull_if_low(self) -> None:
        here = self._buffered + self._asked
        if here <= self._prefetch // 2 and self._prefetch and not self._closed and self._error is None:
            self._pull(self._prefetch - here, PARK_MS)

    def _pull(self, credit: int, wait_ms: int) -> None:
        # Acks first: they make room, and the daemon takes both in one turn.
        self._push()
        credit = min(credit, self._connection.session.max_batch)
        self._asked += credit
        asked_ms = self._connection.now_ms()
        args = {
            "queue": self.queue,
            "group": self.group,
            "messages": credit,
            "lease_ms": self._lease_ms,
            "wait_ms": wait_ms,
        }
        self._connection.ask(
            Request("pull", args, wait_ms=wait_ms, then=lambda request: self._pulled(request, credit, asked_ms))
        )

    def _pulled(self, request: Request, credit: int, asked_ms: int) -> None:
        self._asked -= credit
        if request.error is not None:
            self._error = request.error
        elif request.body.get("lease") is None:
            if self._connection.now_ms() - asked_ms >= min(request.wait_ms // 2, PAUSE_MS):
                self._pull_if_low()
            else:
                self._pull_ms = self._set_due(self._connection.now_ms() + PAUSE_MS)
        elif self._closed:
            self._acks.add("release", request.body["lease"], {}, [(r[0], r[1]) for r in request.body["ranges"]])
            self._leave_if_due()
        else:
            delivery = Delivery(self, request.body, request.data or b"")
            self._open[delivery.lease] = delivery
            self._buffer.append(delivery)
            self._buffered += len(delivery.messages)
            if self._renew and self._renew_ms == NEVER_MS:
                self._renew_ms = self._set_due(self._connection.now_ms() + self._lease_ms // 3)
            self._pull_if_low()

    # -- leases; the lock is held ----------------------------------------------------------------------------------

    def _set_due(self, at_ms: int) -> int:
        if at_ms < self.due_ms:
            self.due_ms = at_ms
            self._connection.hurry(at_ms)
        return at_ms

    def tick(self, now_ms: int) -> None:
        """Renew leases, or pull again after a pause."""
        if now_ms >= self._pull_ms:
            self._pull_ms = NEVER_MS
            self._pull_if_low()
        if now_ms >= self._renew_ms:
            self._renew_ms = NEVER_MS
            if self._open:
                self._renew_ms = now_ms + max(1, self._lease_ms // 3)
                args = {"leases": list(self._open), "lease_ms": self._lease_ms}
                self._connection.ask(Request("extend", args, counted=True, then=self._renewed))
        self.due_ms = min(self._pull_ms, self._renew_ms)

    def _renewed(self, request: Request) -> None:
        if request.error is not None:
            log.warning("the leases of %r could not be renewed: %s", self.queue, request.error)
        for lease in request.body.get("lost", ()):
            if (delivery := self._open.get(lease)) is not None:
                self._lose(delivery, "its lease has ended")

    def _extended(self, request: Request, settlement: Settlement, delivery: Delivery) -> None:
        if request.error is None and delivery.lease in request.body["lost"]:
            error = delivery.why_lost(0)
            self._lose(delivery, "its lease has ended")
            settlement.end(error)
        else:
            settlement.end(request.error)

    def _session_lost(self) -> None:
        for delivery in list(self._open.values()):
            self._lose(delivery, "the session has ended, and its leases with it")

    def _lose(self, delivery: Delivery, why: str) -> None:
        """The lease is gone. What nobody has received is dropped; what is in hand counts as lost."""
        if self._open.pop(delivery.lease, None) is None or delivery.lost_why:
            return
        delivery.lost_why = why
        in_hand = delivery.settled.count(0, 0, delivery.taken)
        if delivery.taken < len(delivery.settled):
            self._buffered -= len(delivery.settled) - delivery.taken
            self._buffer.remove(delivery)
        if in_hand:
            self._note_lost(in_hand, delivery.why_lost(0))
        self._pull_if_low()

    def _note_lost(self, count: int, error: LeaseLost) -> None:
        self.lost += count
        self._lost_error = self._lost_error or error
        log.warning("%d messages in hand were lost: %s", count, error)

    # -- acknowledgements ------------------------------------------------------------------------------------------

    def _settle(
        self, op: str, messages: Sequence[Message], args: Mapping[str, Any], bodies: Sequence[bytes] | None = None
    ) -> AckReceipt:
        self._check()
        settlements: list[Settlement] = []
        with self._lock:
            at = 0
            for delivery, first, end in runs_of(messages):
                if delivery.consumer is not self:
                    raise InvalidArgument("this message came from another consumer", "settle it where it was received")
                settled = 0
                for start, stop in delivery.settle(first, end):
                    settled += stop - start
                    mine = None if bodies is None else bodies[at + start - first : at + stop - first]
                    settlements += self._gather(op, delivery, start, stop, args, mine)
                if settled < end - first:
                    failed = Settlement(op, delivery.lease, args)
                    failed.end(delivery.why_lost(first))
                    settlements.append(failed)
                if delivery.left == 0:
                    self._open.pop(delivery.lease, None)
                at += end - first
            self._leave_if_due()
        return AckReceipt(self, settlements)

    def _gather(
        self,
        op: str,
        delivery: Delivery,
        first: int,
        end: int,
        args: Mapping[str, Any],
        bodies: Sequence[bytes] | None,
    ) -> list[Settlement]:
        add, lease = self._acks.add, delivery.lease
        if bodies is None or sum(map(len, bodies)) < GATHER_BYTES:
            return [add(op, lease, args, delivery.offsets(first, end), bodies)]
        # Large results travel in several requests: one would be more than the daemon takes.
        return [
            add(op, lease, args, delivery.offsets(first + i, first + i + 1), [body]) for i, body in enumerate(bodies)
        ]

    def _push(self) -> None:
        """What was gathered leaves now. The lock is held."""
        if self._acks.gathered:
            for settlement in self._acks.take():
                self._send(settlement)

    def _leave_if_due(self) -> None:
        if self._acks.due():
            self._push()

    def _send(self, settlement: Settlement) -> None:
        payload = None if settlement.bodies is None else wire.pack_payload(settlement.bodies)
        self._connection.ask(
            Request(
                settlement.op,
                settlement.request_args(),
                payload,
                counted=True,
                then=lambda request: self._answered(settlement, request.error),
            )
        )

    def _answered(self, settlement: Settlement, error: PenstockError | None) -> None:
        if isinstance(error, LeaseLost) and settlement.count > 1 and settlement.op != "release":
            # One message that was taken away (a job that was cancelled) fails them all: find the others' way through.
            self._split(settlement)
            return
        self._acks.flying -= 1
        self._end(settlement, error)

    def _end(self, settlement: Settlement, error: PenstockError | None) -> None:
        if error is not None and settlement.op != "release":
            self._untold.append(settlement)
            if isinstance(error, (LeaseLost, SessionExpired)):
                self.lost += settlement.count
            log.warning("%s of %d messages of %r failed: %s", settlement.op, settlement.count, self.queue, error)
        settlement.end(error)
        self._leave_if_due()

    def _split(self, settlement: Settlement) -> None:
        if settlement.parent is not None:
            self._send_halves(settlement)
            return
        # If the lease is gone, halving would only ask the same question a thousand times.
        args = {"leases": [settlement.lease], "lease_ms": self._lease_ms}

        def probed(request: Request) -> None:
            if request.error is None and not request.body["lost"]:
                self._send_halves(settlement)
                return
            self._acks.flying -= 1
            self._end(settlement, LeaseLost(f"the lease of {settlement.count} messages of {self.queue!r} has ended"))

        self._connection.ask(Request("extend", args, counted=True, then=probed))

    def _send_halves(self, settlement: Settlement) -> None:
        self._acks.flying += 1
        for half in settlement.halves():
            self._send(half)

    def _give_back(self, delivery: Delivery) -> None:
        end = len(delivery.messages)
        ranges = delivery.offsets(delivery.taken, end)
        delivery.settle(delivery.taken, end)
        self._acks.add("release", delivery.lease, {}, ranges)

    def _raise_lost(self) -> None:
        with self._lock:
            untold, self._untold = [s for s in self._untold if not s.root.told], []
            error: PenstockError | None = self._lost_error
            self._lost_error = None
        if error is None and untold and (first := untold[0].error) is not None:
            count = sum(settlement.count for settlement in untold)
            error = type(first)(f"{count} messages of {self.queue!r} could not be settled: {first.message}", first.hint)
        if error is not None:
            raise error

    # -- for receipts ----------------------------------------------------------------------------------------------

    def wait_for(self, ready: Callable[[], object], timeout_s: float | None) -> bool:
        """Have what was gathered leave now and wait until `ready()`. For receipts."""
        self._connection.check()
        with self._lock:
            self._push()
            return self._connection.wait(ready, timeout_s)

    def _check(self) -> None:
        self._connection.check()
        if self._closed:
            raise Closed(f"the consumer of {self.queue!r} is closed", "make a new one")
