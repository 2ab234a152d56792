"""Messages of a group that wait elsewhere than behind its cursor: given back, delayed, of a priority, or held.

The truth is packed by offset, in chunks that a checkpoint writes one by one if they changed. In what order they come is
derived from it: what lies in the heaps holds only if the chunk says so, too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import groupby, islice
from typing import NamedTuple

from .dues import BUCKET_BITS, Dues, ascending
from .shelf_cells import CHUNK_BITS, FIELDS, Chunk, ShelfCells

READY = 0  # as `due_ms`: to be had now
HELD = -1  # as `due_ms`: until its parents have ended
BLOCKED = -2  # as `due_ms`: until the message of its key before it has ended
NEVER = 0  # as `expires_ms`
STALE_MAX = 10_000  # due times that no longer hold, beyond as many as there are spots


class Spot(NamedTuple):
    """Messages [first, end) that wait alike. `due_ms`: when they may be given, or READY, HELD, BLOCKED."""

    first: int
    end: int
    attempt: int
    failures: int
    priority: int
    due_ms: int
    expires_ms: int

    def is_over(self, now_ms: int) -> bool:
        """Whether its time to live has ended."""
        return 0 < self.expires_ms <= now_ms


DUE_AT = Spot._fields.index("due_ms")


class Shelf:
    """The spots of one group, none of which overlap."""

    __slots__ = (
        "_cells", "_chunks", "_dues", "_lanes", "_ripening", "_spots", "blocked", "expiries", "held", "ready", "total",
    )  # fmt: skip

    def __init__(self) -> None:
        self._chunks: dict[int, Chunk] = {}  # by offset >> CHUNK_BITS: the spots that begin there
        self._lanes: dict[int, list[int]] = {}  # by priority: a heap of offsets that are ready
        self._dues: dict[int, Dues] = {}  # by priority: those that will be
        self._ripening: dict[int, int] = {}  # by due_ms >> BUCKET_BITS: how many messages
        self.expiries = Dues()
        self._spots = 0
        self._cells = ShelfCells()
        self.total = self.ready = self.held = self.blocked = 0  # messages; the rest of the total is delayed

    # -- put and take ------------------------------------------------------------------------------------------------

    def put(self, spot: Spot) -> None:
        """Put messages there. They are nowhere else."""
        first, end = spot.first, spot.end
        while first < end:  # nothing reaches from one chunk into the next, so that every offset is found at once
            stop = min(end, ((first >> CHUNK_BITS) + 1) << CHUNK_BITS)
            self._put(spot._replace(first=first, end=stop))
            first = stop

    def _put(self, spot: Spot) -> None:
        number = spot.first >> CHUNK_BITS
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = Chunk(array("q"), array("q"))
        firsts, fields = chunk
        if not firsts or firsts[-1] < spot.first:
            firsts.append(spot.first)
            fields.extend(spot)
        else:
            at = bisect_left(firsts, spot.first)
            firsts.insert(at, spot.first)
            fields[at * FIELDS : at * FIELDS] = array("q", spot)
        self._cells.put(number)
        self._enlist(spot)

    def _enlist(self, spot: Spot) -> None:
        first, priority, due_ms = spot.first, spot.priority, spot.due_ms
        self._spots += 1
        self._count(spot, spot.end - first)
        if due_ms == READY:
            lane = self._lanes.get(priority)
            if lane is None:
                lane = self._lanes[priority] = []
            heappush(lane, first)
        elif due_ms > 0:
            dues = self._dues.get(priority)
            if dues is None:
                dues = self._dues[priority] = Dues()
            dues.add(due_ms, first)
            if dues.count > 2 * self._spots + STALE_MAX:
                dues.thin(lambda due_ms, first: self._ripens(due_ms, first, priority) is not None)
        if spot.expires_ms:
            self.expiries.add(spot.expires_ms, first)
            if self.expiries.count > 2 * self._spots + STALE_MAX:
                self.expiries.thin(lambda expires_ms, first: self._expires(expires_ms, first) is not None)

    def _count(self, spot: Spot, count: int) -> None:
        self.total += count
        if spot.due_ms == READY:
            self.ready += count
        elif spot.due_ms == HELD:
            self.held += count
        elif spot.due_ms == BLOCKED:
            self.blocked += count
        else:
            bucket = spot.due_ms >> BUCKET_BITS
            left = self._ripening.get(bucket, 0) + count
            if left:
                self._ripening[bucket] = left
            else:
                del self._ripening[bucket]

    def at(self, offset: int) -> Spot | None:
        """The spot that holds `offset`."""
        chunk = self._chunks.get(offset >> CHUNK_BITS)
        if chunk is None:
            return None
        firsts, fields = chunk
        at = (bisect_right(firsts, offset) - 1) * FIELDS
        if at < 0 or offset >= fields[at + 1]:
            return None
        return Spot(*fields[at : at + FIELDS])

    def remove(self, spot: Spot) -> None:
        """Take a whole spot out."""
        number = spot.first >> CHUNK_BITS
        firsts, fields = self._chunks[number]
        at = bisect_left(firsts, spot.first)
        assert firsts[at] == spot.first, spot
        del firsts[at], fields[at * FIELDS : (at + 1) * FIELDS]
        if not firsts:
            del self._chunks[number]
        self._cells.remove(spot.first)
        self._spots -= 1
        self._count(spot, spot.first - spot.end)

    def take(self, offset: int) -> Spot | None:
        """Take one message out; None if it is not there."""
        spot = self.at(offset)
        if spot is None:
            return None
        self.cut(spot, offset, offset + 1)
        return spot._replace(first=offset, end=offset + 1)

    def cut(self, spot: Spot, first: int, end: int) -> None:
        """Take [first, end) of a spot out; the rest stays."""
        self.remove(spot)
        if spot.first < first:
            self._put(spot._replace(end=first))
        if end < spot.end:
            self._put(spot._replace(first=end))

    def clear(self) -> None:
        """Nothing waits any more."""
        cells = self._cells
        cells.clear(self._chunks)
        self.__init__()  # type: ignore[misc]  # every field anew, but for what the disk must be told
        self._cells = cells

    # -- order -------------------------------------------------------------------------------------------------------

    def priorities(self) -> list[int]:
        """Those of which something waits to be given, the most urgent first."""
        return sorted({*self._lanes, *self._dues}, reverse=True)

    def next_ready(self, priority: int, now_ms: int) -> Spot | None:
        """What comes next of this priority: what waits or was given back, by offset, then what ripened, by time."""
        return self.next_in_lane(priority) or self.next_due(priority, now_ms)

    def next_in_lane(self, priority: int) -> Spot | None:
        """The lowest of this priority that could be given at any time."""
        lane = self._lanes.get(priority)
        while lane:
            spot = self._in_lane(lane[0], priority)
            if spot is not None:
                return spot
            heappop(lane)
        if lane is not None:
            del self._lanes[priority]
        return None

    def next_due(self, priority: int, now_ms: int) -> Spot | None:
        dues = self._dues.get(priority)
        if dues is None:
            return None
        while (pair := dues.first(now_ms)) is not None:
            spot = self._ripens(*pair, priority)
            if spot is not None:
                return spot
            dues.pop()
        return None

    def pass_over(self, spot: Spot) -> None:
        """What was found to come next is never given: its time to live is over. It stays and counts until Outdate."""
        if spot.due_ms == READY:
            heappop(self._lanes[spot.priority])
        else:  # what is no longer among the due would count as delayed
            self.remove(spot)
            self.put(spot._replace(due_ms=READY))

    def _in_lane(self, first: int, priority: int) -> Spot | None:
        """The spot that begins there, if it still waits in this lane."""
        spot = self._exactly(first)
        return spot if spot is not None and spot.due_ms == READY and spot.priority == priority else None

    def _ripens(self, due_ms: int, first: int, priority: int) -> Spot | None:
        """The spot that begins there, if it still waits for this time, and among those of this priority."""
        spot = self._exactly(first)
        return spot if spot is not None and spot.due_ms == due_ms and spot.priority == priority else None

    def _expires(self, expires_ms: int, first: int) -> Spot | None:
        spot = self._exactly(first)
        return spot if spot is not None and spot.expires_ms == expires_ms else None

    def _exactly(self, first: int) -> Spot | None:
        spot = self.at(first)
        return spot if spot is not None and spot.first == first else None

    def has_ready(self, now_ms: int) -> bool:
        """Whether anything here could be given now."""
        if self.ready:
            return True
        return bool(self._ripening) and any(self.next_due(priority, now_ms) for priority in self._dues)

    def next_due_ms(self, now_ms: int) -> int | None:
        """When something may ripen after now: at or before the next delayed message does."""
        for priority in self._dues:
            self.next_due(priority, now_ms)  # what ripened and was taken is in the way of those behind it
        found = [due_ms for dues in self._dues.values() if (due_ms := dues.next_ms(now_ms)) is not None]
        return min(found, default=None)

    def next_expired(self, now_ms: int) -> Spot | None:
        """Something whose time to live is over."""
        while (pair := self.expiries.first(now_ms)) is not None:
            spot = self._expires(*pair)
            if spot is not None:
                return spot
            self.expiries.pop()
        return None

    def next_expiry_ms(self, now_ms: int) -> int | None:
        """When a time to live may end after now: at or before the next one does."""
        self.next_expired(now_ms)  # as above
        return self.expiries.next_ms(now_ms)

    # -- counts ------------------------------------------------------------------------------------------------------

    def ripe(self, now_ms: int) -> int:
        """How many of the delayed messages could be given now."""
        bucket = now_ms >> BUCKET_BITS
        count = sum(some for number, some in self._ripening.items() if number < bucket)
        if bucket in self._ripening:
            for dues in self._dues.values():
                seen: set[int] = set()
                for due_ms, first in dues.due(now_ms):
                    spot = self._exactly(first) if due_ms >> BUCKET_BITS == bucket and first not in seen else None
                    if spot is not None and spot.due_ms == due_ms:
                        seen.add(first)
                        count += spot.end - spot.first
        return count

    @property
    def delayed(self) -> int:
        """How many messages have a time at which they may be given, come or not."""
        return self.total - self.ready - self.held - self.blocked

    def spots(self, offset: int = 0) -> Iterator[Spot]:
        """Everything that waits here and ends behind `offset`, by offset."""
        for number in sorted(self._chunks):
            if number >= offset >> CHUNK_BITS:
                fields = self._chunks[number].fields
                for at in range(0, len(fields), FIELDS):
                    if fields[at + 1] > offset:
                        yield Spot(*fields[at : at + FIELDS])

    def ready_spots(self, now_ms: int, blocked: bool = False) -> Iterator[Spot]:
        """Those that could be given now, by offset. `blocked`: those, too, that wait for the one of their key alone."""
        if not (self.blocked and blocked) and not self.has_ready(now_ms):
            return
        for number in sorted(self._chunks):
            fields = self._chunks[number].fields
            for at, due_ms in enumerate(fields[DUE_AT::FIELDS]):  # of a million that are not ready no spot is made
                if READY <= due_ms <= now_ms or (blocked and due_ms == BLOCKED):
                    spot = Spot(*fields[at * FIELDS : (at + 1) * FIELDS])
                    if not spot.is_over(now_ms):
                        yield spot

    def first_ready(self, now_ms: int, count: int) -> Iterator[Spot]:
        """As `ready_spots`: of each priority the `count` first ones of those that wait, and of those that ripened."""
        for priority in self.priorities():
            lane = ascending(self._lanes.get(priority, []))
            waiting = (spot for first in lane if (spot := self._in_lane(first, priority)) is not None)
            dues = self._dues[priority].in_order(now_ms) if priority in self._dues else ()
            ripe = (spot for pair in dues if (spot := self._ripens(*pair, priority)) is not None)
            for spots in (waiting, ripe):
                once = (spot for spot, _ in groupby(spots))  # what came back to its place is listed again
                yield from islice((spot for spot in once if not spot.is_over(now_ms)), count)

    def lowest(self) -> int | None:
        """The lowest offset that waits here."""
        return self._chunks[min(self._chunks)].firsts[0] if self._chunks else None

    # -- disk --------------------------------------------------------------------------------------------------------

    def take_cells(self) -> dict[bytes, bytes | None]:
        """What changed since the last time, as cells by key; None: it is gone."""
        return self._cells.take(self._chunks)

    def pack(self) -> list[tuple[int, bytes]]:
        """Everything, for a fingerprint."""
        return [(number, self._chunks[number].fields.tobytes()) for number in sorted(self._chunks)]

    def restore(self, number: int, packed: bytes, gone: bytes | None = None) -> None:
        """Put a chunk that the disk has back in its place."""
        fields = self._cells.restore(number, packed, gone)
        self._chunks[number] = Chunk(fields[::FIELDS], fields)
        for spot in zip(*[iter(fields)] * FIELDS, strict=True):
            self._enlist(Spot(*spot))
