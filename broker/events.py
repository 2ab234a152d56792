"""What happened, as a stream: commands tell it, every node keeps the latest of it, and clients may watch. Pure.

All nodes apply the same commands, so they all tell the same events under the same places: who watched the old primary
goes on at the new one where it was.
"""

from __future__ import annotations

from bisect import bisect_left
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from ..peers.errors import InvalidArgument, shown

KEPT = 50_000  # events, at least
SLACK = 5_000  # more may be kept: to drop them one by one would cost more than they take
PATTERNS_MAX = 100
TEXT_MAX = 200  # characters of a text in an event: a reason may have thousands, and so many events are kept
QUEUE_TYPES = ("created", "configured", "deleted", "paused", "resumed")
JOB_TYPES = ("queued", "running", "done", "failed", "dead", "cancelled", "expired", "progress")
SCHEDULE_TYPES = ("added", "removed", "paused", "resumed", "fired", "skipped")
TYPES = frozenset(
    [
        *[f"{kind}.{what}" for kind in ("queue", "topic") for what in QUEUE_TYPES],
        *[f"group.{what}" for what in ("created", "deleted", "sought")],
        *[f"job.{what}" for what in JOB_TYPES],
        *[f"schedule.{what}" for what in SCHEDULE_TYPES],
        *("queue.purged", "message.acked", "session.opened", "session.ended", "node.primary", "member.changed"),
    ]
)
Place = tuple[int, int]  # of an event: the log entry that told it, and which one it is in there


# An event as it is told and kept: to make a plain tuple costs a third of a named one, and each publish tells one.
Told = tuple[Place, str, int, str | None, int, int, dict[str, Any]]


class Event(NamedTuple):
    """`count` messages of `queue` from `first` on, or none of them; `more`: what else there is to say of this type."""

    place: Place
    type: str
    at_ms: int
    queue: str | None
    first: int
    count: int  # type: ignore[assignment]
    more: dict[str, Any]

    def to_body(self) -> dict[str, Any]:
        """As the wire has it: what says nothing is left out."""
        body = {"cursor": cursor(self.place), "index": self.place[0], "type": self.type, "at_ms": self.at_ms}
        if self.queue is not None:
            body["queue"] = self.queue
        if self.count:
            body |= {"first": self.first, "count": self.count}
        return body | self.more


def cursor(place: Place) -> str:
    """A place as clients are told it."""
    return f"{place[0]}.{place[1]}"


def place_of(text: object) -> Place:
    """The place of a cursor. Raises InvalidArgument."""
    if type(text) is str and len(text) <= 40:
        index, dot, number = text.partition(".")
        if dot and index.isdecimal() and (number == "-1" or number.isdecimal()):
            return int(index), int(number)
    raise InvalidArgument(
        f"after is {shown(text)}, which is no cursor",
        'give the cursor of an event, or "now"; "earliest" (nil, on the wire) is everything that is kept',
    )


@lru_cache(maxsize=1024)
def types_of(patterns: tuple[str, ...]) -> frozenset[str]:
    """The types that these globs mean. Raises InvalidArgument for one that means none: it would wait for ever."""
    wanted: set[str] = set()
    for pattern in patterns:
        some = {type for type in TYPES if fnmatchcase(type, pattern)}
        if not some:
            raise InvalidArgument(
                f"patterns has {shown(pattern)}, which no type of event is like",
                f"types are {', '.join(sorted(TYPES))}",
            )
        wanted |= some
    return frozenset(wanted)


def _place(told: Told) -> Place:
    return told[0]


class Ring:
    """The latest events of a node, in order. `floor`: what was told up to there is gone; `last`: the latest place."""

    def __init__(self, last: Place) -> None:
        self.floor = self.last = last
        self._events: list[Told] = []

    def __len__(self) -> int:
        return len(self._events)

    def take(self, events: list[Told]) -> None:
        """Take over what the last commands told; the list is empty afterwards."""
        if not events:
            return
        self.last = events[-1][0]
        self._events += events
        events.clear()
        if len(self._events) > KEPT + SLACK:
            self.floor = self._events[-KEPT - 1][0]
            del self._events[:-KEPT]

    def reset(self, last: Place) -> None:
        """The model begins anew at `last`. What it had told beyond is told again, or was never true.

        If `last` is ahead of all that was told here, there is a gap: what is before it would look whole, and is not.
        """
        if self.floor <= last <= self.last:
            del self._events[self._behind(last) :]
            self.last = last
        else:
            self._events.clear()
            self.floor = self.last = last

    def after(self, place: Place, types: frozenset[str], limit: int) -> tuple[list[Event], Place]:
        """Up to `limit` events of these types behind `place`, and the place up to which that is all of them."""
        found: list[Event] = []
        for told in self._events[self._behind(place) :]:
            if told[1] in types:
                found.append(Event(*told))
                if len(found) == limit:
                    return found, told[0]
        return found, max(place, self.last)

    def holds(self, place: Place) -> bool:
        """Is everything that was told behind `place` still here? A place ahead of the log is of a log that was lost."""
        return self.floor <= place <= self.last

    def _behind(self, place: Place) -> int:
        return bisect_left(self._events, (place[0], place[1] + 1), key=_place)
