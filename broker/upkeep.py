"""What falls due: ends of leases and sessions, messages and outcomes past their time, sweeping."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice

from ..peers import messages as m
from ..peers.messages import Command
from .options import TOPIC
from .queues import Queue
from .schedules import NEVER_MS
from .state import FORGET_MAX, RATED, RIPENS, State, Timer
from .topics import outlived

LOOK_MS = 1_000  # how often sessions are looked over
AGE_LOOK_MS = 5_000  # how often retention and result times of each queue are looked over
AGED_MAX = 200  # queues looked over in one turn: those of thousands are spread over the time
AGED_STEP_MS = 50  # from one such turn to the next
BEHIND_MAX = 4  # queues of which more is past its time than one command drops: no more of them in one turn
SWEEPS_MAX = 16  # sweeps in one turn
EXPIRED_MAX = 500  # leases ended in one turn, about 30 ms: a network may take those of thousands away at once
SILENT_MAX = 200  # sessions ended in one turn, for the same reason
TIMERS_MAX = 10_000  # then those at which nothing is to be done any more are thrown out
IDS_MAX = 500  # ids forgotten by one command
PAUSE_MS = 3_000  # turns are never this far apart, unless the process was stopped or its disk hung
GRACE_MS = 1_000  # after such a pause: what clients said meanwhile is heard before they count as silent


class Upkeep:
    """Turns time into commands. It holds no truth: everything here is made anew from the state at start."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.state = state
        self.heard = dict.fromkeys(state.sessions, now_ms)  # by session; a restart gives everyone a full time-out anew
        # Nobody could renew while no daemon ran: leases keep the time they had left at the last entry.
        self._timers = self._all_timers(max(0, now_ms - state.stamp_ms))
        self._timers_max = max(TIMERS_MAX, 2 * len(self._timers))
        self._look_ms = now_ms + LOOK_MS
        self._ages = Round(state, now_ms + AGE_LOOK_MS)
        self._last_due_ms = now_ms
        self._grace_ms = now_ms  # until then nobody is late

    def _all_timers(self, away_ms: int) -> list[Timer]:
        timers = [Timer(lease.ends_ms + away_ms, lease.id, "", "") for lease in self.state.leases.values()]
        for queue in self.state.queues.values():
            for group in queue.groups.values():
                group.armed_ms = None
                self.state.arm(queue, group, -1)  # also for what ripened or outlived its time while no daemon ran
        timers += self.state.timers
        self.state.timers.clear()
        heapify(timers)
        return timers

    def next_due_ms(self) -> int:
        if self.state.unswept or self.state.parent_ends:
            return 0
        return max(self._grace_ms, min(self._look_ms, self._ages.due_ms, self.next_timer_ms()))

    def next_timer_ms(self) -> int:
        """When a lease ends or a message may be given or outlives its time; beside that there is only tidying up."""
        timers = self._timers
        while timers and not self._holds(timers[0]):
            heappop(timers)
        return timers[0].due_ms if timers else NEVER_MS

    def due(self, now_ms: int, session_timeout_ms: int) -> Iterator[Command]:
        """The commands that time asks for. Each is applied before the next one is made."""
        self._forgive_pause(now_ms)
        if now_ms >= self._grace_ms:
            yield from self._due_timers(now_ms)
        for queue_id in list(islice(self.state.unswept, SWEEPS_MAX)):
            yield m.Sweep(queue_id)
        if self.state.parent_ends:
            yield m.TellChildren()
        if now_ms < self._grace_ms:
            return
        if now_ms >= self._look_ms:
            silent = (id for id, heard_ms in self.heard.items() if heard_ms + session_timeout_ms <= now_ms)
            some = list(islice(silent, SILENT_MAX))
            self._look_ms = now_ms if len(some) == SILENT_MAX else now_ms + LOOK_MS
            for session_id in some:
                yield m.EndSession(session_id, True)
        if now_ms >= self._ages.due_ms:
            yield from self._ages.due(now_ms)

    def _forgive_pause(self, now_ms: int) -> None:
        pause_ms = now_ms - self._last_due_ms
        self._last_due_ms = now_ms
        if pause_ms >= PAUSE_MS:
            self._grace_ms = now_ms + GRACE_MS
            for session_id, heard_ms in self.heard.items():
                self.heard[session_id] = min(now_ms, heard_ms + pause_ms)

    def _due_timers(self, now_ms: int) -> Iterator[Command]:
        self._take_timers()
        expired = 0
        while self._timers and self._timers[0].due_ms <= now_ms and expired < EXPIRED_MAX:
            timer = heappop(self._timers)
            if not self._holds(timer):
                continue
            if timer.lease <= 0:
                yield from self._due_group(timer, now_ms)
                continue
            lease = self.state.leases[timer.lease]
            if lease.ends_ms <= now_ms:
                expired += 1
                yield m.Expire(lease.id, lease.ends_ms)
                self._take_timers()

    def _due_group(self, timer: Timer, now_ms: int) -> Iterator[Command]:
        queue = self.state.queues.get(timer.queue)
        group = None if queue is None else queue.groups.get(timer.group)
        if queue is None or group is None:
            return
        if group.armed_ms == timer.due_ms:
            group.armed_ms = None
        if group.shelf.next_expired(now_ms) is not None:
            yield m.Outdate(queue.id)
            if group.shelf.next_expired(now_ms) is not None:  # more than one command ends: the next turn goes on
                group.armed_ms = now_ms + 1
                self.state.timers.append(Timer(now_ms + 1, RIPENS, queue.name, group.name))
        self.state.wake_group(queue.name, group.name)
        self.state.arm(queue, group, now_ms)
        self._take_timers()

    def _take_timers(self) -> None:
        new, self.state.timers = self.state.timers, []
        if len(self._timers) > self._timers_max:
            # Most of them are of leases that ended before their time, or of groups that have an earlier one by now.
            self._timers = [timer for timer in {*self._timers} if self._holds(timer)]
            heapify(self._timers)
            self._timers_max = max(TIMERS_MAX, 2 * len(self._timers))
        for timer in new:
            if self._holds(timer):
                heappush(self._timers, timer)

    def _holds(self, timer: Timer) -> bool:
        """Whether there is anything to be done at its time."""
        if timer.lease != RIPENS:
            return timer.lease == RATED or timer.lease in self.state.leases
        queue = self.state.queues.get(timer.queue)
        group = None if queue is None else queue.groups.get(timer.group)
        return group is not None and group.armed_ms == timer.due_ms

    def take_timers(self) -> None:
        """Take up what the last commands set."""
        if self.state.timers:
            self._take_timers()


