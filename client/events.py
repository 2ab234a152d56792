"""What happens at the daemon, as a stream: where it is read, and the iterator around it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ..peers.errors import InvalidArgument
from ..peers.units import Duration
from .channel import Channel
from .requests import Request
from .steps import Deadline, Steps
from .waiting import Waiting

DROPPED = "events.dropped"
PARK_MS = 30_000  # how long the daemon holds a question before it says that nothing happened
EVENTS_MAX = 1_000  # in one answer


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, of a `type` as docs/protocol.md lists them, at `at` (seconds since 1970).

    `queue`: the queue or topic it is about, if any; `first`, `count`: which of its messages. `count` 0: it is not about
    messages; None (of "events.dropped" only: what happened then was told and is gone): nobody knows. `cursor`: give it
    as `after`, to watch what came later. `more`: what else there is to say, by type.
    """

    type: str
    at: float
    cursor: str
    queue: str | None = None
    first: int = 0
    count: int | None = 0
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Event:
        more = dict(body)
        type, at, cursor = more.pop("type"), more.pop("at_ms") / 1000, more.pop("cursor")
        del more["index"]
        return cls(type, at, cursor, more.pop("queue", None), more.pop("first", 0), more.pop("count", 0), more)


class Stream:
    """The place in the stream of events up to which it was read: the same for a client that waits and one that
    awaits."""

    def __init__(self, patterns: str | Iterable[str], after: str | None) -> None:
        one = isinstance(patterns, str) or not isinstance(patterns, Iterable)
        self.patterns = [patterns] if one else list(patterns)
        if not self.patterns or not all(isinstance(pattern, str) for pattern in self.patterns):
            raise InvalidArgument(f"patterns is {patterns!r:.80}", 'give texts such as "job.*", or "*" for everything')
        if after is not None and not isinstance(after, str):
            raise InvalidArgument(f"after is {after!r:.80}", 'give the cursor of an event, "now" or "earliest"')
        self.cursor = None if after == "earliest" else after
        self.stopped = False
        self.asked: Request | None = None  # the question that waits for its answer

    def begin(self) -> Steps[None]:
        """Find the place that "now" means: asked for later, or again, it would be another one."""
        if self.cursor == "now":
            answer = yield Request("watch", {"patterns": self.patterns, "after": "now", "limit": 1})
            self.cursor = str(answer.body["next"])

    def more(self, wait_ms: int) -> Steps[list[Event]]:
        """What comes next; [] if nothing did within the wait, or it was `stopped`."""
        args = {"patterns": self.patterns, "after": self.cursor, "limit": EVENTS_MAX, "wait_ms": wait_ms}
        self.asked = request = Request("watch", args, wait_ms=wait_ms)
        if self.stopped:  # looked at after `asked` was set: whoever stops does it the other way round
            return []
        body = (yield request).body
        self.asked = None
        lost = [Event(DROPPED, time.time(), self.cursor or "", count=None)] if body["dropped"] else []
        self.cursor = str(body["next"])
        return lost + [Event.from_body(event) for event in body["events"]]


class BaseWatch:
    """What was read of a stream and has not come out yet, and the steps to read on."""

    def __init__(self, connection: Channel, stream: Stream) -> None:
        self._connection: Any = connection
        self._stream = stream
        self._buffer: deque[Event] = deque()
        self._cursor = stream.cursor

    @property
    def cursor(self) -> str | None:
        """The place behind the latest event that came out of here: another watch `after` it goes on from there."""
        return self._cursor if self._buffer else self._stream.cursor

    def _receive(self, timeout: Duration | None) -> Steps[Event | None]:
        deadline = Deadline(timeout)
        while not self._buffer and not self._stream.stopped:
            self._buffer += yield from self._stream.more(deadline.wait_ms(PARK_MS))
            if deadline.over:
                break
        if not self._buffer or self._stream.stopped:
            return None
        event = self._buffer.popleft()
        self._cursor = event.cursor
        return event

    def stop(self) -> None:
        """End iterations and waiting receives. May be called from other threads and from signal handlers."""
        self._stream.stopped = True
        asked = self._stream.asked
        with self._connection.lock:
            if asked is not None:
                self._connection.end_wait(asked)
            self._connection.notify()


class Watch(Waiting, BaseWatch, Iterator[Event]):
    """Events as they happen, until `stop` is called, or its `with` ends. It goes on through a fail-over, and through
    lost connections.

    If events were told faster than they were read here, or the daemon was started again, some may be gone that match:
    then an event of the type "events.dropped" comes in their place. For one thread; `stop` is for any.
    """

    def receive(self, timeout: Duration | None = None) -> Event | None:
        """The next event. None: none came within `timeout` (a duration; None waits for ever), or `stop` was
        called.

        Raises Timeout if no daemon answers for `retry_for`, Closed.
        """
        return self._run(self._receive(timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __next__(self) -> Event:
        event = self.receive()
        if event is None:
            raise StopIteration
        return event
