"""Where the messages of a queue lie: rows that point from offsets into log entries. The newest are not on disk yet."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

from .notes import Note

KNOWN_MAX: Final = 16_384  # extents, and keys of messages in them: some MiB


class Extent(NamedTuple):
    """`count` messages from offset `first` on are bodies `start`.. of the `total` in log entry `home`."""

    first: int
    count: int  # type: ignore[assignment]
    home: int
    start: int
    total: int
    size: int  # bytes, of these messages
    stamp_ms: int
    plain: bool  # the payload has no headers
    note: dict[str, Any] | None = None  # headers that a dead letter carries on top
    properties: dict[str, Any] | None = None  # what was asked for at the publish, other than the plain
    keys: tuple[str | None, ...] | None = None  # of each message, in a queue or topic that is ordered by key

    def key_of(self, offset: int) -> str | None:
        """The key of the message at `offset`."""
        return None if self.keys is None else self.keys[offset - self.first]

    @property
    def end(self) -> int:
        return self.first + self.count


class Outcome(NamedTuple):
    """How `count` jobs from offset `first` on ended, by log entry `home`."""

    first: int
    count: int  # type: ignore[assignment]
    home: int
    start: int  # the place of the first one's data in the entry's bodies; -1: there is no data
    each: bool  # a body for each job; False: one body for all
    status: str
    reason: str
    attempt: int
    failures: int
    stamp_ms: int
    dead_offset: int  # where the first one lies in the dead-letter queue; -1: nowhere
    submitted_ms: int = 0  # when the first one was published
    started_ms: int = 0  # when the last try began; 0: there was none that this ended
    owner: str = ""  # whose try that was


class ExtentReader(Protocol):
    """Looks up rows as of the last checkpoint."""

    def extent(self, queue_id: int, offset: int) -> Extent | None:
        """The row with the highest first offset at or below `offset`."""


class Reader(ExtentReader, Protocol):
    """What the model may read of the disk: rows as of the last checkpoint."""

    def outcome(self, queue_id: int, offset: int) -> tuple[int, int, int] | None:
        """(first, count, home) of the row with the highest first offset at or below `offset`."""

    def next_outcome(self, queue_id: int, offset: int) -> int | None:
        """The lowest first offset of a row at or above `offset`."""

    def step(self, queue_id: int, home: int) -> list[Outcome] | None:
        """What log entry `home` ended in this queue."""

    def next_step(self, queue_id: int, after: int) -> int | None:
        """The home of the first step behind `after`."""

    def cell(self, key: bytes) -> bytes | None:
        """The value of a cell: small rows of several kinds, told apart by how their keys begin."""

    def cells(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The first cells whose keys begin with `prefix` and come behind `after`, at most `limit` of them."""

    def note(self, queue_id: int, offset: int) -> Note | None:
        """The row with the highest first offset at or below `offset`."""

    def next_note(self, queue_id: int, offset: int) -> int | None:
        """The lowest first offset of a row at or above `offset`."""


class Known:
    """The extents that were read from disk of late, of all queues: messages that are due one by one come from all over
    a queue, and many from each batch. An extent never changes, and nobody asks for one that is gone."""

    def __init__(self, reader: ExtentReader) -> None:
        self._reader = reader
        self._queues: dict[int, tuple[list[int], list[Extent]]] = {}  # first offsets, ascending, and their extents
        self._weight = 0

    def extent(self, queue_id: int, offset: int) -> Extent | None:
        """That which holds `offset`, if one does."""
        firsts, extents = self._queues.get(queue_id, ((), ()))
        place = bisect_right(firsts, offset)
        if place and offset < extents[place - 1].end:
            return extents[place - 1]
        found = self._reader.extent(queue_id, offset)
        if found is not None and offset < found.end:
            self._keep(queue_id, found)
        return found

    def _keep(self, queue_id: int, extent: Extent) -> None:
        if self._weight >= KNOWN_MAX:
            self._queues, self._weight = {}, 0
        firsts, extents = self._queues.setdefault(queue_id, ([], []))
        place = bisect_right(firsts, extent.first)
        firsts.insert(place, extent.first)
        extents.insert(place, extent)
        self._weight += 1 + len(extent.keys or ())


class Extents:
    """The extents of one queue, in order of offset."""

    __slots__ = ("_last", "firsts", "queue_id", "reader", "recent")

    def __init__(self, queue_id: int, reader: ExtentReader) -> None:
        self.queue_id = queue_id
        self.reader = reader
        self.recent: dict[int, Extent] = {}
        self.firsts: list[int] = []  # the keys of `recent`, ascending; all rows on disk lie below them
        self._last: Extent | None = None

    def append(self, extent: Extent) -> None:
        self.recent[extent.first] = extent
        self.firsts.append(extent.first)

    def at(self, offset: int) -> Extent:
        """The extent that holds `offset`, which must be a kept one."""
        last = self._last
        if last is not None and last.first <= offset < last.end:
            return last
        found = self.recent.get(offset)
        if found is None:
            if self.firsts and offset >= self.firsts[0]:
                found = self.recent[self.firsts[bisect_right(self.firsts, offset) - 1]]
            else:
                found = self.reader.extent(self.queue_id, offset)
        assert found is not None, (self.queue_id, offset)
        assert found.first <= offset < found.end, (self.queue_id, offset, found)
        self._last = found
        return found

    def between(self, start: int, end: int) -> Iterator[tuple[Extent, int, int]]:
        """The extents over [start, end), each with the part of it that lies inside."""
        while start < end:
            extent = self.at(start)
            stop = min(end, extent.end)
            yield extent, start, stop
            start = stop

    def drop(self, extent: Extent) -> bool:
        """Forget an extent. True: it was on disk, and its row has to go there."""
        if self._last is extent:
            self._last = None
        if self.recent.pop(extent.first, None) is None:
            return True
        del self.firsts[bisect_left(self.firsts, extent.first)]
        return False

    def take_recent(self) -> list[Extent]:
        """Hand the rows in memory over to the disk."""
        rows = list(self.recent.values())
        self.recent.clear()
        self.firsts.clear()
        return rows
