"""A consumer: leases messages ahead of the application, keeps the leases alive, and acknowledges in ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from ..peers import values
from ..peers.errors import Closed, InvalidArgument, TooLarge, shown
from ..peers.units import Duration, duration_ms
from . import calls
from .acks import Settlement
from .channel import Channel
from .closing import Closing
from .delivery import Delivery, runs_of
from .failures import pack_error, reason_of
from .intake import Intake
from .message import BaseMessage, Message
from .receipt import AckReceipt, BaseAckReceipt, wait_or_raise
from .settler import Settler, checked_outputs
from .several import several
from .steps import Deadline, Steps, Wait
from .waiting import Waiting

M = TypeVar("M", bound=BaseMessage)
R = TypeVar("R", bound=BaseAckReceipt)


class BaseConsumer(Generic[M, R]):
    """Messages of one consumer, from their pull to their settlement, and the steps of what it waits for."""

    MESSAGE: type[M]
    RECEIPT: type[R]

    def __init__(
        self,
        connection: Channel,
        queue: str,
        *,
        group: str = "",
        lease: Duration = 30.0,
        prefetch: int = 1000,
        renew: bool = True,
    ) -> None:
        if not isinstance(prefetch, int) or isinstance(prefetch, bool) or prefetch < 0:
            raise InvalidArgument(f"prefetch is {prefetch!r}", "give a number of messages, 0 or more")
        lease_ms = duration_ms(lease, "lease")
        if lease_ms == 0:
            raise InvalidArgument(f"lease is {lease!r}", "give a time in which a message can be worked")
        self.queue = queue
        self.group = group
        self.on_cancelled: Callable[[Any], None] | None = None  # see there
        self._connection: Any = connection
        self._lock = connection.lock
        self._stopped = False
        self._closed = False
        self._settler = Settler(connection, queue, lease_ms, self._lose_lease)
        pull = {"queue": queue, "group": group, "lease_ms": lease_ms}
        self._intake = Intake(self, connection, self._settler, pull, prefetch, renew)

    @property
    def lost(self) -> int:
        """How many messages were lost since the consumer was made: their lease ended before they were settled."""
        return self._intake.lost + self._settler.lost

    def stop(self) -> None:
        """End iterations and waiting receives. May be called from other threads and from signal handlers."""
        self._stopped = True
        with self._lock:
            self._connection.notify()

    @property
    def closed(self) -> bool:
        """Has it been closed?"""
        return self._closed

    def _name(self) -> str:
        return f"the consumer of {self.queue!r}"

    def note_cancelled(self, first: int, count: int) -> None:
        """Take it that the jobs at these offsets were cancelled, as a "job.cancelled" event of the queue tells: sooner
        than the renewal of a lease does. What was not settled of them never will be: the daemon has ended them."""
        with self._lock:
            for delivery in list(self._intake.open.values()):
                self.cancel(delivery, first, count)

    def retire(self) -> None:
        """Receive no more, and give back what was prefetched; what that comes to, `_close` waits for."""
        with self._lock:
            self._closed = True
            self._intake.close()
            self._connection.notify()

    # -- steps -----------------------------------------------------------------------------------------------------

    def _receive_many(self, limit: int, timeout: Duration | None) -> Steps[list[M]]:
        deadline = Deadline(timeout)
        while True:
            yield from self._intake.wait(limit, deadline, lambda: self._stopped or self._closed)
            self._check()
            with self._lock:
                messages = self._take(limit)
            # Others who receive from here may have been faster.
            if messages or deadline.over or self._stopped:
                return messages

    def _receive(self, timeout: Duration | None) -> Steps[M | None]:
        messages = yield from self._receive_many(1, timeout)
        return messages[0] if messages else None

    def _size(self) -> Steps[int]:
        self._check()
        info = yield from calls.describe_group(self.queue, self.group)
        return info.ready + info.delayed + info.waiting + self._intake.buffered

    def settle_until(self, ready: Callable[[], object], timeout_s: float | None) -> Steps[bool]:
        """Have what was gathered leave now and wait until `ready()`. For receipts."""
        self._connection.check()
        with self._lock:
            self._settler.push()
        in_time: bool = yield Wait(ready, timeout_s)
        return in_time

    def _flush(self, timeout: Duration | None) -> Steps[None]:
        timeout_s = Deadline(timeout).timeout_s
        ready = yield from self.settle_until(lambda: self._settler.idle, timeout_s)
        wait_or_raise(ready, timeout_s, f"flushing {self._name()}")
        with self._lock:
            intake = self._intake
            lost, intake.lost_error = intake.lost_error, None
            error = self._settler.refusal() or lost
        if error is not None:
            raise error

    def _close(self) -> Steps[None]:
        if self._closed:
            return
        self.retire()
        if self._connection.dead is None:
            yield Wait(lambda: not self._intake.pulling)
        if self._connection.dead is None:
            yield from self._flush(None)

    # -- receiving -------------------------------------------------------------------------------------------------

    def _take(self, limit: int) -> list[M]:
        """What is here. The lock is held."""
        messages = self._intake.take(limit)
        # Before the application works on these: so the network overlaps with the work.
        self._intake.pull_if_low()
        return messages

    # -- settling --------------------------------------------------------------------------------------------------

    def _tell(self, message: BaseMessage, op: str, args: Mapping[str, Any]) -> R:
        self._check()
        with self._lock:
            self._check_mine(message._delivery)
            return self.RECEIPT(self, [self._settler.tell(message, op, args)])

    def _check_mine(self, delivery: Delivery) -> None:
        if delivery.consumer is not self:
            raise InvalidArgument("this message came from another consumer", "settle it where it was received")

    # -- for deliveries --------------------------------------------------------------------------------------------

    def keep(self, delivery: Delivery) -> None:
        """What it brought is in hand again. The lock is held."""
        self._intake.open[delivery.lease] = delivery

    def cancel(self, delivery: Delivery, first: int, count: int) -> None:
        """Note that jobs of it were cancelled. The lock is held."""
        for message in delivery.cancel(first, count):
            if self.on_cancelled is not None:
                self.on_cancelled(message)
        if delivery.left == 0:
            self._intake.drop(delivery)

    def lose(self, delivery: Delivery) -> None:
        """Note that its lease has ended. The lock is held."""
        self._intake.lose(delivery, "its lease has ended")

    def _lose_lease(self, lease: int) -> None:
        if (delivery := self._intake.open.get(lease)) is not None:
            self.lose(delivery)

    def _settle(
        self, op: str, messages: Sequence[BaseMessage], args: Mapping[str, Any], bodies: Sequence[bytes] | None = None
    ) -> R:
        self._check()
        messages = several(messages, "messages", "messages")
        settlements: list[Settlement] = []
        settler, leases = self._settler, self._intake.open
        with self._lock:
            at = 0
            for run in runs_of(messages):
                delivery, first, end = run
                self._check_mine(delivery)
                count = end - first
                settlements += settler.settle(op, run, args, None if bodies is None else bodies[at : at + count])
                if delivery.left == 0:
                    leases.pop(delivery.lease, None)
                at += count
            settler.push_if_due()
        return self.RECEIPT(self, settlements)

    def _check(self) -> None:
        self._connection.check()
        if self._closed:
            raise Closed(
                f"the consumer of {self.queue!r} is closed", "make a new one; what was peeked at must be received first"
            )


class Consumer(Waiting, BaseConsumer[Message, AckReceipt], Closing):
    """Receives messages of one queue, or of one group of a topic. Thread-safe: several threads may share the work.

    Made by `Client.consumer`; use it in a `with`, or close it. Up to `prefetch` messages are leased ahead. With
    `renew`, the leases of all messages in hand are extended in the background while the consumer lives.
    Acknowledgements return at once and travel together; their receipts, `flush` and `close` confirm them. `lost`
    counts messages whose lease ended before they were acknowledged. `on_cancelled` may be set to a function: it is
    called with a message in hand whose job was cancelled, when the daemon tells so (at the next renewal of its lease)
    or `note_cancelled` does, by whichever thread hears that: so it must neither wait nor ask anything, but set a flag.
    """

    MESSAGE = Message
    RECEIPT = AckReceipt
    on_cancelled: Callable[[Message], None] | None

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(self, timeout: Duration | None = None) -> Message | None:
        """The next message. None: nothing came within `timeout` (a duration; None waits for ever), or `stop` was
        called.

        It comes back to the queue unless you settle it before its lease ends. Raises NotFound if the queue is gone,
        PermissionDenied without the right to pull, Timeout if no daemon answers for `retry_for`, Closed.
        """
        if timeout is not None:
            duration_ms(timeout, "timeout")
        self._check()
        with self._lock:
            if self._intake.buffered:
                return self._take(1)[0]
        return self._run(self._receive(timeout))

    def receive_many(self, limit: int, timeout: Duration | None = None) -> list[Message]:
        """At least one and at most `limit` messages, in order; [] if nothing came within `timeout`. As `receive`."""
        if limit < 1:
            raise InvalidArgument(f"limit is {limit!r}", "receive at least one message")
        if timeout is not None:
            duration_ms(timeout, "timeout")
        self._check()
        with self._lock:
            if self._intake.buffered:
                return self._take(limit)
        return self._run(self._receive_many(limit, timeout))

    def __iter__(self) -> Iterator[Message]:
        """Messages until `stop` is called."""
        while not self._stopped:
            message = self.receive()
            if message is not None:
                yield message

    def size(self) -> int:
        """How many messages wait: for this group at the daemon (ready, delayed, or waiting for their parents), and
        here, received by nobody."""
        return self._run(self._size())

    # -- settling --------------------------------------------------------------------------------------------------

    def ack(self, message: BaseMessage) -> AckReceipt:
        """Done: the message is gone for good."""
        return self._settle("ack", [message], {})

    def ack_many(self, messages: Sequence[BaseMessage]) -> AckReceipt:
        """Done: these are gone for good. Fastest with messages in the order they were received in."""
        return self._settle("ack", messages, {})

    def nack_many(
        self,
        messages: Sequence[BaseMessage],
        delay: Duration | None = None,
        error: BaseException | Mapping[str, Any] | str | None = None,
    ) -> AckReceipt:
        """These failed: give them back, to be tried again after `delay` (default: the queue's retry_delay).

        After the queue's max_failures they go to the dead letters, with `error` as the job's error.
        """
        args: dict[str, Any] = {}
        if delay is not None:
            args["delay_ms"] = duration_ms(delay, "delay")
        if error is not None:
            args |= {"error": pack_error(error), "reason": reason_of(error)}
        return self._settle("nack", messages, args)

    def fail_many(
        self,
        messages: Sequence[BaseMessage],
        error: BaseException | Mapping[str, Any] | str,
        delay: Duration | None = None,
    ) -> AckReceipt:
        """`nack_many` for jobs: `error` is an exception, a text, or a map of type, message, traceback and rank."""
        return self.nack_many(messages, delay=delay, error=error)

    def reject_many(
        self,
        messages: Sequence[BaseMessage],
        reason: str = "",
        error: BaseException | Mapping[str, Any] | str | None = None,
    ) -> AckReceipt:
        """These can never succeed: to the dead letters at once. Without a `reason`, the error is the reason."""
        args: dict[str, Any] = {"reason": reason} if reason else {}
        if error is not None:
            args["error"] = pack_error(error)
            args["error_text" if reason else "reason"] = reason_of(error)
        return self._settle("reject", messages, args)

    def release_many(self, messages: Sequence[BaseMessage]) -> AckReceipt:
        """Give these back unworked: no failure is counted."""
        return self._settle("release", messages, {})

    def complete(
        self, message: BaseMessage, result: Any = None, outputs: Mapping[str, Sequence[bytes]] | None = None
    ) -> AckReceipt:
        """Done, with a result (a msgpack value, numpy arrays included), in one step.

        `outputs`: bodies to append to other queues or topics, in that same step: all of it is done, or none. The
        receipt raises QueueFull or NotFound if one of them cannot take its part; then the message is still in hand.
        """
        if not outputs:
            return self.complete_many([message], [result])
        self._check()
        packed, outputs = values.pack(result), checked_outputs(outputs)
        with self._lock:
            self._check_mine(message._delivery)
            return self.RECEIPT(self, [self._settler.complete_with(message, packed, outputs)])

    def progress(self, message: BaseMessage, fraction: float, text: str = "") -> AckReceipt:
        """Tell how far the job is: a fraction, 0 to 1, and a text of at most 500 characters. Raises InvalidArgument."""
        if not isinstance(text, str):
            raise InvalidArgument(f"text is {shown(text)}", "give a text")
        if not isinstance(fraction, (int, float)) or isinstance(fraction, bool) or not 0 <= fraction <= 1:
            raise InvalidArgument(f"fraction is {fraction!r}", "give a number from 0 to 1")
        return self._tell(message, "job_progress", {"progress": float(fraction), "text": text[:500]})

    def log(self, message: BaseMessage, *lines: str) -> AckReceipt:
        """Add lines to the log of the job, which keeps the latest 1000 of them, up to 64 KiB."""
        return self._tell(message, "job_log", {"lines": list(lines)})

    def complete_many(self, messages: Sequence[BaseMessage], results: Sequence[Any]) -> AckReceipt:
        """Done, each with its result. Raises InvalidArgument for results that cannot travel; then nothing is done."""
        packed = [values.pack(result) for result in several(results, "results", "one for each message")]
        return self.complete_packed_many(messages, packed)

    def complete_packed_many(self, messages: Sequence[BaseMessage], results: Sequence[bytes]) -> AckReceipt:
        """As `complete_many`, with results that are packed already (`penstock.peers.values.pack`)."""
        messages = several(messages, "messages", "messages")
        results = several(results, "results", "one for each message")
        if len(messages) != len(results):
            raise InvalidArgument(f"{len(results)} results for {len(messages)} messages", "give one for each")
        if (longest := max(map(len, results), default=0)) > self._connection.session.max_message:
            raise TooLarge(f"a result of {longest} bytes", f"at most {self._connection.session.max_message}")
        return self._settle("complete", messages, {}, results)

    def extend(self, message: BaseMessage, duration: Duration) -> AckReceipt:
        """Let the lease of this message, and of all that came in the same delivery, end `duration` from now."""
        self._check()
        lease_ms = duration_ms(duration, "duration")
        with self._lock:
            return self.RECEIPT(self, [self._settler.extend(message._delivery, lease_ms)])

    # -- the end ---------------------------------------------------------------------------------------------------

    def flush(self, timeout: Duration | None = None) -> None:
        """Return once all that was acknowledged is durable. `timeout` is a duration.

        Raises Timeout, and LeaseLost if messages were lost since the last flush and no receipt has told so.
        """
        return self._run(self._flush(timeout))

    def close(self) -> None:
        """Give back what was prefetched and not received, flush, then end. Raises what `flush` raises; it ends in any
        case.

        Messages in hand that are not settled stay leased until their lease ends, or until the client is closed.
        """
        return self._run(self._close())
