"""Which rank gets which jobs next: guided chunks of independent jobs, whole sets of ranks for collective ones.

Pure: it sees numbers of jobs, never their bodies, and is told the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

CHUNK_MAX = 4096  # bounds what is done again when a helper dies
CHUNK_BYTES_MAX = 8 << 20  # bounds what rank 0 holds for ranks that are still busy
CHUNK_SECONDS = 0.05  # results flow, and the last chunks end together
CHUNK_SECONDS_MIN = 0.002  # below this the way to a rank and back costs more than the work
FIRST_CHUNK = 4  # of a task whose pace is not known yet
CHUNKS_IN_FLIGHT = 2  # the second waits at the rank, so that the first's end costs no round trip
AGEING_MS = 500  # from then on ranks are held free for a collective job


class Traits(NamedTuple):
    """What the engine must know of a task. `width`: how many ranks a collective one takes; 0: it is independent."""

    width: int = 0
    batch: bool = False


class Assignment(NamedTuple):
    """Jobs `first` to `first + size` of a batch, for one rank, or one job for several."""

    chunk: int
    ranks: tuple[int, ...]
    batch: int
    first: int
    size: int


class Span(NamedTuple):
    """Some neighbouring jobs of a batch."""

    batch: int
    first: int
    size: int


@dataclass(slots=True)
class _Pending:
    batch: int
    task: str
    first: int
    count: int
    bytes_each: float
    since_ms: int


@dataclass(slots=True)
class _Running:
    assignment: Assignment
    task: str
    left: int
    seconds: float = 0.0


@dataclass(slots=True)
class Scheduler:
    """The state of one world: what waits, what runs where, and how fast each task is."""

    ranks: int
    tasks: Mapping[str, Traits]
    _narrow: deque[_Pending] = field(default_factory=deque)
    _wide: deque[_Pending] = field(default_factory=deque)
    _running: dict[int, _Running] = field(default_factory=dict)
    _load: list[int] = field(default_factory=list)
    _pace: dict[str, float] = field(default_factory=dict)
    _chunks: int = 0

    def __post_init__(self) -> None:
        self._load = [0] * self.ranks

    def add(self, batch: int, task: str, count: int, size_bytes: int, now_ms: int) -> None:
        """`count` jobs of `task`, together `size_bytes` long, are to be run."""
        waiting = self._wide if self.tasks[task].width else self._narrow
        waiting.append(_Pending(batch, task, 0, count, size_bytes / count, now_ms))

    def assign(self, now_ms: int) -> list[Assignment]:
        """What is to be started now; it counts as running from here on."""
        assigned = []
        held: set[int] = set()
        while self._wide:
            pending = self._wide[0]
            free = [rank for rank in range(self.ranks) if self._load[rank] == 0]
            width = self.tasks[pending.task].width
            if len(free) < width:
                if now_ms - pending.since_ms >= AGEING_MS:
                    held = self._soonest(width)
                break
            assigned.append(self._start(self._wide, 1, tuple(free[-width:])))  # rank 0 last: it also serves the others
        while self._narrow:
            rank = self._emptiest(held)
            if rank is None:
                break
            assigned.append(self._start(self._narrow, self._chunk_size(), (rank,)))
        return assigned

    def ended(self, chunk: int, count: int, seconds: float) -> bool:
        """`count` jobs of a chunk have ended after `seconds` of work. True if it was the rest of the chunk."""
        running = self._running[chunk]
        running.left -= count
        running.seconds += seconds
        assert running.left >= 0, running
        if running.left:
            return False
        del self._running[chunk]
        for rank in running.assignment.ranks:
            self._load[rank] -= self._weight(running.task)
        self._learn(running)
        return True

    def drop(self) -> list[Span]:
        """Forget what has not begun."""
        spans = [Span(pending.batch, pending.first, pending.count) for pending in (*self._wide, *self._narrow)]
        self._wide.clear()
        self._narrow.clear()
        return spans

    def ranks_of(self, batch: int, place: int) -> tuple[int, ...]:
        """Where this job runs, or waits behind others of its chunk; () if it was not given to any rank yet."""
        for running in self._running.values():
            _, ranks, its_batch, first, size = running.assignment
            if its_batch == batch and first <= place < first + size:
                return ranks
        return ()

    def seconds_each(self, task: str) -> float | None:
        """How long a job of `task` took lately; None before the first has ended."""
        return self._pace.get(task)

    def _start(self, waiting: deque[_Pending], count: int, ranks: tuple[int, ...]) -> Assignment:
        pending = waiting[0]
        self._chunks += 1
        assignment = Assignment(self._chunks, ranks, pending.batch, pending.first, count)
        self._running[self._chunks] = _Running(assignment, pending.task, count)
        for rank in ranks:
            self._load[rank] += self._weight(pending.task)
        pending.first += count
        pending.count -= count
        if not pending.count:
            waiting.popleft()
        return assignment

    def _weight(self, task: str) -> int:
        """A rank in a collective job hears nothing until that ends: nothing must wait there."""
        return CHUNKS_IN_FLIGHT if self.tasks[task].width else 1

    def _emptiest(self, held: set[int]) -> int | None:
        """The rank to feed next. Long jobs are not stacked: another rank may be free sooner."""
        pace = self._pace.get(self._narrow[0].task)
        depth = CHUNKS_IN_FLIGHT if pace is not None and pace < CHUNK_SECONDS else 1
        open_ranks = [rank for rank in range(self.ranks) if rank not in held and self._load[rank] < depth]
        return min(open_ranks, key=lambda rank: (self._load[rank], -rank), default=None)

    def _soonest(self, width: int) -> set[int]:
        return set(sorted(range(self.ranks), key=lambda rank: (self._load[rank], -rank))[:width])

    def _chunk_size(self) -> int:
        """Guided: a share of what waits, so chunks get smaller towards the end, within what time and size allow."""
        pending = self._narrow[0]
        waiting = sum(each.count for each in self._narrow if each.task == pending.task)
        size = ceil(waiting / (2 * self.ranks))
        pace = self._pace.get(pending.task)
        if pace is None:
            size = min(size, FIRST_CHUNK)
        elif pace > 0:
            size = max(size, int(CHUNK_SECONDS_MIN / pace))
            size = min(size, int(CHUNK_SECONDS / pace))
        size = min(size, CHUNK_MAX, int(CHUNK_BYTES_MAX / max(pending.bytes_each, 1)), pending.count)
        return max(1, size)

    def _learn(self, running: _Running) -> None:
        pace = running.seconds / running.assignment.size
        known = self._pace.get(running.task)
        # Half of the new: a task whose jobs grow is followed within a few chunks, one odd job is not taken for all.
        self._pace[running.task] = pace if known is None else 0.5 * known + 0.5 * pace
