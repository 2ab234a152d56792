"""Which jobs a world has in hand, and which of them are to be run with nothing else beside them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Progress = tuple[float, str]


class Group(NamedTuple):
    """Jobs of one task, with one time limit (None: that of the task), that go to the ranks together."""

    task: str
    messages: Sequence[Any]
    time_limit_s: float | None = None

    def halves(self) -> tuple[Group, Group]:
        half = len(self.messages) // 2
        return self._replace(messages=self.messages[:half]), self._replace(messages=self.messages[half:])


@dataclass(slots=True)
class _Batch:
    group: Group
    open: bytearray  # 1 for each job that has not ended
    left: int
    progress: dict[int, Progress] = field(default_factory=dict)  # of jobs that told any, by place


@dataclass(slots=True)
class Ledger:
    """Pure bookkeeping: batch numbers and places on one side, leased messages on the other."""

    _batches: dict[int, _Batch] = field(default_factory=dict)
    _number: int = 0
    in_hand: int = 0

    def enter(self, group: Group) -> int:
        """The number of a new batch. Numbers are never used twice: a slot of an old world means nothing new."""
        self._number += 1
        size = len(group.messages)
        self._batches[self._number] = _Batch(group, bytearray(b"\x01" * size), size)
        self.in_hand += size
        return self._number

    def settle(self, batch: int, first: int, count: int) -> Sequence[Any]:
        """The messages of `count` jobs from `first` on, which have ended."""
        entry = self._batches[batch]
        assert entry.open[first : first + count] == b"\x01" * count, (batch, first, count)
        entry.open[first : first + count] = bytes(count)
        entry.left -= count
        self.in_hand -= count
        if not entry.left:
            del self._batches[batch]
        return entry.group.messages[first : first + count]

    def note(self, batch: int, place: int, progress: Progress) -> None:
        """A job in hand tells how far it is."""
        self._batches[batch].progress[place] = progress

    def progress(self, batch: int, place: int) -> Progress | None:
        """What a job in hand told last."""
        return self._batches[batch].progress.get(place)

    def message(self, batch: int, place: int) -> Any | None:
        """That of a job in hand; None if it has ended."""
        return self._batches[batch].group.messages[place] if self.holds(batch, place) else None

    def find(self, messages: Iterable[Any]) -> dict[int, tuple[int, int]]:
        """Batch and place of those of these messages that are in hand, by the `id` of the object."""
        wanted = {id(message) for message in messages}
        return {
            id(message): (batch, place)
            for batch, entry in self._batches.items()
            for place, message in enumerate(entry.group.messages)
            if id(message) in wanted and entry.open[place]
        }

    def peek(self, batch: int) -> Group:
        return self._batches[batch].group

    def holds(self, batch: int, place: int) -> bool:
        """Is this job in hand, not ended?"""
        entry = self._batches.get(batch)
        return entry is not None and place < len(entry.open) and bool(entry.open[place])

    def extract(self, batch: int, first: int, count: int) -> Group | None:
        """Take those of these jobs that have not ended out of the ledger; None if there are none."""
        places = [place for place in range(first, first + count) if self.holds(batch, place)]
        if not places:
            return None
        group = self._batches[batch].group
        return group._replace(messages=[self.settle(batch, place, 1)[0] for place in places])

    def extract_all(self) -> list[Group]:
        """Everything that has not ended; the ledger is empty then."""
        groups = [
            entry.group._replace(
                messages=[m for m, is_open in zip(entry.group.messages, entry.open, strict=True) if is_open]
            )
            for entry in self._batches.values()
        ]
        self._batches.clear()
        self.in_hand = 0
        return groups


@dataclass(slots=True)
class Quarantine:
    """Suspects of a world's death. Each group runs alone: if the world dies again, it is among these."""

    _waiting: deque[Group] = field(default_factory=deque)
    running: bool = False

    def __bool__(self) -> bool:
        return bool(self._waiting) or self.running

    def admit(self, groups: Iterable[Group]) -> None:
        self._waiting.extend(groups)

    def next(self) -> Group | None:
        if self.running or not self._waiting:
            return None
        self.running = True
        return self._waiting.popleft()

    def survived(self) -> None:
        """The group that ran has ended, and the world lives."""
        self.running = False

    def died(self, groups: Sequence[Group]) -> Any | None:
        """The world died with only these open. The message if that names one; else they are split and wait on."""
        self.running = False
        if sum(len(group.messages) for group in groups) == 1:
            return next(group.messages[0] for group in groups if group.messages)
        for group in reversed(groups):
            self._waiting.extendleft(half for half in reversed(group.halves()) if half.messages)
        return None

    def drain(self) -> list[Group]:
        groups = list(self._waiting)
        self._waiting.clear()
        return groups
