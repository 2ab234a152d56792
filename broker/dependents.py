"""Jobs that wait for other jobs of a queue to end, their parents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

Child = tuple[int, int]  # (queue id, first offset): a batch that waits


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


class Dependents:
    """Who waits for which offsets of one queue. Ranges that are waited for may overlap, one offset ends once."""

    __slots__ = ("_ones", "_ranges")

    def __init__(self) -> None:
        self._ones: dict[int, list[Child]] = {}  # by offset
        self._ranges: list[tuple[int, int, Child, int]] = []  # (first, end, child, how many have not ended)

    def __bool__(self) -> bool:
        return bool(self._ones or self._ranges)

    def add(self, first: int, end: int, child: Child, left: int) -> None:
        """The child waits for all of [first, end), of which `left` have not ended."""
        if end - first == 1:
            self._ones.setdefault(first, []).append(child)
        else:
            self._ranges.append((first, end, child, left))

    def ended(self, first: int, end: int, status: str) -> list[ParentEnd]:
        """What the children of [first, end) are to be told."""
        failed = status != "done"
        told: list[ParentEnd] = []
        ones = self._ones
        if ones:
            few = end - first < len(ones)
            for offset in range(first, end) if few else sorted(it for it in ones if first <= it < end):
                told += [ParentEnd(*child, 1, failed) for child in ones.pop(offset, ())]
        done = False
        for at, (start, stop, child, left) in enumerate(self._ranges):
            count = min(stop, end) - max(start, first)
            if count > 0:
                told.append(ParentEnd(*child, count, failed))
                self._ranges[at] = (start, stop, child, left - count)
                done |= left == count
        if done:
            self._ranges = [some for some in self._ranges if some[3]]
        return told

    def all_children(self) -> list[Child]:
        """Everyone who waits, once each: the queue is deleted."""
        ones = [child for children in self._ones.values() for child in children]
        return sorted({*ones, *(child for _, _, child, _ in self._ranges)})

    def pack(self) -> list[Any]:
        return [sorted(self._ones.items()), self._ranges]

    @staticmethod
    def unpack(packed: Iterable[Any]) -> Dependents:
        ones, ranges = packed
        made = Dependents()
        made._ones = {offset: [(child[0], child[1]) for child in children] for offset, children in ones}
        made._ranges = [(first, end, (child[0], child[1]), left) for first, end, child, left in ranges]
        return made
