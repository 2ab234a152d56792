"""What falls due, in order of time: a heap of the near future, and the rest packed away second by second."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import takewhile
from typing import TypeVar

T = TypeVar("T", int, tuple[int, int])
BUCKET_BITS = 10  # a bucket holds 1.024 s
LOOKED_MAX = 64  # pairs looked through for the next one, behind some that are due and still there


def ascending(heap: list[T]) -> Iterator[T]:
    """What lies in a heap, in order; it stays, and must not change meanwhile."""
    ahead = [(heap[0], 0)] if heap else []
    while ahead:
        found, at = heappop(ahead)
        yield found
        for below in (2 * at + 1, 2 * at + 2):
            if below < len(heap):
                heappush(ahead, (heap[below], below))


class Dues:
    """(due_ms, offset) pairs in ascending order. Nothing is taken out of the middle: who pops looks if it still holds.

    16 bytes for each pair that is further away than the present bucket, so that a million of them weigh little. What
    does not hold any more is thrown out by `thin`, a bucket at a time.
    """

    __slots__ = ("_earliest", "_far", "_far_buckets", "_listed", "_near", "_near_bucket", "_thinning", "count")

    def __init__(self) -> None:
        self.count = 0  # pairs
        self._near: list[tuple[int, int]] = []  # a heap: everything up to `_near_bucket`
        self._near_bucket = 0  # never ahead of the time that was asked for: what lies in it is not packed
        self._far: dict[int, array[int]] = {}
        self._earliest: dict[int, int] = {}  # of each bucket of `_far`
        self._far_buckets: list[int] = []  # a heap of the keys of `_far`, and of some that were thinned to nothing
        self._listed: set[int] = set()  # what is in that heap
        self._thinning: list[int] = []  # buckets of `_far` that are thinned next, the first one last

    def add(self, due_ms: int, offset: int) -> None:
        self.count += 1
        bucket = due_ms >> BUCKET_BITS
        if bucket <= self._near_bucket:
            heappush(self._near, (due_ms, offset))
            return
        packed = self._far.get(bucket)
        if packed is None:
            packed = self._far[bucket] = array("q")
            self._earliest[bucket] = due_ms
            if bucket not in self._listed:
                self._listed.add(bucket)
                heappush(self._far_buckets, bucket)
        elif due_ms < self._earliest[bucket]:
            self._earliest[bucket] = due_ms
        packed.append(due_ms)
        packed.append(offset)

    def first(self, now_ms: int) -> tuple[int, int] | None:
        """The earliest pair that is due; it stays."""
        present = now_ms >> BUCKET_BITS
        while (bucket := self._next_bucket()) is not None and bucket <= present:
            self._near_bucket = bucket
            packed = self._far.pop(bucket)
            del self._earliest[bucket]
            for pair in zip(packed[::2], packed[1::2], strict=True):
                heappush(self._near, pair)
        return self._near[0] if self._near and self._near[0][0] <= now_ms else None

    def _next_bucket(self) -> int | None:
        """The earliest bucket of `_far`."""
        while self._far_buckets and self._far_buckets[0] not in self._far:
            self._listed.discard(heappop(self._far_buckets))
        return self._far_buckets[0] if self._far_buckets else None

    def pop(self) -> tuple[int, int]:
        """Take the earliest pair out. `first` has shown that there is one."""
        self.count -= 1
        return heappop(self._near)

    def next_ms(self, now_ms: int) -> int | None:
        """When a pair falls due after `now_ms`: at or before that time, behind those that are due and still there."""
        near = self._near
        if near and near[0][0] > now_ms:
            return near[0][0]
        if near and self._near_bucket >= now_ms >> BUCKET_BITS:
            if len(near) > LOOKED_MAX:  # behind the first ones nothing is in order
                return (self._near_bucket + 1) << BUCKET_BITS
            if ahead := [due_ms for due_ms, _ in near if due_ms > now_ms]:
                return min(ahead)
        bucket = self._next_bucket()
        return None if bucket is None else self._earliest[bucket]

    def thin(self, holds: Callable[[int, int], bool]) -> None:
        """Throw out of one far bucket what no longer `holds` (due_ms, offset). Called again, it goes on to the next."""
        if not self._thinning:
            self._thinning = sorted(self._far, reverse=True)
        while self._thinning:
            bucket = self._thinning.pop()
            packed = self._far.get(bucket)
            if packed is None:
                continue
            kept = [pair for pair in zip(packed[::2], packed[1::2], strict=True) if holds(*pair)]
            self.count -= len(packed) // 2 - len(kept)
            if kept:
                self._far[bucket] = array("q", [number for pair in kept for number in pair])
                self._earliest[bucket] = min(kept)[0]
            else:
                del self._far[bucket], self._earliest[bucket]
            return

    def in_order(self, now_ms: int) -> Iterator[tuple[int, int]]:
        """The pairs due at or before `now_ms`, the earliest first; they stay. No more are looked at than are taken."""
        self.first(now_ms)
        return takewhile(lambda pair: pair[0] <= now_ms, ascending(self._near))

    def due(self, now_ms: int) -> Iterator[tuple[int, int]]:
        """All pairs due at or before `now_ms`, in no order; they stay."""
        self.first(now_ms)
        return (pair for pair in self._near if pair[0] <= now_ms)
