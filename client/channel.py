"""What the client, its producers, consumers and jobs ask over, whoever waits for the answers.

`Connection` has a thread wait, `AsyncConnection` an event loop. Everything below `run` is the same for both: it asks,
sets timers and is told of answers, and never waits.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from ..peers.errors import Closed, InvalidArgument, PenstockError
from .infos import Staleness
from .pump import Pump
from .requests import Request
from .session import Session, State
from .steps import Steps, Wait

CALL_SLACK_MS = 30_000  # how much longer than `retry_for` a call waits for a daemon that is there and does not answer
BYE_S = 2.0

Consistency = Literal["primary", "local"]


class Channel(ABC):
    """Requests and timers over one session. Hold `lock` where a method says so."""

    def __init__(self, endpoints: Sequence[str], hello: Mapping[str, Any], retry_for_ms: int) -> None:
        self.lock = threading.RLock()
        self.dead: PenstockError | None = None
        self.retry_for_ms = retry_for_ms
        self.staleness: Staleness | None = None  # of the latest answer, where a node answers from its own copy
        self.session = Session(endpoints, hello, retry_for_ms, random.Random(), self.now_ms())
        self._endpoints, self._hello = list(endpoints), dict(hello)
        self._local: Self | None = None
        self._work = Pump(self.session)
        self.timers, self.on_session_lost = self._work.timers, self._work.on_session_lost
        _channels.add(self)

    @staticmethod
    def now_ms() -> int:
        """The clock of requests and timers."""
        return time.monotonic_ns() // 1_000_000

    # -- asking ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def ask(self, request: Request) -> None:
        """Send a request; do not wait. The lock is held."""

    @abstractmethod
    def listen(self) -> None:
        """Hear what has come, if that is not seen to anyway. The lock is held."""

    @abstractmethod
    def end_wait(self, request: Request) -> None:
        """Have a parked request answered now. The lock is held."""

    @abstractmethod
    def hurry(self, at_ms: int) -> None:
        """Have the timers looked at no later than this. The lock is held."""

    @abstractmethod
    def notify(self) -> None:
        """Have everybody who waits look at what they wait for. The lock is held."""

    def tell(self, request: Request) -> None:
        """Ask, and wait for nothing. Not with the lock held."""
        self.check()
        with self.lock:
            self.ask(request)

    def check(self) -> None:
        """Raises Closed if the client is closed or was made before a fork."""
        if self.dead is not None:
            raise self.dead

    @property
    def stands(self) -> bool:
        """Is there a daemon that hears us, as far as is known?"""
        return self.session.state is State.READY

    def _limit(self, request: Request) -> None:
        """Somebody waits for it: not for ever."""
        limit_ms = self.now_ms() + request.wait_ms + self.retry_for_ms + CALL_SLACK_MS
        request.deadline_ms = limit_ms if request.deadline_ms is None else min(request.deadline_ms, limit_ms)

    def _read(self, request: Request) -> Request:
        """Look at an answer that somebody waited for. Raises its error."""
        if request.error is not None:
            raise request.error
        if "lag_ms" in request.body:
            self.staleness = Staleness(request.body["applied"], request.body["lag_ms"])
        return request

    # -- local reads -----------------------------------------------------------------------------------------------

    def local(self) -> Self:
        """One over which whichever node is reached answers reads from its own copy. Not with the lock held."""
        self.check()
        if self.session.read_only:
            return self
        with self.lock:
            if self._local is None:
                self._local = type(self)(self._endpoints, {**self._hello, "read_only": True}, self.retry_for_ms)
            return self._local

    def reader(self, consistency: Consistency) -> Self:
        """Over which one to read. Raises InvalidArgument."""
        if consistency not in ("primary", "local"):
            raise InvalidArgument(f"consistency is {consistency!r}", 'give "primary" or "local"')
        return self if consistency == "primary" else self.local()

    @property
    def last_staleness(self) -> Staleness | None:
        """That of the latest local read. None: there was none."""
        return self.staleness if self._local is None else self._local.staleness

    # -- the end ---------------------------------------------------------------------------------------------------

    def bye(self) -> Steps[None]:
        """End the session, if a daemon is there to hear it."""
        if self.dead is None and self.stands and not self.session.read_only:
            request = Request("bye", {}, counted=True)
            self.tell(request)
            yield Wait(lambda: request.done, BYE_S)

    @abstractmethod
    def end(self) -> None:
        """Fail what is unanswered with Closed, and disconnect. Not with the lock held. Twice does nothing."""

    def forked(self) -> None:
        """This is the child of a fork: the sockets and whoever listens to them are the parent's."""
        self.dead = Closed("this client was made in the parent process", "connect again after the fork")


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for channel in list(_channels):
        channel.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
