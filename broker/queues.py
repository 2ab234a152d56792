"""A queue or a topic: a log of batches, its groups, its limits, and what of it is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..peers.errors import InvalidArgument, QueueFull, shown
from .extents import Extent, Extents, Reader
from .groups import Group
from .notes import Notes
from .outcomes import Outcomes

QUEUE, TOPIC = "queue", "topic"
NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,199}(?:\.dead){0,4}")  # the longest name has dead letters, too
DROP_MAX = 256  # extents dropped within one command; the rest is swept in commands of their own, so no turn is long


class Options(NamedTuple):
    """What a queue's owner may set. None: no limit, or kept for ever."""

    max_messages: int | None = None
    max_bytes: int | None = None
    max_failures: int | None = 5
    retry_delay_ms: int = 0
    result_ttl_ms: int = 86_400_000
    retention_ms: int | None = None
    retention_bytes: int | None = None
    retention_messages: int | None = None
    result_queue: str | None = None


_LEAST = {
    "max_messages": 1,
    "max_bytes": 1,
    "max_failures": 1,
    "retry_delay_ms": 0,
    "result_ttl_ms": 0,
    "retention_ms": 1,
    "retention_bytes": 1,
    "retention_messages": 1,
}
LIMITS = {"max_messages", "max_bytes", "result_queue"}  # of queues only
RETENTION = {"retention_ms", "retention_bytes", "retention_messages"}  # of topics only
_MAY_BE_NONE = {"max_failures", *LIMITS, *RETENTION}
OPTION_MAX = 2**53


def change_options(options: Options, changes: Mapping[str, Any], kind: str) -> Options:
    """The options with the changes made. Raises InvalidArgument, which names the option and what would be right."""
    for name, value in changes.items():
        if name not in _LEAST and name != "result_queue":
            raise InvalidArgument(f"unknown option {shown(name)}", f"options are {', '.join(Options._fields)}")
        if kind == QUEUE and name in RETENTION and value is not None:
            raise InvalidArgument(f"{name} is for topics", "a queue keeps a message until it is done")
        if kind == TOPIC and name in LIMITS and value is not None:
            raise InvalidArgument(f"{name} is for queues", f"a topic keeps what {', '.join(sorted(RETENTION))} let it")
        if value is None and name in _MAY_BE_NONE:
            continue
        if name == "result_queue":
            if type(value) is not str or NAME.fullmatch(value) is None:
                raise InvalidArgument(f"option result_queue is {shown(value)}", "give the name of a queue, or nil")
            continue
        if type(value) is not int or not _LEAST[name] <= value <= OPTION_MAX:
            right = f"an integer from {_LEAST[name]} on" + (" or nil" if name in _MAY_BE_NONE else "")
            raise InvalidArgument(f"option {name} is {shown(value)}", f"give {right}")
    return options._replace(**changes)


class Queue:
    """One queue (a single group named "") or topic (any number of groups)."""

    def __init__(
        self, id: int, name: str, kind: str, options: Options, created_ms: int, reader: Reader, next_offset: int = 0
    ) -> None:
        self.id = id
        self.name = name
        self.kind = kind
        self.options = options
        self.created_ms = created_ms
        self.paused = False
        self.next = next_offset
        self.dropped = next_offset  # extents below this are gone
        self.bytes = 0
        self.extents = Extents(id, reader)
        self.outcomes = Outcomes(id, reader)
        self.notes = Notes(id, reader)
        self.groups: dict[str, Group] = {"": Group("", next_offset)} if kind == QUEUE else {}
        self.trimmed = next_offset  # topics: messages below this are past their retention
        self.deleted = False

    @property
    def keeps_from(self) -> int:
        """Messages below this offset are needed by nobody."""
        if self.deleted:
            return self.next
        return self.groups[""].floor if self.kind == QUEUE else self.trimmed

    def check_room(self, count: int, size: int) -> None:
        """Raises QueueFull if a batch would go over a limit."""
        options = self.options
        if options.max_messages is not None:
            held = self.groups[""].open_count(self.next)
            if held + count > options.max_messages:
                raise QueueFull(
                    f"queue {self.name} holds {held} of at most {options.max_messages} messages: no room for {count}",
                    "try again when some are done, or raise max_messages",
                )
        if options.max_bytes is not None and self.bytes + size > options.max_bytes:
            raise QueueFull(
                f"queue {self.name} holds {self.bytes} of at most {options.max_bytes} bytes: no room for {size}",
                "try again when some are done, or raise max_bytes",
            )

    def append(
        self,
        home: int,
        start: int,
        count: int,
        total: int,
        size: int,
        stamp_ms: int,
        plain: bool,
        note: dict[str, Any] | None,
    ) -> int:
        """Add messages that lie in log entry `home`. Returns the offset of the first one."""
        first = self.next
        self.extents.append(Extent(first, count, home, start, total, size, stamp_ms, plain, note))
        self.next = first + count
        self.bytes += size
        return first

    def drop_done(self) -> tuple[list[tuple[Extent, bool]], bool]:
        """Drop up to DROP_MAX extents that nobody needs, each with: True if its row is on disk. And: are there more?"""
        keeps_from = self.keeps_from
        gone: list[tuple[Extent, bool]] = []
        while self.dropped < keeps_from:
            extent = self.extents.at(self.dropped)
            if extent.end > keeps_from:
                break
            if len(gone) == DROP_MAX:
                return gone, True
            gone.append((extent, self.extents.drop(extent)))
            self.bytes -= extent.size
            self.dropped = extent.end
        return gone, False

    def oldest_ms(self, now_ms: int) -> int | None:
        """Age of the oldest message that is kept and not done; None if there is none."""
        first = max(self.keeps_from, self.dropped)
        return max(0, now_ms - self.extents.at(first).stamp_ms) if first < self.next else None
