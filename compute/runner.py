"""Jobs on their way: from the source to the ranks and back, and to safety when a world dies."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..peers.errors import InvalidArgument
from .cancelled import CancelledJobs
from .faults import died, pack_fault
from .feeder import TAKE_MAX, Feeder
from .frames import Fault, Frame, Jobs, Kind, pack_jobs, unpack_results
from .ledger import Group, Ledger, Quarantine
from .source import Source, Terms
from .task import Task
from .telling import words_of
from .world import World

AHEAD_S = 0.5  # this much work is leased ahead, so that ranks never wait for the broker
IN_HAND_MAX = 4 * TAKE_MAX  # bounds what one pool keeps from others
IN_HAND_BYTES_MAX = 64 << 20  # bounds memory; above it, one job for each rank
FIRST_TAKE = 8  # jobs for each rank before the pace is known
CANCEL_GRACE_S = 5.0
FAILURE_REASON = "the job's arguments are wrong"
POISON_REASON = "the job ended the MPI world although it ran alone"


@dataclass(slots=True)
class Counters:
    """Jobs: leased, completed for good, failed tries, given back untried, cancelled in hand; and when the last result
    was confirmed."""

    taken: int = 0
    done: int = 0
    failed: int = 0
    returned: int = 0
    cancelled: int = 0
    last_result_ms: int | None = None


class Runner:
    """Between a source and one world at a time."""

    def __init__(
        self,
        source: Source,
        feeder: Feeder,
        tasks: Mapping[str, Task[..., Any]],
        ranks: int,
        cancel_grace_s: float = CANCEL_GRACE_S,
    ) -> None:
        self._source = source
        self._feeder = feeder
        self._tasks = tasks
        self._ranks = ranks
        self._default = default_task(tasks)
        self._world: World | None = None
        self._ledger = Ledger()
        self._quarantine = Quarantine()
        self._waiting: deque[Group] = deque()
        self._collective: dict[tuple[int, int], float] = {}  # those that run: (batch, place) -> when their time is over
        self._cancelled = CancelledJobs(cancel_grace_s)
        self._gone = 0  # jobs that were taken and are not ours any more
        self._pace_s: float | None = None
        self._bytes_each = 0.0  # of the jobs that came last
        self._draining = False
        self.told = 0  # how often jobs said something
        self.counters = Counters()

    @property
    def in_hand(self) -> int:
        return self._feeder.taken - self._gone

    @property
    def running(self) -> int:
        """Jobs that are with the world."""
        return self._ledger.in_hand

    def attach(self, world: World) -> None:
        """This world is ready for jobs."""
        self._world = world

    def hear_feeder(self) -> None:
        for messages in self._feeder.batches():
            self.counters.taken += len(messages)
            self._bytes_each = sum(len(message.body) for message in messages) / len(messages)
            self._waiting.extend(self._sort(messages))

    def pump(self) -> None:
        """Give the world what it may have, and say how much more may be leased."""
        world = self._world
        if self._ledger.in_hand == 0:
            self._quarantine.survived()
        if world is None or self._draining:
            self._feeder.allow(0)
        elif self._quarantine:
            self._feeder.allow(0)
            self._send_alone(world)
        else:
            while self._waiting:
                self._send(world, self._waiting.popleft())
            target = self._target()
            self._feeder.allow(self._gone + target, max(1, target // 4))

    def hear(self, frame: Frame) -> None:
        """A frame from rank 0."""
        match frame.kind:
            case Kind.RESULTS:
                self._end(frame)
            case Kind.DROPPED:
                self._release(self._ledger.settle(frame.batch, frame.first, frame.size))
            case Kind.STARTED:
                self._started(frame)
            case Kind.TOLD:
                self._tell(frame)
            case Kind.READY | Kind.HELPER:
                pass
            case _:
                raise AssertionError(f"rank 0 sent {frame.kind!r}")

    def confirm(self, timeout_s: float = 0.0) -> None:
        """Count what the broker has confirmed."""
        done = self._source.confirm(timeout_s)
        if done:
            self.counters.done += done
            self.counters.last_result_ms = time.time_ns() // 1_000_000

    def cancel(self) -> None:
        """Hear which jobs were cancelled: those that have not begun never will, those that run find a flag. Those that
        go on for longer than the grace are killed."""
        messages = self._source.cancelled()
        if messages:
            self._note_cancelled(messages)
        if self._cancelled and self._world is not None:
            for batch, place in self._cancelled.overdue(time.monotonic()):
                self._world.send(Frame(Kind.KILL, batch=batch, first=place, size=1))

    def wait_s(self) -> float | None:
        """Until the time of a job is over: the limit of a collective one, or the grace of a cancelled one."""
        now = time.monotonic()
        waits_s = [max(0.0, min(self._collective.values()) - now)] if self._collective else []
        grace_s = None if self._world is None else self._cancelled.wait_s(now)  # without a world nothing runs
        return min([*waits_s, *([] if grace_s is None else [grace_s])], default=None)

    def overdue(self) -> bool:
        """Does a collective job run beyond its limit? Only the end of the world can stop it."""
        now = time.monotonic()
        return any(deadline <= now for deadline in self._collective.values())

    def recover(self, world: World) -> bool:
        """A world has died and all its frames are heard: blame, isolate, give back. True if a job may explain it."""
        self._world = None
        blamed = known = self._blame_known(world)
        if not known and self._quarantine.running:
            self._split_suspects(world)
            blamed = True
        elif not known:
            suspects = self._suspects(world)
            self._quarantine.admit(suspects)
            blamed = bool(suspects)
        self._quarantine.survived()
        self._collective.clear()
        left = [group for group in self._ledger.extract_all() if group.messages]
        if known and not self._draining:
            self._waiting.extendleft(reversed(left))  # the one to blame is not among them: they cost no try
        else:
            for group in left:
                self._release(group.messages)
        return blamed

    def now_running(self, world: World) -> list[dict[str, Any]]:
        """What the ranks of this host are at: the first `job` of each call, of how many, since when, how far it is."""
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for slot in world.suspects():
            message = self._ledger.message(slot.batch, slot.first)
            if message is None:
                continue
            fraction, text = self._ledger.progress(slot.batch, slot.first) or (None, "")
            found[slot.batch, slot.first] = {
                "offset": self._source.notes_of([message]).spans[0][0],
                "jobs": slot.size,
                "task": self._ledger.peek(slot.batch).task,
                "since_ms": (time.time_ns() - time.monotonic_ns() + slot.started_ns) // 1_000_000,
                "progress": fraction,
                "text": text,
            }
        return list(found.values())

    def drain(self) -> None:
        """Start nothing more: what has not begun goes back now."""
        self._draining = True
        self.hear_feeder()
        for group in (*self._waiting, *self._quarantine.drain()):
            self._release(group.messages)
        self._waiting.clear()
        if self._world is not None:
            self._world.send(Frame(Kind.DROP))

    def give_up(self) -> None:
        """Give everything back that is still in hand."""
        self._world = None
        self.drain()
        for group in self._ledger.extract_all():
            self._release(group.messages)

    def _sort(self, messages: Sequence[Any]) -> list[Group]:
        """By task. A job that names none goes to the queue's only one, or to the one that has no name of its own."""
        by_terms: dict[Terms, list[Any]] = {}
        for message in messages:
            by_terms.setdefault(self._source.terms_of(message), []).append(message)
        groups = []
        for terms, found in by_terms.items():
            name = terms.task or self._default
            if name in self._tasks:
                assert name is not None
                groups.append(Group(name, found, terms.time_limit_s))
            else:
                self._refuse(name, found)
        return groups

    def _refuse(self, name: str | None, messages: Sequence[Any]) -> None:
        refusal = unknown_task(name, self._tasks)
        for message in messages:
            self._source.reject(message, FAILURE_REASON, pack_fault("InvalidArgument", str(refusal), None))
        self._gone += len(messages)
        self.counters.failed += len(messages)

    def _send(self, world: World, group: Group) -> bool:
        """False: they were all cancelled meanwhile."""
        if self._cancelled:
            group = group._replace(messages=self._without_cancelled(group.messages))
            if not group.messages:
                return False
        batch = self._ledger.enter(group)
        bodies = [message.body for message in group.messages]
        payload = pack_jobs(Jobs(group.task, bodies, self._source.notes_of(group.messages)))
        limit_s = self._limit_s(group) or 0.0
        world.send(Frame(Kind.JOBS, batch=batch, size=len(bodies), seconds=limit_s, payload=payload))
        return True

    def _send_alone(self, world: World) -> None:
        group = self._quarantine.next()
        while group is not None and not self._send(world, group):
            self._quarantine.survived()
            group = self._quarantine.next()

    def _end(self, frame: Frame) -> None:
        messages = self._ledger.settle(frame.batch, frame.first, frame.size)
        self._collective.pop((frame.batch, frame.first), None)
        self._learn(frame)
        results, faults = unpack_results(frame.payload)
        if not faults and not self._cancelled:
            self._gone += len(messages)
            self._source.complete(messages, [result for result in results if result is not None])
            return
        done = [(message, result) for message, result in zip(messages, results, strict=True) if result is not None]
        failed = [(messages[fault.place - frame.first], fault) for fault in faults]
        if self._cancelled:
            done = [each for each in done if not self._cancelled.holds(each[0])]
            failed = [each for each in failed if not self._cancelled.holds(each[0])]
            messages = self._without_cancelled(messages)
        self._gone += len(messages)
        if done:
            self._source.complete([each[0] for each in done], [each[1] for each in done])
        self._fail(failed)

    def _fail(self, failed: list[tuple[Any, Fault]]) -> None:
        self.counters.failed += len(failed)
        again = [(message, fault.error) for message, fault in failed if not fault.final]
        if again:
            self._source.fail([each[0] for each in again], [each[1] for each in again])
        for message, fault in failed:
            if fault.final:
                self._source.reject(message, FAILURE_REASON, fault.error)

    def _release(self, messages: Sequence[Any]) -> None:
        messages = self._without_cancelled(messages)
        self._source.release(messages)
        self._gone += len(messages)
        self.counters.returned += len(messages)

    def _note_cancelled(self, messages: Sequence[Any]) -> None:
        now, places = time.monotonic(), self._ledger.find(messages)
        for message in messages:
            key = places.get(id(message))
            due_s = self._cancelled.add(message, key, now)
            if key is not None and self._world is not None:
                self._world.cancels.add(*key)
                if key in self._collective:
                    self._collective[key] = min(self._collective[key], due_s)

    def _without_cancelled(self, messages: Sequence[Any]) -> Sequence[Any]:
        """Those that were not cancelled. The others are not in hand any more: the daemon has ended them."""
        if not self._cancelled:
            return messages
        others = self._cancelled.others(messages)
        count = self._cancelled.drop(messages)
        self._gone += count
        self.counters.cancelled += count
        if not self._cancelled and self._world is not None:
            self._world.cancels.clear()
        return others

    def _tell(self, frame: Frame) -> None:
        for place, words in words_of(frame.payload):
            message = self._ledger.message(frame.batch, place)
            if message is None or self._cancelled.holds(message):
                continue
            self.told += 1
            if words.progress is not None:
                self._ledger.note(frame.batch, place, words.progress)
            self._source.tell(message, words)

    def _started(self, frame: Frame) -> None:
        limit_s = self._limit_s(self._ledger.peek(frame.batch))
        due_s = self._cancelled.due_s(self._ledger.message(frame.batch, frame.first))
        deadline_s = math.inf if limit_s is None else time.monotonic() + limit_s
        self._collective[frame.batch, frame.first] = deadline_s if due_s is None else min(deadline_s, due_s)

    def _limit_s(self, group: Group) -> float | None:
        """How long one job (of a batch task: one call) may run."""
        return self._tasks[group.task].time_limit_s if group.time_limit_s is None else group.time_limit_s

    def _blame_known(self, world: World) -> bool:
        """Blame the job that a dying rank named, or that we ended the world for, since it ran too long."""
        word = world.last_word()
        if word is not None and self._ledger.holds(word.batch, word.place):
            self._blame(word.batch, word.place, Fault(0, word.error, word.final))
            return True
        now = time.monotonic()
        overdue = [job for job, deadline in self._collective.items() if deadline <= now]
        for batch, place in overdue:
            limit_s = self._limit_s(self._ledger.peek(batch)) or 0.0
            message = f"the job ran longer than its time limit of {limit_s:g} s: the ranks were ended"
            self._blame(batch, place, Fault(0, pack_fault("Timeout", message, None)))
        return bool(overdue)

    def _blame(self, batch: int, place: int, fault: Fault) -> None:
        """Of a job that was cancelled nothing is said: it has ended."""
        messages = self._without_cancelled(self._ledger.settle(batch, place, 1))
        self._gone += len(messages)
        self._fail([(message, fault) for message in messages])

    def _suspects(self, world: World) -> list[Group]:
        """What the slots name, each slot a group. The slots of other hosts cannot be read: then all are suspects."""
        if world.hosts > 1:
            return [group for group in self._ledger.extract_all() if group.messages]
        found = [self._ledger.extract(slot.batch, slot.first, slot.size) for slot in world.suspects()]
        return [group for group in found if group is not None]

    def _split_suspects(self, world: World) -> None:
        """A group ran alone and the world died of it: halve it, or, if it is one job, know it."""
        named = self._suspects(world)
        groups = named or [group for group in self._ledger.extract_all() if group.messages]
        poison = self._quarantine.died(groups)
        if poison is not None and self._without_cancelled([poison]):
            self.counters.failed += 1
            self._gone += 1
            self._source.reject(poison, POISON_REASON, died("ended the whole MPI world, also when it ran alone", None))

    def _learn(self, frame: Frame) -> None:
        pace = frame.seconds / frame.size
        self._pace_s = pace if self._pace_s is None else 0.8 * self._pace_s + 0.2 * pace

    def _target(self) -> int:
        """How many jobs to hold. Long jobs are not hoarded: other pools may be free for them."""
        ahead: float = FIRST_TAKE * self._ranks
        if self._pace_s is not None:
            ahead = AHEAD_S * self._ranks / max(self._pace_s, 1e-9)
        if self._bytes_each:
            ahead = min(ahead, IN_HAND_BYTES_MAX / self._bytes_each)
        return max(self._ranks, int(min(ahead, IN_HAND_MAX)))


def default_task(tasks: Mapping[str, Task[..., Any]]) -> str | None:
    """The task for jobs that name none."""
    nameless = [name for name, task in tasks.items() if not task.named]
    return nameless[0] if nameless else next(iter(tasks)) if len(tasks) == 1 else None


def unknown_task(name: str | None, tasks: Mapping[str, Task[..., Any]]) -> InvalidArgument:
    """Why a job cannot be run here."""
    known = ", ".join(sorted(map(repr, tasks)))
    which = "names no task" if name is None else f"names the task {name!r}"
    return InvalidArgument(f"the job {which}", f"this pool has {known}")
