"""Rank 0's second role: takes batches from the runner, gives chunks to the ranks, and hands their results back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import zmq

from .batch import Assignment, Scheduler
from .cancels import Cancels
from .faults import cancelled
from .frames import Fault, Frame, Jobs, Kind, decode, pack, pack_jobs, pack_results, unpack_jobs, unpack_results
from .links import Links
from .settings import WorldSettings

COMMUNICATORS_MAX = 256  # MPI has room for about 2,000; above this they are made and freed for each collective job


@dataclass(slots=True)
class _Batch:
    jobs: Jobs
    time_limit_s: float  # 0: none
    left: int


@dataclass(slots=True)
class _Together:
    """A collective job that runs: who takes part, and what came back."""

    assignment: Assignment
    result: bytes | None = None
    seconds: float = 0.0
    faults: list[tuple[int, Fault]] = field(default_factory=list)
    left: int = 0


class Master:
    """Between one runner and all ranks. `run_here` takes the frames that are for rank 0 itself."""

    def __init__(
        self, links: Links, settings: WorldSettings, cancels: Cancels, run_here: Callable[[Frame], None]
    ) -> None:
        self._links = links
        self._cancels = cancels
        self._traits = settings.traits
        self._run_here = run_here
        self._scheduler = Scheduler(links.size, settings.traits)
        self._batches: dict[int, _Batch] = {}
        self._together: dict[int, _Together] = {}
        self._groups: set[tuple[int, ...]] = set()
        self.stopping = False
        self._context = zmq.Context()
        self.runner: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self.runner.linger = 1000
        self.runner.connect(settings.endpoint)

    def say_ready(self, pids: list[tuple[int, int]]) -> None:
        ranks, helpers = [each[0] for each in pids], [each[1] for each in pids]
        payload = pack({"ranks": ranks, "helpers": helpers, "hosts": self._links.hosts})
        self._tell(Frame(Kind.READY, payload=payload))

    def hear_runner(self) -> None:
        """Take all that the runner has sent."""
        while self.runner.poll(0):
            frame = decode(self.runner.recv())
            match frame.kind:
                case Kind.JOBS:
                    self._add(frame)
                case Kind.DROP:
                    self._drop()
                case Kind.KILL:
                    self._kill(frame)
                case Kind.STOP:
                    self.stopping = True
                case _:
                    raise AssertionError(f"the runner sent {frame.kind!r}")

    def hear_rank(self, frame: Frame) -> None:
        """A rank, perhaps this one, has something to tell."""
        match frame.kind:
            case Kind.RESULTS:
                self._scheduler.ended(frame.chunk, frame.size, frame.seconds)
                self._pass_on(frame)
            case Kind.MEMBER:
                self._hear_member(frame)
            case Kind.HELPER | Kind.TOLD:
                self._tell(frame)
            case _:
                raise AssertionError(f"rank {frame.rank} sent {frame.kind!r}")

    def dispatch(self) -> None:
        """Start what can be started. What blocks this rank comes last: a collective job that it is part of."""
        mine: list[Frame] = []
        for assignment in self._assign():
            frame = self._frame(assignment)
            for rank in assignment.ranks:
                if rank != 0:
                    self._links.send(rank, frame)
                elif frame.kind is Kind.COLLECTIVE:
                    mine.append(frame)
                else:
                    self._run_here(frame)
        if mine:
            self._links.finish_sending()
            for frame in mine:
                self._run_here(frame)

    def close(self) -> None:
        for rank in range(1, self._links.size):
            self._links.send(rank, Frame(Kind.STOP))
        self.runner.close()
        self._context.term()

    def _add(self, frame: Frame) -> None:
        jobs = unpack_jobs(frame.payload)
        self._batches[frame.batch] = _Batch(jobs, frame.seconds, len(jobs.bodies))
        self._scheduler.add(frame.batch, jobs.task, len(jobs.bodies), sum(map(len, jobs.bodies)), _now_ms())

    def _drop(self) -> None:
        for span in self._scheduler.drop():
            self._forget(span.batch, span.size)
            self._tell(Frame(Kind.DROPPED, batch=span.batch, first=span.first, size=span.size))

    def _assign(self) -> Iterator[Assignment]:
        """What is to be started now. A collective job that was cancelled is not: all its members must see that alike,
        so it is looked at here. The others look by themselves."""
        while assignments := self._scheduler.assign(_now_ms()):
            for assignment in assignments:
                wide = self._traits[self._batches[assignment.batch].jobs.task].width
                if wide and self._cancels.holds(assignment.batch, assignment.first):
                    self._skip(assignment)
                else:
                    yield assignment

    def _skip(self, assignment: Assignment) -> None:
        chunk, ranks, batch, first, _ = assignment
        self._scheduler.ended(chunk, 1, 0.0)
        payload = pack_results([None], [Fault(first, cancelled(ranks[0]))])
        self._pass_on(Frame(Kind.RESULTS, chunk, batch, first, 1, ranks[0], 0.0, payload))

    def _kill(self, frame: Frame) -> None:
        for rank in self._scheduler.ranks_of(frame.batch, frame.first):
            self._run_here(frame) if rank == 0 else self._links.send(rank, frame)

    def _frame(self, assignment: Assignment) -> Frame:
        chunk, ranks, batch, first, size = assignment
        found = self._batches[batch]
        jobs = found.jobs.cut(first, first + size)
        if not self._traits[jobs.task].width:
            return Frame(Kind.JOBS, chunk, batch, first, size, seconds=found.time_limit_s, payload=pack_jobs(jobs))
        keep = ranks in self._groups or len(self._groups) < COMMUNICATORS_MAX
        if keep:
            self._groups.add(ranks)
        self._together[chunk] = _Together(assignment, left=len(ranks))
        self._tell(Frame(Kind.STARTED, chunk, batch, first, size))
        return Frame(Kind.COLLECTIVE, chunk, batch, first, size, payload=pack([*jobs, ranks, keep]))

    def _hear_member(self, frame: Frame) -> None:
        together = self._together[frame.chunk]
        results, faults = unpack_results(frame.payload)
        together.left -= 1
        together.seconds = max(together.seconds, frame.seconds)
        together.faults.extend((frame.rank, fault) for fault in faults)
        if frame.rank == together.assignment.ranks[0]:
            together.result = results[0]
        if together.left == 0:
            self._end_together(together)

    def _end_together(self, together: _Together) -> None:
        chunk, ranks, batch, first, _ = together.assignment
        del self._together[chunk]
        faults: list[Fault] = []
        if together.faults:
            faults = [min(together.faults)[1]]  # of several, the one of the lowest rank
            self._groups.discard(ranks)
            for rank in ranks:
                over = Frame(Kind.OVER, payload=pack(ranks))
                self._run_here(over) if rank == 0 else self._links.send(rank, over)
        self._scheduler.ended(chunk, 1, together.seconds)
        payload = pack_results([None if faults else together.result], faults)
        self._pass_on(Frame(Kind.RESULTS, chunk, batch, first, 1, ranks[0], together.seconds, payload))

    def _pass_on(self, frame: Frame) -> None:
        self._forget(frame.batch, frame.size)
        self._tell(frame)

    def _forget(self, batch: int, count: int) -> None:
        self._batches[batch].left -= count
        if not self._batches[batch].left:
            del self._batches[batch]

    def _tell(self, frame: Frame) -> None:
        self.runner.send(frame.encode())


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
