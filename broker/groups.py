"""A group: who has which messages of a queue or topic, in ranges. READY -> LEASED -> DONE | READY | DELAYED | DEAD."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import NamedTuple

from .extents import Extent, Extents
from .keys import BLOCKED_MAX, KeyOrder
from .ranges import RangeSet
from .shelf import BLOCKED, NEVER, READY, Shelf, Spot


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


def rank(spot: Spot, fresh: int) -> tuple[int, int, int, int]:
    """In this order spots are given; a fresh message that waits at `offset` ranks as (0, 2, 0, offset).

    `fresh`: the first of those. What waits longer than that goes first, then what ripened, then each in its turn.
    """
    if spot.due_ms != READY:
        return -spot.priority, 1, spot.due_ms, spot.first
    return -spot.priority, 0 if spot.priority or spot.first < fresh else 2, 0, spot.first


class Group:
    """The state of each message for one reader, as ranges: below `floor` all done, from `cursor` on all fresh.

    What waits elsewhere than behind the cursor (given back, delayed, of a priority, held) is on the shelf.
    """

    __slots__ = (
        "acked", "armed_ms", "cursor", "dead", "done", "floor", "id", "keys", "leased", "name", "placed", "shelf",
    )  # fmt: skip

    def __init__(self, name: str, start: int, id: int = 0, keys: KeyOrder | None = None) -> None:
        self.name = name
        self.id = id  # never used twice in a queue
        self.floor = start
        self.cursor = start
        self.acked = RangeSet()  # terminal, above the floor; a cancelled one may lie above the cursor
        self.placed = RangeSet()  # what the cursor jumps: it went to the shelf when it was published
        self.shelf = Shelf()
        self.keys = keys  # of a group that is ordered by key
        self.leased = 0
        self.done = 0
        self.dead = 0
        self.armed_ms: int | None = None  # the primary looks at it then; not a part of the state

    # -- counts ------------------------------------------------------------------------------------------------------

    def open_count(self, next_offset: int) -> int:
        """How many messages are not yet done."""
        return next_offset - self.floor - self.acked.total

    def ready_count(self, next_offset: int, now_ms: int) -> int:
        """How many could be leased now, were it not for limits and keys."""
        shelf = self.shelf
        waiting = self.open_count(next_offset) - self.leased
        return waiting - shelf.held - shelf.delayed + (shelf.ripe(now_ms) if shelf.delayed else 0)

    def has_ready(self, next_offset: int, now_ms: int) -> bool:
        """Whether a pull would find something; cheap, for it is asked at every turn."""
        shelf = self.shelf
        if shelf.total and shelf.has_ready(now_ms):
            return True
        return self.open_count(next_offset) > self.leased + shelf.total

    # -- what is given -----------------------------------------------------------------------------------------------

    def grant(self, extents: Extents, next_offset: int, now_ms: int, count: int, size_max: int) -> list[Piece]:
        """Lease up to `count` messages and about `size_max` bytes, at least one if any is ready.

        The most urgent first; within a priority what was given before, then what ripened, then the oldest.
        """
        pieces: list[Piece] = []
        for extent, stop, spot in self._candidates(extents, next_offset, now_ms):
            start = self.cursor if spot is None else spot.first
            each = max(1, extent.size // extent.count)
            some = min(stop - start, count, max(size_max // each, 0 if pieces else 1))
            if self.keys is not None and some:
                some = 1
                if not self.keys.claim(extent.key_of(start), start):
                    self._block(start, spot)
                    continue
            if some == 0:
                break
            attempt, failures = 1, 0
            if spot is None:
                self.cursor += some
            else:
                attempt, failures = spot.attempt + 1, spot.failures
                self.shelf.cut(spot, start, start + some)
            last = pieces[-1] if pieces else None
            if last is not None and (last.end, last.extent, *last[3:]) == (start, extent, attempt, failures):
                pieces[-1] = last._replace(end=start + some)
            else:
                pieces.append(Piece(extent, start, start + some, attempt, failures))
            count -= some
            size_max -= some * each
            self.leased += some
            if count <= 0 or size_max <= 0:
                break
        return pieces

    def _candidates(self, extents: Extents, next_offset: int, now_ms: int) -> Iterator[tuple[Extent, int, Spot | None]]:
        """(extent, end, spot) of what is ready, in order; the caller takes it away before it asks for the next.

        The messages run from the first one of the spot, or, if it is None, from the cursor.
        """
        shelf = self.shelf
        if shelf.total:
            for priority in shelf.priorities():
                while priority and (spot := shelf.next_ready(priority, now_ms)) is not None:
                    if spot.is_over(now_ms):
                        shelf.pass_over(spot)
                        continue
                    extent = extents.at(spot.first)
                    yield extent, min(spot.end, extent.end), spot
        while True:
            fresh = self._find_fresh(next_offset) and shelf.blocked < BLOCKED_MAX
            plain = self._next_plain(self.cursor if fresh else next_offset, now_ms) if shelf.total else None
            if plain is not None and plain.is_over(now_ms):
                shelf.pass_over(plain)
            elif plain is not None:
                extent = extents.at(plain.first)
                yield extent, min(plain.end, extent.end), plain
            elif fresh:
                extent = extents.at(self.cursor)
                yield extent, min(extent.end, self._fresh_end(next_offset)), None
            else:
                return

    def _next_plain(self, fresh: int, now_ms: int) -> Spot | None:
        """What of no priority comes before the fresh message at this offset: what waits longer, then what ripened."""
        spot = self.shelf.next_in_lane(0)
        if spot is not None and spot.first < fresh:
            return spot
        return self.shelf.next_due(0, now_ms)

    def _find_fresh(self, next_offset: int) -> bool:
        """Move the cursor to the next fresh message. False: there is none."""
        while self.cursor < next_offset:
            if (end := self._behind_cursor()) is None:
                return True
            self.cursor = end
        return False

    def _behind_cursor(self) -> int | None:
        """The end of what the cursor stands in, if that is not fresh."""
        if self.acked.total and (end := self.acked.end_at(self.cursor)) is not None:
            return end
        if self.placed.total:
            self.placed.cut_below(self.cursor)
            return self.placed.end_at(self.cursor)
        return None

    def _fresh_end(self, next_offset: int) -> int:
        """Where the fresh messages at the cursor end."""
        for some in (self.acked, self.placed):
            if some.total and (behind := some.next_start(self.cursor)) is not None:
                next_offset = min(next_offset, behind)
        return next_offset

    def _block(self, offset: int, spot: Spot | None) -> None:
        if spot is None:
            self.cursor = offset + 1
            spot = Spot(offset, offset + 1, 0, 0, 0, BLOCKED, NEVER)
        else:
            self.shelf.cut(spot, offset, offset + 1)
        self.shelf.put(spot._replace(first=offset, end=offset + 1, due_ms=BLOCKED))

    def fresh(self, next_offset: int, offset: int = 0) -> Iterator[tuple[int, int]]:
        """The stretches that were never given and wait behind the cursor, from `offset` on."""
        for start, end in self.acked.gaps(max(self.cursor, offset), next_offset):
            yield from self.placed.gaps(start, end)

    def peek(self, extents: Extents, next_offset: int, now_ms: int, count: int) -> list[Piece]:
        """The next `count` ready messages, about in the order in which they would be granted; nothing changes."""
        fresh = list(islice(self.fresh(next_offset), count))
        first = fresh[0][0] if fresh else next_offset
        ranked = [(rank(spot, first), Span(*spot[:4])) for spot in self.shelf.first_ready(now_ms, count)]
        ranked += [((0, 2, 0, start), Span(start, end, 0, 0)) for start, end in fresh]
        spans = [span for _, span in sorted(ranked)]
        pieces: list[Piece] = []
        for span in spans:
            end = min(span.end, span.first + count)
            for extent, start, stop in extents.between(span.first, end):
                pieces.append(Piece(extent, start, stop, span.attempt, span.failures))
            count -= end - span.first
            if count == 0:
                break
        return pieces

    # -- what comes back, and ends -----------------------------------------------------------------------------------

    def place(self, spot: Spot) -> None:
        """Messages that are published to the shelf: the cursor jumps them."""
        self.shelf.put(spot)
        if self.cursor == spot.first:
            self.cursor = spot.end
        else:
            self.placed.add(spot.first, spot.end)

    def finish(self, first: int, end: int) -> bool:
        """The messages are terminal. They are in none of the other places any more. True: others may be had now."""
        acked = self.acked
        if first == self.floor and not acked:
            self.floor = end
        else:
            acked.add(first, end)
            if acked.start == self.floor:
                self.floor = acked.pop_first()[1]
        if self.cursor < self.floor:
            self.cursor = self.floor
        return self.keys is not None and self._unblock(self.keys, first, end)

    def _unblock(self, keys: KeyOrder, first: int, end: int) -> bool:
        freed = keys.finish(first, end)
        for key in freed:
            while (offset := keys.next_blocked(key)) is not None:
                spot = self.shelf.at(offset)
                if spot is not None and spot.due_ms == BLOCKED:
                    keys.hand_over(key, offset)
                    self.shelf.cut(spot, offset, offset + 1)
                    self.shelf.put(spot._replace(first=offset, end=offset + 1, due_ms=READY))
                    break
        return bool(freed)

    def reopen(self, first: int, end: int) -> list[tuple[int, int]]:
        """What of [first, end) has ended is open again: which stretches those are, for the caller to place."""
        alive = RangeSet(self.acked.gaps(max(first, self.floor), end))
        ended = list(alive.gaps(first, end))
        for start, stop in ended:
            assert stop <= self.cursor, (stop, self.cursor)
            if start >= self.floor:
                self.acked.cut(start, stop)
                continue
            if stop < self.floor:
                self.acked.add(stop, self.floor)
            self.floor = start
        return ended

    def has_ended(self, offset: int) -> bool:
        """Whether the message is terminal."""
        return offset < self.floor or self.acked.end_at(offset) is not None

    def is_fresh(self, offset: int) -> bool:
        """Whether the message waits behind the cursor."""
        return offset >= self.cursor and self.acked.end_at(offset) is None and self.placed.end_at(offset) is None

    def waits(self, offset: int) -> bool:
        """Whether the message waits, wherever."""
        return self.is_fresh(offset) or self.shelf.at(offset) is not None

    def take_waiting(self, offset: int) -> Span | None:
        """Take one message that waits out of its place, to be ended; None if it does not wait."""
        if self.is_fresh(offset):
            return Span(offset, offset + 1, 0, 0)
        spot = self.shelf.take(offset)
        return None if spot is None else Span(offset, offset + 1, spot.attempt, spot.failures)

    def lowest_waiting(self, next_offset: int) -> int | None:
        """The lowest offset that waits, wherever."""
        fresh = next(self.fresh(next_offset), None)
        found = [offset for offset in (self.shelf.lowest(), fresh[0] if fresh else None) if offset is not None]
        return min(found, default=None)

    def take_all_waiting(self, next_offset: int, leased: list[Span]) -> int:
        """Finish everything that is not leased (`leased`: ascending spans). Returns how many messages that were."""
        count = self.open_count(next_offset) - self.leased
        self.shelf.clear()
        self.placed = RangeSet()
        held = RangeSet((span.first, span.end) for span in leased)
        self.acked = RangeSet(held.gaps(self.floor, next_offset))
        self.cursor = next_offset
        if self.acked and self.acked.start == self.floor:
            self.floor = self.acked.pop_first()[1]
        if self.keys is not None:
            self.keys.keep_only(offset for span in leased for offset in range(span.first, span.end))
        return count

    def raise_floor(self, offset: int) -> None:
        """Messages below `offset` are gone (retention). Leases on them have been cut by the caller."""
        if offset <= self.floor:
            return
        first = self.floor
        for spot in list(takewhile(lambda spot: spot.first < offset, self.shelf.spots())):
            self.shelf.cut(spot, spot.first, min(spot.end, offset))
        self.acked.cut_below(offset)
        self.placed.cut_below(offset)
        self.floor = offset
        if self.acked and self.acked.start == offset:
            self.floor = self.acked.pop_first()[1]
        self.cursor = max(self.cursor, self.floor)
        if self.keys is not None:
            self._unblock(self.keys, first, offset)
