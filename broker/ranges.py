"""Sets of offsets, kept as sorted disjoint ranges: work and memory per range, never per offset."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """Offsets as half-open ranges [start, end), which neither overlap nor touch."""

    __slots__ = ("ends", "starts", "total")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.total = 0
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, end: int) -> None:
        """Add [start, end), which must not overlap what is there."""
        assert start < end, (start, end)
        at = bisect_left(self.starts, start)
        assert at == 0 or self.ends[at - 1] <= start, "overlaps the range before"
        assert at == len(self.starts) or end <= self.starts[at], "overlaps the range behind"
        self.total += end - start
        joins_before = at > 0 and self.ends[at - 1] == start
        joins_behind = at < len(self.starts) and self.starts[at] == end
        if joins_before and joins_behind:
            self.ends[at - 1] = self.ends.pop(at)
            del self.starts[at]
        elif joins_before:
            self.ends[at - 1] = end
        elif joins_behind:
            self.starts[at] = start
        else:
            self.starts.insert(at, start)
            self.ends.insert(at, end)

    def end_at(self, offset: int) -> int | None:
        """The end of the range that holds `offset`, or None."""
        at = bisect_right(self.starts, offset) - 1
        return self.ends[at] if at >= 0 and offset < self.ends[at] else None

    def next_start(self, offset: int) -> int | None:
        """The start of the first range at or behind `offset`, or None."""
        at = bisect_left(self.starts, offset)
        return self.starts[at] if at < len(self.starts) else None

    def pop_first(self) -> tuple[int, int]:
        """Take the lowest range out."""
        start, end = self.starts.pop(0), self.ends.pop(0)
        self.total -= end - start
        return start, end

    def cut_below(self, offset: int) -> None:
        """Take out everything below `offset`."""
        while self.starts and self.ends[0] <= offset:
            self.pop_first()
        if self.starts and self.starts[0] < offset:
            self.total -= offset - self.starts[0]
            self.starts[0] = offset

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
