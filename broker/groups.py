"""A group: who has which messages of a queue or topic, in ranges. READY -> LEASED -> DONE | READY | DELAYED | DEAD."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from .extents import Extent, Extents
from .ranges import RangeSet


class Span(NamedTuple):
    """Messages [first, end) of one history. `attempt` counts grants (the fence), `failures` bad ends (the limit)."""

    first: int
    end: int
    attempt: int
    failures: int


class Piece(NamedTuple):
    """The part [start, end) of an extent that is granted, with the history of its messages."""

    extent: Extent
    start: int
    end: int
    attempt: int
    failures: int


class Lease:
    """A grant of messages to a session until `ends_ms`. Its id, the index of its entry, is the fencing token."""

    __slots__ = ("ends_ms", "group", "id", "pull", "queue_id", "session", "since_ms", "spans")

    def __init__(
        self,
        id: int,
        queue_id: int,
        group: Group,
        session: int,
        pull: int,
        spans: list[Span],
        ends_ms: int,
        since_ms: int,
    ) -> None:
        self.id = id
        self.queue_id = queue_id
        self.group = group
        self.session = session
        self.pull = pull
        self.spans = spans  # ascending
        self.ends_ms = ends_ms
        self.since_ms = since_ms

    def split(self, ranges: tuple[tuple[int, int], ...]) -> tuple[list[Span], list[Span]] | None:
        """(what of the lease lies in the ranges, what is left of it); None if a range is not all of it held."""
        spans = self.spans
        if len(ranges) == 1 and len(spans) == 1 and ranges[0] == (spans[0].first, spans[0].end - spans[0].first):
            return spans, []
        left = list(spans)
        taken: list[Span] = []
        for first, count in ranges:
            end = first + count
            while first < end:
                at = bisect_right(left, first, key=_first_of) - 1
                if at < 0 or left[at].end <= first:
                    return None
                span = left[at]
                stop = min(end, span.end)
                rests = [span._replace(end=first)] if span.first < first else []
                if stop < span.end:
                    rests.append(span._replace(first=stop))
                left[at : at + 1] = rests
                taken.append(span._replace(first=first, end=stop))
                first = stop
        return taken, left


def _first_of(span: Span) -> int:
    return span.first


class Group:
    """The state of each message for one reader, as ranges: below `floor` all done, from `cursor` on all fresh."""

    __slots__ = (
        "acked",
        "again",
        "again_count",
        "cursor",
        "dead",
        "delayed",
        "delayed_count",
        "done",
        "floor",
        "leased",
        "name",
    )

    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.floor = start
        self.cursor = start
        self.acked = RangeSet()  # terminal, above the floor; a cancelled one may lie above the cursor
        self.again: list[Span] = []  # a heap: given before, ready again
        self.delayed: list[tuple[int, Span]] = []  # a heap by the time at which they are ready again
        self.again_count = 0
        self.delayed_count = 0
        self.leased = 0
        self.done = 0
        self.dead = 0

    def open_count(self, next_offset: int) -> int:
        """How many messages are not yet done."""
        return next_offset - self.floor - self.acked.total

    def ready_count(self, next_offset: int, now_ms: int) -> int:
        """How many could be leased now."""
        ripe = sum(span.end - span.first for until, span in self.delayed if until <= now_ms)
        return self.open_count(next_offset) - self.leased - self.delayed_count + ripe

    def has_ready(self, next_offset: int, now_ms: int) -> bool:
        """Whether a pull would find something; cheap, for it is asked at every turn."""
        if self.again_count or (self.delayed and self.delayed[0][0] <= now_ms):
            return True
        return self.open_count(next_offset) > self.leased + self.delayed_count

    def grant(self, extents: Extents, next_offset: int, now_ms: int, count: int, size_max: int) -> list[Piece]:
        """Lease up to `count` messages and about `size_max` bytes, at least one if any is ready; oldest first."""
        while self.delayed and self.delayed[0][0] <= now_ms:
            span = heappop(self.delayed)[1]
            self.delayed_count -= span.end - span.first
            self.put_again(span)
        pieces: list[Piece] = []
        for piece in self._candidates(extents, next_offset):
            each = max(1, piece.extent.size // piece.extent.count)
            some = min(piece.end - piece.start, count, max(size_max // each, 0 if pieces else 1))
            if some < piece.end - piece.start:
                self._give_back(piece, piece.start + some)
            if some == 0:
                break
            pieces.append(piece._replace(end=piece.start + some))
            count -= some
            size_max -= some * each
            self.leased += some
            if count <= 0 or size_max <= 0:
                break
        return pieces

    def peek(self, extents: Extents, next_offset: int, now_ms: int, count: int) -> list[Piece]:
        """The next `count` ready messages, in the order in which they would be granted; nothing changes."""
        waiting = sorted(self.again + [span for until_ms, span in self.delayed if until_ms <= now_ms])
        fresh = [Span(start, end, 0, 0) for start, end in self.acked.gaps(self.cursor, next_offset)]
        pieces: list[Piece] = []
        for span in waiting + fresh:
            end = min(span.end, span.first + count)
            for extent, start, stop in extents.between(span.first, end):
                pieces.append(Piece(extent, start, stop, span.attempt, span.failures))
            count -= end - span.first
            if count == 0:
                break
        return pieces

    def _candidates(self, extents: Extents, next_offset: int) -> Iterator[Piece]:
        """What is ready, in order, already taken out of its place: the caller gives back what it does not lease."""
        while self.again:
            span = heappop(self.again)
            extent = extents.at(span.first)
            stop = min(span.end, extent.end)
            if stop < span.end:
                heappush(self.again, span._replace(first=stop))
            self.again_count -= stop - span.first
            yield Piece(extent, span.first, stop, span.attempt + 1, span.failures)
        while self.cursor < next_offset:
            if self.acked.total and (end := self.acked.end_at(self.cursor)) is not None:
                self.cursor = end
                continue
            start = self.cursor
            extent = extents.at(start)
            stop = extent.end
            if self.acked.total and (behind := self.acked.next_start(start)) is not None:
                stop = min(stop, behind)
            self.cursor = stop
            yield Piece(extent, start, stop, 1, 0)

    def _give_back(self, piece: Piece, start: int) -> None:
        if piece.attempt == 1:
            self.cursor = start
        else:
            self.put_again(Span(start, piece.end, piece.attempt - 1, piece.failures))

    def put_again(self, span: Span) -> None:
        """The messages are ready again, before all fresh ones."""
        heappush(self.again, span)
        self.again_count += span.end - span.first

    def put_delayed(self, span: Span, until_ms: int) -> None:
        """The messages are ready again at `until_ms`."""
        heappush(self.delayed, (until_ms, span))
        self.delayed_count += span.end - span.first

    def finish(self, first: int, end: int) -> None:
        """The messages are terminal. They are in none of the other places any more."""
        acked = self.acked
        if first == self.floor and not acked.starts:
            self.floor = end
        else:
            acked.add(first, end)
            if acked.starts[0] == self.floor:
                self.floor = acked.pop_first()[1]
        if self.cursor < self.floor:
            self.cursor = self.floor

    def take_waiting(self, offset: int) -> Span | None:
        """Take one message that waits (fresh, again or delayed) out of its place; None if it does not wait."""
        if offset >= self.cursor and self.acked.end_at(offset) is None:
            return Span(offset, offset + 1, 0, 0)
        for at, span in enumerate(self.again):
            if span.first <= offset < span.end:
                del self.again[at]
                heapify(self.again)
                self.again_count -= span.end - span.first
                for rest in _without(span, offset):
                    self.put_again(rest)
                return span._replace(first=offset, end=offset + 1)
        for at, (until_ms, span) in enumerate(self.delayed):
            if span.first <= offset < span.end:
                del self.delayed[at]
                heapify(self.delayed)
                self.delayed_count -= span.end - span.first
                for rest in _without(span, offset):
                    self.put_delayed(rest, until_ms)
                return span._replace(first=offset, end=offset + 1)
        return None

    def take_all_waiting(self, next_offset: int, leased: list[Span]) -> int:
        """Finish everything that is not leased (`leased`: ascending spans). Returns how many messages that were."""
        count = self.open_count(next_offset) - self.leased
        self.again.clear()
        self.delayed.clear()
        self.again_count = self.delayed_count = 0
        held = RangeSet((span.first, span.end) for span in leased)
        self.acked = RangeSet(held.gaps(self.floor, next_offset))
        self.cursor = next_offset
        if self.acked.starts and self.acked.starts[0] == self.floor:
            self.floor = self.acked.pop_first()[1]
        return count

    def raise_floor(self, offset: int) -> None:
        """Messages below `offset` are gone (retention). Leases on them have been cut by the caller."""
        if offset <= self.floor:
            return
        self.again = [span._replace(first=max(span.first, offset)) for span in self.again if span.end > offset]
        heapify(self.again)
        self.delayed = [(u, s._replace(first=max(s.first, offset))) for u, s in self.delayed if s.end > offset]
        heapify(self.delayed)
        self.again_count = sum(span.end - span.first for span in self.again)
        self.delayed_count = sum(span.end - span.first for _, span in self.delayed)
        self.acked.cut_below(offset)
        self.floor = offset
        if self.acked.starts and self.acked.starts[0] == offset:
            self.floor = self.acked.pop_first()[1]
        self.cursor = max(self.cursor, self.floor)


def _without(span: Span, offset: int) -> list[Span]:
    rests = [span._replace(end=offset), span._replace(first=offset + 1)]
    return [rest for rest in rests if rest.first < rest.end]
