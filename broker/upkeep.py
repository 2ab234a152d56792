"""What falls due: ends of leases and sessions, messages and outcomes past their time, sweeping, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import islice

from ..peers import messages as m
from ..peers.log import Entry
from ..peers.messages import Command
from .queues import TOPIC, Queue
from .state import FORGET_MAX, State, Timer

LOOK_MS = 1_000  # how often sessions are looked over
AGE_LOOK_MS = 5_000  # how often retention and result times are looked over
IDLE_CHECKPOINT_MS = 5_000  # a log that stands still for this long is checkpointed, so that a restart is quick
FULL_CHECKPOINT_MS = 1_000  # and when the storage runs full: a checkpoint is what frees the room of what was consumed
TIMERS_MAX = 10_000  # then those of leases that ended are thrown out
TRIM_MAX = 1_000  # extents looked at by one trim
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
        self._age_look_ms = now_ms + AGE_LOOK_MS
        self._entries = 0  # since the last checkpoint
        self._bytes = 0
        self._last_entry_ms = now_ms
        self._checkpoint_ms = now_ms - FULL_CHECKPOINT_MS
        self._last_due_ms = now_ms
        self._grace_ms = now_ms  # until then nobody is late
        self._behind = False  # more is past its time than one turn dropped

    def _all_timers(self, away_ms: int) -> list[Timer]:
        timers = [Timer(lease.ends_ms + away_ms, lease.id, "", "") for lease in self.state.leases.values()]
        for queue in self.state.queues.values():
            for group in queue.groups.values():
                timers += [Timer(until_ms, 0, queue.name, group.name) for until_ms, _ in group.delayed]
        heapify(timers)
        return timers

    def next_due_ms(self) -> int:
        if self.state.unswept:
            return 0
        return max(self._grace_ms, min(self._look_ms, self._timers[0].due_ms) if self._timers else self._look_ms)

    def due(self, now_ms: int, session_timeout_ms: int) -> Iterator[Command]:
        """The commands that time asks for. Each is applied before the next one is made."""
        self._forgive_pause(now_ms)
        if now_ms >= self._grace_ms:
            yield from self._due_timers(now_ms)
        for queue_id in list(self.state.unswept):
            yield m.Sweep(queue_id)
        if now_ms < max(self._look_ms, self._grace_ms):
            return
        self._look_ms = now_ms + LOOK_MS
        silent = [id for id, heard_ms in self.heard.items() if heard_ms + session_timeout_ms <= now_ms]
        for session_id in silent:
            yield m.EndSession(session_id, True)
        if now_ms >= self._age_look_ms:
            self._age_look_ms = now_ms + AGE_LOOK_MS
            self._behind = False
            for queue in list(self.state.queues.values()):
                yield from self._aged(queue, now_ms)
            if self._behind:
                self._look_ms = self._age_look_ms = now_ms

    def _forgive_pause(self, now_ms: int) -> None:
        pause_ms = now_ms - self._last_due_ms
        self._last_due_ms = now_ms
        if pause_ms >= PAUSE_MS:
            self._grace_ms = now_ms + GRACE_MS
            for session_id, heard_ms in self.heard.items():
                self.heard[session_id] = min(now_ms, heard_ms + pause_ms)

    def _due_timers(self, now_ms: int) -> Iterator[Command]:
        self._take_timers()
        while self._timers and self._timers[0].due_ms <= now_ms:
            timer = heappop(self._timers)
            if not timer.lease:
                self.state.wake_group(timer.queue, timer.group)
                continue
            lease = self.state.leases.get(timer.lease)
            if lease is not None and lease.ends_ms <= now_ms:
                yield m.Expire(lease.id, lease.ends_ms)
                self._take_timers()

    def _take_timers(self) -> None:
        new, self.state.timers = self.state.timers, []
        if len(self._timers) > self._timers_max:
            # Most of them are of leases that ended long before their time; their memory is given back.
            alive = self.state.leases
            self._timers = [timer for timer in self._timers if not timer.lease or timer.lease in alive]
            heapify(self._timers)
            self._timers_max = max(TIMERS_MAX, 2 * len(self._timers))
        for timer in new:
            if not timer.lease or timer.lease in self.state.leases:
                heappush(self._timers, timer)

    def _aged(self, queue: Queue, now_ms: int) -> Iterator[Command]:
        """One stretch of what of this queue is past its time. If there is more, the next turn looks again."""
        home, steps = 0, 0
        for step_home, step in islice(queue.outcomes.after(0), FORGET_MAX):
            if step[0].stamp_ms + queue.options.result_ttl_ms > now_ms:
                break
            home, steps = step_home, steps + 1
        if steps:
            yield m.Forget(queue.name, home)
        if queue.kind != TOPIC or queue.options.retention_ms is None:
            self._behind |= steps == FORGET_MAX
            return
        before, extents = queue.trimmed, 0
        while extents < TRIM_MAX and before < queue.next:
            extent = queue.extents.at(before)
            if extent.stamp_ms + queue.options.retention_ms > now_ms:
                break
            before, extents = extent.end, extents + 1
        if extents:
            yield m.Trim(queue.name, before)
        self._behind |= extents == TRIM_MAX

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def note(self, entries: list[Entry]) -> None:
        """Count what a turn logged, and take up its timers."""
        if entries:
            self._entries += len(entries)
            self._bytes += sum([len(entry.payload) for entry in entries])
            self._last_entry_ms = entries[-1].stamp_ms
        if self.state.timers:
            self._take_timers()

    def replayed(self, entries: int, size: int) -> None:
        """What a start replayed counts as logged since the last checkpoint."""
        self._entries += entries
        self._bytes += size

    def checkpoint_due(self, now_ms: int, entries_max: int, bytes_max: int, room_bytes: int, last: bool) -> bool:
        """`room_bytes`: what may still be published; 0: a publish was refused. `last`: the node stops."""
        early = last or now_ms - self._last_entry_ms >= IDLE_CHECKPOINT_MS
        early = early or (room_bytes <= self._bytes and now_ms - self._checkpoint_ms >= FULL_CHECKPOINT_MS)
        due = self._entries >= entries_max or self._bytes >= bytes_max or (self._entries > 0 and early)
        if due:
            self._entries = self._bytes = 0
            self._checkpoint_ms = now_ms
        return due
