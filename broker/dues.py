"""What falls due, in order of time: a heap of the near future, and the rest packed away second by second."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heappop, heappush

BUCKET_BITS = 10  # a bucket holds 1.024 s


class Dues:
    """(due_ms, offset) pairs in ascending order. Nothing is taken out of the middle: who pops looks if it still holds.

    16 bytes for each pair that is further away than the present bucket, so that a million of them weigh little.
    """

    __slots__ = ("_earliest", "_far", "_far_buckets", "_near", "_near_bucket")

    def __init__(self) -> None:
        self._near: list[tuple[int, int]] = []  # a heap: everything up to `_near_bucket`
        self._near_bucket = 0  # never ahead of the time that was asked for: what lies in it is not packed
        self._far: dict[int, array[int]] = {}
        self._earliest: dict[int, int] = {}  # of each bucket of `_far`
        self._far_buckets: list[int] = []  # a heap of the keys of `_far`

    def add(self, due_ms: int, offset: int) -> None:
        bucket = due_ms >> BUCKET_BITS
        if bucket <= self._near_bucket:
            heappush(self._near, (due_ms, offset))
            return
        packed = self._far.get(bucket)
        if packed is None:
            packed = self._far[bucket] = array("q")
            self._earliest[bucket] = due_ms
            heappush(self._far_buckets, bucket)
        elif due_ms < self._earliest[bucket]:
            self._earliest[bucket] = due_ms
        packed.append(due_ms)
        packed.append(offset)

    def first(self, now_ms: int) -> tuple[int, int] | None:
        """The earliest pair that is due; it stays."""
        present = now_ms >> BUCKET_BITS
        while self._far_buckets and self._far_buckets[0] <= present:
            self._near_bucket = bucket = heappop(self._far_buckets)
            packed = self._far.pop(bucket)
            del self._earliest[bucket]
            for pair in zip(packed[::2], packed[1::2], strict=True):
                heappush(self._near, pair)
        return self._near[0] if self._near and self._near[0][0] <= now_ms else None

    def pop(self) -> tuple[int, int]:
        """Take the earliest pair out. `first` has shown that there is one."""
        return heappop(self._near)

    def next_ms(self) -> int | None:
        """When the earliest pair is due."""
        if self._near:
            return self._near[0][0]
        return self._earliest[self._far_buckets[0]] if self._far_buckets else None

    def due(self, now_ms: int) -> Iterator[tuple[int, int]]:
        """All pairs due at or before `now_ms`, in no order; they stay."""
        self.first(now_ms)
        return (pair for pair in self._near if pair[0] <= now_ms)
