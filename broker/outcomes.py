"""How the jobs of a queue ended: by offset, and as steps in the order of ending. The newest are not on disk yet."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any

from .extents import Outcome, Reader
from .ranges import RangeSet


class Outcomes:
    """The outcomes of one queue. A step is what one log entry ended, and `home` is that entry's index.

    Steps up to `floor` are past their time: they count as gone, whatever of them still lies on disk.
    """

    __slots__ = ("_by_first", "_firsts", "_gone", "floor", "queue_id", "reader", "steps", "taken")

    def __init__(self, queue_id: int, reader: Reader) -> None:
        self.queue_id = queue_id
        self.reader = reader
        self.steps: dict[int, list[Outcome]] = {}  # by home, ascending; all steps on disk lie below them
        self.floor = 0
        self.taken: dict[int, RangeSet] = {}  # by home: jobs forgotten before their time, where others are kept
        self._by_first: dict[int, Outcome] = {}
        self._firsts: list[int] = []
        self._gone: set[int] = set()  # homes of whole steps that were forgotten, and still lie on disk

    def add(self, outcome: Outcome) -> None:
        self.steps.setdefault(outcome.home, []).append(outcome)
        self._by_first[outcome.first] = outcome
        insort(self._firsts, outcome.first)

    def at(self, offset: int) -> Outcome | None:
        """The outcome of the job at `offset`, if one is kept, with those beside it that ended alike."""
        found = self._as_ended(offset)
        if found is None or found.home not in self.taken:
            return found
        return next((part for part in self._kept(found) if part.first <= offset < part.first + part.count), None)

    def _as_ended(self, offset: int) -> Outcome | None:
        """As `at`, with what was forgotten since, if others of the step are kept."""
        at = bisect_right(self._firsts, offset) - 1
        if at >= 0:
            found = self._by_first[self._firsts[at]]
            if offset < found.first + found.count:
                return found
        row = self.reader.outcome(self.queue_id, offset)
        if row is None or offset >= row[0] + row[1] or row[2] <= self.floor or row[2] in self._gone:
            return None
        step = self.reader.step(self.queue_id, row[2])
        assert step is not None, (self.queue_id, row)
        return next(outcome for outcome in step if outcome.first == row[0])

    def _kept(self, outcome: Outcome) -> Iterator[Outcome]:
        """The parts of it that were not forgotten."""
        taken = self.taken.get(outcome.home)
        if taken is None:
            yield outcome
            return
        for first, end in taken.gaps(outcome.first, outcome.first + outcome.count):
            by = first - outcome.first
            yield outcome._replace(
                first=first,
                count=end - first,
                start=outcome.start + by if outcome.each else outcome.start,
                dead_offset=outcome.dead_offset + by if outcome.dead_offset >= 0 else -1,
            )

    def from_offset(self, offset: int) -> Iterator[Outcome]:
        """The kept outcomes that reach to `offset` or behind it, ascending by offset."""
        while True:
            found = self._as_ended(offset)
            if found is not None:
                yield from (part for part in self._kept(found) if part.first + part.count > offset)
                offset = found.first + found.count
                continue
            starts = [
                first
                for first in (self.reader.next_outcome(self.queue_id, offset), self._next_first(offset))
                if first is not None
            ]
            if not starts:
                return
            # One that does not count is of a forgotten step, which leaves the disk with the next checkpoint.
            offset = min(starts) if self._as_ended(min(starts)) is not None else min(starts) + 1

    def _next_first(self, offset: int) -> int | None:
        at = bisect_left(self._firsts, offset)
        return self._firsts[at] if at < len(self._firsts) else None

    def after(self, home: int) -> Iterator[tuple[int, list[Outcome]]]:
        """The steps behind `home`, in the order in which the jobs ended; of each what is kept."""
        for step_home, step in self.steps_after(home):
            yield step_home, [part for outcome in step for part in self._kept(outcome)]

    def steps_after(self, home: int) -> Iterator[tuple[int, list[Outcome]]]:
        """As `after`, with all of each step: as it lies on disk."""
        home = max(home, self.floor)
        while (next_home := self.reader.next_step(self.queue_id, home)) is not None:
            home = next_home
            if home not in self._gone:
                step = self.reader.step(self.queue_id, home)
                assert step is not None, (self.queue_id, home)
                yield home, step
        recent = list(self.steps)
        for next_home in recent[bisect_right(recent, home) :]:
            yield next_home, self.steps[next_home]

    def oldest_ms(self) -> int | None:
        """When the oldest kept step was logged."""
        for _, step in self.steps_after(0):
            return step[0].stamp_ms
        return None

    def raise_floor(self, home: int) -> None:
        """Steps up to `home` are past their time."""
        self.floor = home
        self.taken.pop(home, None)

    def forget(self, outcome: Outcome, offset: int) -> list[Outcome] | None:
        """The outcome of the job at `offset`, which is this one, goes before its time.

        Returns the step if it lies on disk and nothing of it is kept, [] if it was in memory, None if others are kept.
        """
        home = outcome.home
        taken = self.taken.setdefault(home, RangeSet())
        taken.add(offset, offset + 1)
        step = self.steps.get(home)
        whole = step if step is not None else self.reader.step(self.queue_id, home)
        assert whole is not None, (self.queue_id, home)
        if taken.total < sum([each.count for each in whole]):
            return None
        del self.taken[home]
        if step is not None:
            self.drop_recent(home)
            return []
        self._gone.add(home)
        return whole

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
        self._gone.clear()
        return steps

    def pack(self) -> list[Any]:
        """What a checkpoint keeps of it beside the rows."""
        return [self.floor, [(home, list(taken)) for home, taken in sorted(self.taken.items())]]

    def restore(self, packed: Any) -> None:
        """What `pack` packed."""
        self.floor = packed[0]
        self.taken = {home: RangeSet(ranges) for home, ranges in packed[1]}
