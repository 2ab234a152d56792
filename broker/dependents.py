"""Jobs that wait for other jobs of a queue to end, their parents: who they are, and what they are told."""

from __future__ import annotations

from typing import NamedTuple

from .cell_map import CellMap, Key

Child = tuple[int, int]  # (queue id, first offset): a batch that waits
BUCKET_BITS = 10  # a range is looked for by the stretches of 1024 offsets that it reaches into


class Held(NamedTuple):
    """A batch that waits. `left`: parents that have not ended; `due_ms`: it waits until then in any case, or 0."""

    end: int
    left: int
    on_failure: str  # what becomes of it when a parent fails: "cancel" or "release"
    due_ms: int


class ParentEnd(NamedTuple):
    """`ended` of the parents of the batch that begins at `first` are no more open. 0: it is told of a failure alone."""

    queue_id: int
    first: int
    ended: int
    failed: bool


class Awaited(NamedTuple):
    """A stretch that a child waits for: how many of it have not ended, and how often the child has named it."""

    left: int
    times: int


class Dependents:
    """Who waits for which offsets of one queue. Stretches that are waited for may overlap, one offset ends once."""

    __slots__ = ("_by_offset", "_ranges", "awaited")

    def __init__(self) -> None:
        self.awaited: CellMap[Awaited] = CellMap(4, lambda packed: Awaited(*packed))  # by (first, end, *child)
        self._by_offset: dict[int, list[Key]] = {}  # those of one offset
        self._ranges: dict[int, set[Key]] = {}  # the others, by each offset >> BUCKET_BITS that they reach into

    def __bool__(self) -> bool:
        return bool(self.awaited.values)

    def add(self, first: int, end: int, child: Child, left: int) -> None:
        """The child waits for all of [first, end), of which `left` have not ended."""
        key = (first, end, *child)
        known = self.awaited.values.get(key)
        if known is None:
            self._list(key)
        self.awaited.put(key, Awaited(left, 1 if known is None else known.times + 1))

    def _list(self, key: Key) -> None:
        first, end = key[:2]
        if end - first == 1:
            self._by_offset.setdefault(first, []).append(key)
        else:
            for number in _numbers(first, end):
                self._ranges.setdefault(number, set()).add(key)

    def ended(self, first: int, end: int, status: str) -> list[ParentEnd]:
        """What the children of [first, end) are to be told."""
        told: list[ParentEnd] = []
        for key in sorted(self._those_for(first, end)):
            start, stop, queue_id, child = key
            left, times = self.awaited.values[key]
            count = min(stop, end) - max(start, first)
            told.append(ParentEnd(queue_id, child, count * times, status != "done"))
            if count < left:
                self.awaited.put(key, Awaited(left - count, times))
            else:
                self._remove(key)
        return told

    def _those_for(self, first: int, end: int) -> list[Key]:
        """The keys of what has a part in [first, end)."""
        ones, ranges, numbers = self._by_offset, self._ranges, _numbers(first, end)
        at = range(first, end) if end - first < len(ones) else [it for it in ones if first <= it < end]
        some = numbers if len(numbers) < len(ranges) else [it for it in ranges if it in numbers]
        found = {key for it in some for key in ranges.get(it, ()) if key[0] < end and first < key[1]}
        return [*found, *(key for it in at for key in ones.get(it, ()))]

    def _remove(self, key: Key) -> None:
        first, end = key[:2]
        self.awaited.pop(key)
        if end - first == 1:
            self._by_offset.pop(first, None)  # all that wait for one offset are told together
            return
        for number in _numbers(first, end):
            self._ranges[number].discard(key)
            if not self._ranges[number]:
                del self._ranges[number]

    def take_all(self) -> list[Child]:
        """Everyone who waits, once each: the queue is deleted, and nobody waits for it any more."""
        found = sorted({(key[2], key[3]) for key in self.awaited.values})
        self.awaited.clear()
        self._by_offset.clear()
        self._ranges.clear()
        return found

    def restored(self) -> None:
        """`awaited` has been filled from the disk."""
        for key in self.awaited.values:
            self._list(key)


def _numbers(first: int, end: int) -> range:
    return range(first >> BUCKET_BITS, (end - 1 >> BUCKET_BITS) + 1)
