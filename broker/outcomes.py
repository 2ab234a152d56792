"""How the jobs of a queue ended: by offset, and as steps in the order of ending. The newest are not on disk yet."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from .extents import Outcome, Reader


class Outcomes:
    """The outcomes of one queue. A step is what one log entry ended, and `home` is that entry's index.

    Steps up to `floor` are past their time: they count as gone, whatever of them still lies on disk.
    """

    __slots__ = ("_by_first", "_firsts", "floor", "queue_id", "reader", "steps")

    def __init__(self, queue_id: int, reader: Reader) -> None:
        self.queue_id = queue_id
        self.reader = reader
        self.steps: dict[int, list[Outcome]] = {}  # by home, ascending; all steps on disk lie below them
        self.floor = 0
        self._by_first: dict[int, Outcome] = {}
        self._firsts: list[int] = []

    def add(self, outcome: Outcome) -> None:
        self.steps.setdefault(outcome.home, []).append(outcome)
        self._by_first[outcome.first] = outcome
        insort(self._firsts, outcome.first)

    def at(self, offset: int) -> Outcome | None:
        """The outcome of the job at `offset`, if one is kept."""
        at = bisect_right(self._firsts, offset) - 1
        if at >= 0:
            found = self._by_first[self._firsts[at]]
            if offset < found.first + found.count:
                return found
        row = self.reader.outcome(self.queue_id, offset)
        if row is None or offset >= row[0] + row[1] or row[2] <= self.floor:
            return None
        step = self.reader.step(self.queue_id, row[2])
        assert step is not None, (self.queue_id, row)
        return next(outcome for outcome in step if outcome.first == row[0])

    def from_offset(self, offset: int) -> Iterator[Outcome]:
        """The kept outcomes that reach to `offset` or behind it, ascending by offset."""
        while True:
            outcome = self.at(offset)
            if outcome is None:
                starts = [
                    first
                    for first in (self.reader.next_outcome(self.queue_id, offset), self._next_first(offset))
                    if first is not None
                ]
                if not starts:
                    return
                outcome = self.at(min(starts))
                if outcome is None:  # a row of a forgotten step, which leaves the disk with the next checkpoint
                    offset = min(starts) + 1
                    continue
            yield outcome
            offset = outcome.first + outcome.count

    def _next_first(self, offset: int) -> int | None:
        at = bisect_left(self._firsts, offset)
        return self._firsts[at] if at < len(self._firsts) else None

    def after(self, home: int) -> Iterator[tuple[int, list[Outcome]]]:
        """The steps behind `home`, in the order in which the jobs ended."""
        home = max(home, self.floor)
        while (next_home := self.reader.next_step(self.queue_id, home)) is not None:
            step = self.reader.step(self.queue_id, next_home)
            assert step is not None, (self.queue_id, next_home)
            yield next_home, step
            home = next_home
        recent = list(self.steps)
        for next_home in recent[bisect_right(recent, home) :]:
            yield next_home, self.steps[next_home]

    def oldest_ms(self) -> int | None:
        """When the oldest kept step was logged."""
        for _, step in self.after(0):
            return step[0].stamp_ms
        return None

    def drop_recent(self, home: int) -> None:
        """Forget a step that never reached the disk."""
        for outcome in self.steps.pop(home):
            del self._by_first[outcome.first]
            del self._firsts[bisect_left(self._firsts, outcome.first)]

    def take_recent(self) -> dict[int, list[Outcome]]:
        """Hand the steps in memory over to the disk."""
        steps, self.steps = self.steps, {}
        self._by_first.clear()
        self._firsts.clear()
        return steps
