"""Where a pool's jobs come from and their outcomes go to: a queue, behind a few verbs."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from ..client import AckReceipt, Client, Consumer, Message
from ..peers.errors import LeaseLost, PenstockError
from ..peers.errors import Timeout as TimedOut
from .frames import unpack

TASK = "penstock-task"  # the header that names the task of a job, where a queue has several


class Confirmed(NamedTuple):
    """What the broker said since the last time: jobs completed for good; jobs that were not ours any more."""

    done: int = 0
    lost: int = 0


class Source(Protocol):
    """`take` is called by one thread, everything else by another. A message is whatever `take` gave."""

    def take(self, count: int, timeout_s: float) -> Sequence[Any]:
        """Lease up to `count` jobs; wait for the first at most `timeout_s`."""

    def task_of(self, message: Any) -> str | None:
        """The task that the job names, if it names one."""

    def complete(self, messages: Sequence[Any], results: Sequence[bytes]) -> None:
        """These jobs are done. Returns at once: `confirm` tells how it went."""

    def fail(self, messages: Sequence[Any], errors: Sequence[bytes]) -> None:
        """These jobs failed, with a packed error each: that counts, and they may be tried again."""

    def reject(self, message: Any, reason: str, error: bytes) -> None:
        """This job can never succeed: to the dead letters with it."""

    def release(self, messages: Sequence[Any]) -> None:
        """Give jobs back that did not fail by themselves."""

    def confirm(self, timeout_s: float = 0.0) -> Confirmed:
        """Hear what became of completions; wait up to `timeout_s` for the oldest open one."""

    def open(self) -> int:
        """How many completions are not confirmed yet."""

    def close(self) -> None:
        """Give back what is still held, and send what was said."""


class _Sent(NamedTuple):
    receipt: AckReceipt
    messages: Sequence[Message]
    results: Sequence[bytes]


class BrokerSource:
    """A queue of a Penstock daemon."""

    def __init__(self, client: Client, queue: str, lease: float | str, prefetch: int) -> None:
        self._client = client
        self._queue = queue
        self._lease = lease
        self._prefetch = prefetch
        self._consumer: Consumer | None = None
        self._sent: deque[_Sent] = deque()

    def take(self, count: int, timeout_s: float) -> Sequence[Message]:
        if (
            self._consumer is None
        ):  # only now: from here on jobs are leased to us, so somebody must be there to run them
            self._consumer = self._client.consumer(self._queue, lease=self._lease, prefetch=self._prefetch, renew=True)
        return self._consumer.receive_many(count, timeout=timeout_s)

    def task_of(self, message: Message) -> str | None:
        name = message.all_headers.get(TASK)
        return None if name is None else str(name)

    def complete(self, messages: Sequence[Message], results: Sequence[bytes]) -> None:
        self._send(messages, results)

    def fail(self, messages: Sequence[Message], errors: Sequence[bytes]) -> None:
        for message, error in zip(messages, errors, strict=True):
            with suppress(LeaseLost):  # a job that is not ours any more needs nothing from us
                message.nack(error=unpack(error))

    def reject(self, message: Message, reason: str, error: bytes) -> None:
        with suppress(LeaseLost):
            message.reject(reason, error=unpack(error))

    def release(self, messages: Sequence[Message]) -> None:
        for message in messages:
            with suppress(LeaseLost):
                message.release()

    def confirm(self, timeout_s: float = 0.0) -> Confirmed:
        done = lost = 0
        while self._sent and (timeout_s > 0 or self._sent[0].receipt.done()):
            receipt, messages, results = self._sent[0]
            try:
                receipt.wait(timeout_s)
                done += len(messages)
            except TimedOut:
                if not receipt.done():
                    break
                lost += len(messages)
            except LeaseLost:
                lost += self._halve(messages, results)
            except PenstockError as error:
                sys.stderr.write(f"penstock pool: {len(messages)} results were refused: {error.code}: {error}\n")
                lost += len(messages)
            self._sent.popleft()
        return Confirmed(done, lost)

    def open(self) -> int:
        return sum(len(sent.messages) for sent in self._sent)

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def _send(self, messages: Sequence[Message], results: Sequence[bytes]) -> int:
        """How many are known to be lost at once."""
        assert self._consumer is not None
        try:
            self._sent.append(_Sent(self._consumer.complete_packed_many(messages, results), messages, results))
        except LeaseLost:
            return self._halve(messages, results)
        return 0

    def _halve(self, messages: Sequence[Message], results: Sequence[bytes]) -> int:
        """A completion is all or nothing: one cancelled job must not take the results of its neighbours with it."""
        if len(messages) == 1:
            return 1
        half = len(messages) // 2
        return self._send(messages[:half], results[:half]) + self._send(messages[half:], results[half:])
