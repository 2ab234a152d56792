"""Sets of offsets, kept as sorted disjoint ranges: work and memory per range, never per offset.

The ranges lie in chunks of packed integers, so that a set of a million pieces takes one more in microseconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

CHUNK_MAX = 512  # ranges in one chunk; then it is split


class RangeSet:
    """Offsets as half-open ranges [start, end), which neither overlap nor touch."""

    __slots__ = ("_ends", "_lows", "_starts", "total")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []  # of each chunk: its lowest start
        self._starts: list[array[int]] = []
        self._ends: list[array[int]] = []
        self.total = 0
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for starts, ends in zip(self._starts, self._ends, strict=True):
            yield from zip(starts, ends, strict=True)

    def __len__(self) -> int:
        return sum(map(len, self._starts))

    def __bool__(self) -> bool:
        return bool(self._lows)

    @property
    def start(self) -> int:
        """The lowest offset of a set that is not empty."""
        return self._lows[0]

    def add(self, start: int, end: int) -> None:
        """Add [start, end), which must not overlap what is there."""
        assert start < end, (start, end)
        self.total += end - start
        if not self._lows:
            self._insert_chunk(0, array("q", (start,)), array("q", (end,)))
            return
        chunk = max(0, bisect_right(self._lows, start) - 1)
        starts, ends = self._starts[chunk], self._ends[chunk]
        at = bisect_left(starts, start)
        before = ends[at - 1] if at else None
        behind = starts[at] if at < len(starts) else self._lows[chunk + 1] if chunk + 1 < len(self._lows) else None
        assert before is None or before <= start, "overlaps the range before"
        assert behind is None or end <= behind, "overlaps the range behind"
        if behind == end:
            if at < len(starts):
                end = ends[at]
                self._delete(chunk, at)
            else:
                end = self._ends[chunk + 1][0]
                self._delete(chunk + 1, 0)
        if before == start:
            ends[at - 1] = end
        elif chunk < len(self._lows) and self._starts[chunk] is starts:
            self._insert(chunk, at, start, end)
        else:  # its chunk held nothing else, and is gone
            self._insert_chunk(chunk, array("q", (start,)), array("q", (end,)))

    def _insert(self, chunk: int, at: int, start: int, end: int) -> None:
        starts, ends = self._starts[chunk], self._ends[chunk]
        starts.insert(at, start)
        ends.insert(at, end)
        if at == 0:
            self._lows[chunk] = start
        if len(starts) > CHUNK_MAX:
            half = len(starts) // 2
            self._insert_chunk(chunk + 1, starts[half:], ends[half:])
            del starts[half:], ends[half:]

    def _insert_chunk(self, chunk: int, starts: array[int], ends: array[int]) -> None:
        self._lows.insert(chunk, starts[0])
        self._starts.insert(chunk, starts)
        self._ends.insert(chunk, ends)

    def _delete(self, chunk: int, at: int) -> None:
        starts = self._starts[chunk]
        del starts[at], self._ends[chunk][at]
        if not starts:
            del self._lows[chunk], self._starts[chunk], self._ends[chunk]
        elif at == 0:
            self._lows[chunk] = starts[0]

    def end_at(self, offset: int) -> int | None:
        """The end of the range that holds `offset`, or None."""
        chunk = bisect_right(self._lows, offset) - 1
        if chunk < 0:
            return None
        end = self._ends[chunk][bisect_right(self._starts[chunk], offset) - 1]
        return end if offset < end else None

    def next_start(self, offset: int) -> int | None:
        """The start of the first range that starts at or behind `offset`, or None."""
        chunk = bisect_right(self._lows, offset) - 1
        if chunk >= 0:
            starts = self._starts[chunk]
            at = bisect_left(starts, offset)
            if at < len(starts):
                return starts[at]
        return self._lows[chunk + 1] if chunk + 1 < len(self._lows) else None

    def pop_first(self) -> tuple[int, int]:
        """Take the lowest range out."""
        start, end = self._starts[0][0], self._ends[0][0]
        self._delete(0, 0)
        self.total -= end - start
        return start, end

    def cut_below(self, offset: int) -> None:
        """Take out everything below `offset`."""
        while self._lows and self._lows[0] < offset:
            end = self._ends[0][0]
            if end > offset:
                self.total -= offset - self._lows[0]
                self._lows[0] = self._starts[0][0] = offset
                return
            self.pop_first()

    def cut(self, start: int, end: int) -> None:
        """Take out [start, end), all of which is there."""
        chunk = bisect_right(self._lows, start) - 1
        at = bisect_right(self._starts[chunk], start) - 1
        low, high = self._starts[chunk][at], self._ends[chunk][at]
        assert low <= start < end <= high, (low, start, end, high)
        self._delete(chunk, at)
        self.total -= high - low
        if low < start:
            self.add(low, start)
        if end < high:
            self.add(end, high)

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The stretches of [start, end) that are not in the set."""
        while start < end:
            inside = self.end_at(start)
            if inside is not None:
                start = inside
                continue
            behind = self.next_start(start)
            stop = end if behind is None else min(end, behind)
            yield start, stop
            start = stop

    def count_between(self, start: int, end: int) -> int:
        """How many offsets of [start, end) are in the set."""
        return end - start - sum(stop - first for first, stop in self.gaps(start, end))

    def pack(self) -> tuple[bytes, bytes]:
        """The set as two runs of 8-byte integers, starts and ends; equal sets are packed alike."""
        return b"".join(map(array.tobytes, self._starts)), b"".join(map(array.tobytes, self._ends))

    @staticmethod
    def unpack(packed: tuple[bytes, bytes]) -> RangeSet:
        """What `pack` packed."""
        made = RangeSet()
        starts, ends = array("q", packed[0]), array("q", packed[1])
        for at in range(0, len(starts), CHUNK_MAX // 2):
            made._insert_chunk(len(made._lows), starts[at : at + CHUNK_MAX // 2], ends[at : at + CHUNK_MAX // 2])
        made.total = sum(ends) - sum(starts)
        return made
