"""The intake of a consumer: what is leased ahead, and the leases that are kept alive. All of it under the lock."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..peers.errors import LeaseLost, PenstockError
from .channel import Channel
from .delivery import Delivery
from .message import BaseMessage
from .requests import Request
from .steps import Deadline, Steps, Wait

if TYPE_CHECKING:
    from .consumer import BaseConsumer
    from .settler import Settler

PARK_MS = 20_000  # how long a pull waits at the daemon
PAUSE_MS = 200  # before the next pull, when the daemon answered one without a wait and without messages
ANSWER_S = 1.0  # how long to wait for the answer to a pull whose waiting was ended
NEVER_MS = 2**62

log = logging.getLogger("penstock")


class Intake:
    """Pulls so that `prefetch` messages are here or on their way, and extends the leases of what is in hand."""

    def __init__(
        self,
        consumer: BaseConsumer[Any, Any],
        connection: Channel,
        settler: Settler,
        pull: dict[str, Any],
        prefetch: int,
        renew: bool,
    ) -> None:
        self.due_ms = NEVER_MS
        self.buffered = 0  # messages that are here and that the application has not received
        self.open: dict[int, Delivery] = {}  # leases with messages that are not settled
        self.error: PenstockError | None = None  # why the last pull failed
        self.lost_error: LeaseLost | None = None  # why messages in hand were lost, the first time since the last flush
        self.lost = 0
        self._consumer = consumer
        self._connection = connection
        self._settler = settler
        self._pull_args = pull
        self._lease_ms: int = pull["lease_ms"]
        self._prefetch = prefetch
        self._renew = renew
        self._buffer: deque[Delivery] = deque()
        self._asked = 0  # messages that pulls on their way may bring
        self._pulls: set[Request] = set()  # on their way
        self._renew_ms = self._pull_ms = NEVER_MS
        self._receivers = 0  # how many wait without prefetch
        self._closed = False
        connection.timers.append(self)
        connection.on_session_lost.append(self._session_lost)

    # -- for the consumer ------------------------------------------------------------------------------------------

    def wait(self, limit: int, deadline: Deadline, stopped: Callable[[], bool]) -> Steps[None]:
        """Wait until there are messages, or `stopped`, or the time is over. Raises why the last pull failed."""
        if self.error is not None and self.error.retryable:
            self.error = None  # that was then

        def ready() -> bool:
            return bool(self.buffered) or self.error is not None or stopped()

        if self._prefetch:
            with self._connection.lock:
                self.pull_if_low()
            yield Wait(ready, deadline.left_s)
        else:
            yield from self._pull_until(ready, limit, deadline)
        if not self.buffered and self.error is not None:
            error, self.error = self.error, None
            raise error

    def _pull_until(self, ready: Callable[[], bool], limit: int, deadline: Deadline) -> Steps[None]:
        """Without prefetch, each waiting asks for itself, and asks again when nothing came: what is on its way may be
        the pull of an earlier waiting, which was shorter."""
        connection = self._connection
        self._receivers += 1
        try:
            while not ready():
                asked_ms, wait_ms = connection.now_ms(), deadline.wait_ms(PARK_MS)
                with connection.lock:
                    if not self._asked:
                        self._pull(limit, wait_ms)
                in_time = yield Wait(lambda: ready() or not self._asked, wait_ms / 1000)
                if in_time and not ready() and connection.now_ms() - asked_ms < min(wait_ms // 2, PAUSE_MS):
                    yield Wait(
                        ready, min(deadline.wait_ms(PARK_MS), PAUSE_MS) / 1000
                    )  # the daemon does not let us wait
                if deadline.over:
                    break
            if self._receivers == 1 and not ready():
                # The daemon's clock is not ours: it may go on waiting, or have sent something a moment ago.
                self._end_pulls()
                yield Wait(lambda: ready() or not self.pulling, ANSWER_S)
        finally:
            self._receivers -= 1
            if not self._receivers:
                self._end_pulls()  # also if whoever waited was interrupted: it would be in nobody's hand

    def take(self, limit: int) -> list[Any]:
        """The next messages that are here, at most `limit`."""
        messages: list[BaseMessage] = []
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
        self.buffered -= len(messages)
        return messages

    def pull_if_low(self) -> None:
        """Ask for more when half of what is wanted ahead is gone."""
        here = self.buffered + self._asked
        if here <= self._prefetch // 2 and self._prefetch and not self._closed and self.error is None:
            self._pull(self._prefetch - here, PARK_MS)

    def close(self) -> None:
        """Give back what nobody has received. Pulls on their way may still bring something: that too, then."""
        self._closed = True
        self._end_pulls()  # or the daemon would give it to them
        for delivery in self._buffer:
            end = len(delivery.messages)
            ranges = delivery.offsets(delivery.taken, end)
            delivery.settle(delivery.taken, end)
            self._settler.release(delivery.lease, ranges)
        self._buffer.clear()
        self.buffered = 0
        self._connection.timers.remove(self)
        self._connection.on_session_lost.remove(self._session_lost)

    def _end_pulls(self) -> None:
        with self._connection.lock:
            for pull in list(self._pulls):
                self._connection.end_wait(pull)

    @property
    def pulling(self) -> bool:
        """Is a pull on its way that the daemon is there to answer?"""
        return bool(self._pulls) and self._connection.stands

    # -- pulls -----------------------------------------------------------------------------------------------------

    def _pull(self, credit: int, wait_ms: int) -> None:
        # Acks first: they make room, and the daemon takes both in one turn.
        self._settler.push()
        credit = min(credit, self._connection.session.max_batch)
        self._asked += credit
        asked_ms = self._connection.now_ms()
        args = {**self._pull_args, "messages": credit, "wait_ms": wait_ms}
        pull = Request("pull", args, wait_ms=wait_ms, then=lambda request: self._pulled(request, credit, asked_ms))
        self._pulls.add(pull)
        self._connection.ask(pull)

    def _pulled(self, request: Request, credit: int, asked_ms: int) -> None:
        self._pulls.discard(request)
        self._asked -= credit
        if request.error is not None:
            self.error = request.error
        elif request.body["lease"] is None:
            now_ms = self._connection.now_ms()
            if now_ms - asked_ms >= min(request.wait_ms // 2, PAUSE_MS):
                self.pull_if_low()
            else:
                self._pull_ms = self._set_due(now_ms + PAUSE_MS)
        elif self._closed or not (self._prefetch or self._receivers):
            # Nobody waits for it any more: here its lease would be renewed for ever.
            self._settler.release(request.body["lease"], [(each[0], each[1]) for each in request.body["ranges"]])
        else:
            self._received(Delivery(self._consumer, request.body, request.data or b""))

    def _received(self, delivery: Delivery) -> None:
        self.open[delivery.lease] = delivery
        self._buffer.append(delivery)
        self.buffered += len(delivery.messages)
        if self._renew and self._renew_ms == NEVER_MS:
            self._renew_ms = self._set_due(self._connection.now_ms() + self._lease_ms // 3)
        self.pull_if_low()

    # -- leases ----------------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Renew leases, or pull again after a pause."""
        if now_ms >= self._pull_ms:
            self._pull_ms = NEVER_MS
            self.pull_if_low()
        if now_ms >= self._renew_ms:
            self._renew_ms = NEVER_MS
            if self.open:
                self._renew_ms = now_ms + max(1, self._lease_ms // 3)
                args = {"leases": list(self.open), "lease_ms": self._lease_ms}
                self._connection.ask(Request("extend", args, counted=True, then=self._renewed))
        self.due_ms = min(self._pull_ms, self._renew_ms)

    def lose(self, delivery: Delivery, why: str) -> None:
        """The lease is gone. What nobody has received is dropped; what is in hand counts as lost."""
        if self.open.pop(delivery.lease, None) is None:
            return
        delivery.lost_why = why
        in_hand = delivery.settled.count(0, 0, delivery.taken)
        if delivery.taken < len(delivery.settled):
            self.buffered -= len(delivery.settled) - delivery.taken
            self._buffer.remove(delivery)
        if in_hand:
            error = delivery.why_lost(0)
            self.lost += in_hand
            self.lost_error = self.lost_error or error
            log.warning("%d messages in hand were lost: %s", in_hand, error)
        self.pull_if_low()

    def drop(self, delivery: Delivery) -> None:
        """All of it is settled, perhaps before somebody received it: as jobs that were cancelled."""
        self.open.pop(delivery.lease, None)
        if delivery in self._buffer:
            self.buffered -= len(delivery.settled) - delivery.taken
            self._buffer.remove(delivery)

    def _set_due(self, at_ms: int) -> int:
        if at_ms < self.due_ms:
            self.due_ms = at_ms
            self._connection.hurry(at_ms)
        return at_ms

    def _renewed(self, request: Request) -> None:
        if request.error is not None:
            log.warning("the leases of %r could not be renewed: %s", self._consumer.queue, request.error)
        for lease, first, count in request.body.get("cancelled", ()):
            if (delivery := self.open.get(lease)) is not None:
                self._consumer.cancel(delivery, first, count)
        for lease in request.body.get("lost", ()):
            if (delivery := self.open.get(lease)) is not None:
                self.lose(delivery, "its lease has ended")

    def _session_lost(self) -> None:
        for delivery in list(self.open.values()):
            self.lose(delivery, "the session has ended, and its leases with it")