class Round:
    """Goes round the queues, a few at a time, for what is past its time: outcomes of jobs, messages of topics."""

    def __init__(self, state: State, due_ms: int) -> None:
        self.state = state
        self.due_ms = due_ms
        self._began_ms = due_ms
        self._left: list[int] = []  # ids of queues, the next one last

    def due(self, now_ms: int) -> Iterator[Command]:
        """What is past its time in the next queues of the round. What is too much for one turn is the next one's."""
        if not self._left:
            self._began_ms = now_ms
            self._left = sorted(self.state.by_id, reverse=True)
        behind: list[int] = []
        looked = 0
        while self._left and looked < AGED_MAX and len(behind) < BEHIND_MAX:
            looked += 1
            queue = self.state.by_id.get(self._left.pop())
            if queue is not None and not queue.deleted:
                is_behind = yield from _aged(queue, now_ms)
                behind += [queue.id] if is_behind else []
        self._left = behind + self._left  # after the others: one that never catches up must not keep them waiting
        if behind:
            self.due_ms = now_ms
        elif self._left:
            self.due_ms = now_ms + AGED_STEP_MS
        else:
            self.due_ms = max(now_ms + AGED_STEP_MS, self._began_ms + AGE_LOOK_MS)


def _aged(queue: Queue, now_ms: int) -> Generator[Command, None, bool]:
    """One stretch of what of this queue is past its time. True: there is more."""
    home, steps = 0, 0
    for step_home, step in islice(queue.outcomes.after(0), FORGET_MAX):
        if step[0].stamp_ms + queue.options.result_ttl_ms > now_ms:
            break
        home, steps = step_home, steps + 1
    if steps:
        yield m.Forget(queue.name, home)
    if queue.kind != TOPIC:
        ids = queue.uniques.overdue(now_ms, IDS_MAX)
        if ids:
            yield m.ForgetIds(queue.id, tuple(ids))
        return steps == FORGET_MAX or len(ids) == IDS_MAX
    stretch = outlived(queue, now_ms)
    if stretch.before > queue.trimmed:
        yield m.Trim(queue.name, stretch.before)
    return stretch.more or steps == FORGET_MAX
