"""Where a pool's jobs come from and their outcomes go to: a queue, behind a few verbs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from ..client import AckReceipt, Client, Consumer, Message
from ..client.delivery import places_of
from ..client.headers import TASK, TIME_LIMIT
from ..peers.errors import LeaseLost, PenstockError, TooLarge
from ..peers.units import Duration
from .frames import unpack
from .notes import Notes
from .reports import Reports
from .watching import CancelWatch
from .words import Words


class Terms(NamedTuple):
    """The task that a job names (None: it names none), and its own time limit."""

    task: str | None
    time_limit_s: float | None


NO_TERMS = Terms(None, None)


class Source(Protocol):
    """`take` is called by one thread, everything else by another. A message is whatever `take` gave."""

    @property
    def result_max(self) -> int:
        """How many bytes a packed result may have."""

    def take(self, count: int, timeout_s: float) -> Sequence[Any]:
        """Lease up to `count` jobs; wait for the first at most `timeout_s`."""

    def terms_of(self, message: Any) -> Terms:
        """What the job asks for."""

    def notes_of(self, messages: Sequence[Any]) -> Notes:
        """What those who run these jobs may know of them."""

    def on_cancelled(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, by any thread, when there is something in `cancelled`."""

    def cancelled(self) -> Sequence[Any]:
        """Which jobs in hand were cancelled since the last call. They have ended: nothing need be said about them."""

    def tell(self, message: Any, words: Words) -> None:
        """Pass on what a running job tells. Returns at once, and what becomes of it is nobody's trouble."""

    def complete(self, messages: Sequence[Any], results: Sequence[bytes]) -> None:
        """These jobs are done. Returns at once: `confirm` tells how it went."""

    def fail(self, messages: Sequence[Any], errors: Sequence[bytes]) -> None:
        """These jobs failed, with a packed error each: that counts, and they may be tried again."""

    def reject(self, message: Any, reason: str, error: bytes) -> None:
        """This job can never succeed: to the dead letters with it."""

    def release(self, messages: Sequence[Any]) -> None:
        """Give jobs back that did not fail by themselves."""

    def confirm(self, timeout_s: float = 0.0) -> int:
        """How many jobs the broker has confirmed as completed since the last call.

        Those that were not ours any more (cancelled, or the lease was lost) do not count. With `timeout_s` it waits for
        the oldest open one.
        """

    def open(self) -> bool:
        """Are there completions that the broker has not answered yet, or words that wait for their turn?"""

    def close(self) -> None:
        """Give back what is still held, and send what was said."""


class _Sent(NamedTuple):
    receipt: AckReceipt
    jobs: int


class BrokerSource:
    """A queue of a Penstock daemon."""

    def __init__(self, client: Client, queue: str, lease: Duration) -> None:
        self._client = client
        self._queue = queue
        self._lease = lease
        self._opened: Consumer | None = None
        self._sent: deque[_Sent] = deque()
        self._lost = 0
        self._reports = Reports()
        self._cancelled: deque[Message] = deque()
        self._any_cancelled = False
        self._wake: Callable[[], None] | None = None
        self._watch: CancelWatch | None = None

    @property
    def result_max(self) -> int:
        return self._client.max_message

    def take(self, count: int, timeout_s: float) -> Sequence[Message]:
        if self._opened is None:  # only now: from here on jobs are leased, so somebody must be there to run them
            # Nothing is leased ahead: the pool knows how much its ranks can take.
            consumer = self._client.consumer(self._queue, lease=self._lease, prefetch=0, renew=True)
            consumer.on_cancelled = self._note_cancelled
            self._opened = consumer
            if self._wake is not None:
                self._watch = CancelWatch(self._client, consumer)
        return self._opened.receive_many(count, timeout=timeout_s)

    def terms_of(self, message: Message) -> Terms:
        headers = message.all_headers
        if not headers:
            return NO_TERMS
        name, limit_ms = headers.get(TASK), headers.get(TIME_LIMIT)
        limit_s = limit_ms / 1000 if isinstance(limit_ms, int) and limit_ms > 0 else None  # any client may write it
        return Terms(None if name is None else str(name), limit_s)

    def notes_of(self, messages: Sequence[Message]) -> Notes:
        return Notes(*places_of(messages))

    def on_cancelled(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def cancelled(self) -> Sequence[Message]:
        found = []
        while self._cancelled:
            found.append(self._cancelled.popleft())
        return found

    def tell(self, message: Message, words: Words) -> None:
        self._reports.tell(message, words)

    def complete(self, messages: Sequence[Message], results: Sequence[bytes]) -> None:
        self._reports.finish(messages)
        if self._any_cancelled:  # perhaps just now: their completion would be refused, and is none to count
            live = [place for place, message in enumerate(messages) if not message.cancelled]
            messages, results = [messages[place] for place in live], [results[place] for place in live]
            if not messages:
                return
        try:
            self._sent.append(_Sent(self._consumer.complete_packed_many(messages, results), len(messages)))
        except TooLarge:  # the ranks look at it too: the daemon takes less than when their world began
            self._complete_each(messages, results)

    def _complete_each(self, messages: Sequence[Message], results: Sequence[bytes]) -> None:
        for message, result in zip(messages, results, strict=True):
            try:
                self._sent.append(_Sent(self._consumer.complete_packed_many([message], [result]), 1))
            except TooLarge as fault:
                self._consumer.nack_many([message], error=fault)

    def fail(self, messages: Sequence[Message], errors: Sequence[bytes]) -> None:
        self._reports.finish(messages)
        for message, error in zip(messages, errors, strict=True):
            self._consumer.nack_many([message], error=unpack(error))

    def reject(self, message: Message, reason: str, error: bytes) -> None:
        self._reports.finish([message])
        self._consumer.reject_many([message], reason=reason, error=unpack(error))

    def release(self, messages: Sequence[Message]) -> None:
        if messages:
            self._consumer.release_many(messages)

    def confirm(self, timeout_s: float = 0.0) -> int:
        done = 0
        self._reports.pump()
        while self._sent and (timeout_s > 0 or self._sent[0].receipt.done()):
            receipt, jobs = self._sent[0]
            try:
                receipt.wait(timeout_s)
            except LeaseLost:
                pass  # what could be completed is: the consumer has halved the range, and counts the rest as lost
            except PenstockError:
                if not receipt.done():
                    break  # the time is over
                jobs = 0  # refused as a whole; the consumer has logged why
            self._sent.popleft()
            done += jobs
        if self._opened is not None and self._opened.lost != self._lost:
            done, self._lost = done - (self._opened.lost - self._lost), self._opened.lost
        return done

    def open(self) -> bool:
        return bool(self._sent) or self._reports.waiting

    def close(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        if self._opened is not None:
            with suppress(LeaseLost):  # jobs that are not ours any more need nothing from us
                self._opened.close()

    def _note_cancelled(self, message: Message) -> None:
        """Called under the client's lock, by any thread."""
        self._any_cancelled = True
        self._cancelled.append(message)
        if self._wake is not None:
            self._wake()

    @property
    def _consumer(self) -> Consumer:
        assert self._opened is not None, "nothing was taken yet"
        return self._opened
