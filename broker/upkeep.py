"""What falls due: ends of leases and sessions, messages and outcomes past their time, sweeping, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from ..peers import messages as m
from ..peers.log import Entry
from ..peers.messages import Command
from .queues import TOPIC, Queue
from .state import State, Timer

LOOK_MS = 1_000  # how often sessions are looked over
AGE_LOOK_MS = 5_000  # how often retention and result times are looked over
IDLE_CHECKPOINT_MS = 5_000  # a log that stands still for this long is checkpointed, so that a restart is quick
TIMERS_MAX = 10_000  # then those of leases that ended are thrown out
TRIM_MAX = 1_000  # extents looked at by one trim


class Upkeep:
    """Turns time into commands. It holds no truth: everything here is made anew from the state at start."""

    def __init__(self, state: State, now_ms: int) -> None:
        self.state = state
        self.heard = dict.fromkeys(state.sessions, now_ms)  # by session; a restart gives everyone a full time-out anew
        self._timers = self._all_timers()
        self._timers_max = max(TIMERS_MAX, 2 * len(self._timers))
        self._look_ms = now_ms + LOOK_MS
        self._age_look_ms = now_ms + AGE_LOOK_MS
        self._entries = 0  # since the last checkpoint
        self._bytes = 0
        self._last_entry_ms = now_ms

    def _all_timers(self) -> list[Timer]:
        timers = [Timer(lease.ends_ms, lease.id, "", "") for lease in self.state.leases.values()]
        for queue in self.state.queues.values():
            for group in queue.groups.values():
                timers += [Timer(until_ms, 0, queue.name, group.name) for until_ms, _ in group.delayed]
        heapify(timers)
        return timers

    def next_due_ms(self) -> int:
        if self.state.unswept:
            return 0
        return min(self._look_ms, self._timers[0].due_ms) if self._timers else self._look_ms

    def due(self, now_ms: int, session_timeout_ms: int) -> Iterator[Command]:
        """The commands that time asks for. Each is applied before the next one is made."""
        yield from self._due_timers(now_ms)
        for queue_id in list(self.state.unswept):
            yield m.Sweep(queue_id)
        if now_ms < self._look_ms:
            return
        self._look_ms = now_ms + LOOK_MS
        silent = [id for id, heard_ms in self.heard.items() if heard_ms + session_timeout_ms <= now_ms]
        for session_id in silent:
            yield m.EndSession(session_id, True)
        if now_ms >= self._age_look_ms:
            self._age_look_ms = now_ms + AGE_LOOK_MS
            for queue in list(self.state.queues.values()):
                yield from self._aged(queue, now_ms)

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
        oldest_ms = queue.outcomes.oldest_ms()
        if oldest_ms is not None and oldest_ms + queue.options.result_ttl_ms <= now_ms:
            home = 0
            for step_home, step in queue.outcomes.after(0):
                if step[0].stamp_ms + queue.options.result_ttl_ms > now_ms or (home and step_home > home + TRIM_MAX):
                    break
                home = step_home
            yield m.Forget(queue.name, home)
        if queue.kind == TOPIC and queue.options.retention_ms is not None:
            before = queue.trimmed
            for _ in range(TRIM_MAX):
                if before >= queue.next:
                    break
                extent = queue.extents.at(before)
                if extent.stamp_ms + queue.options.retention_ms > now_ms:
                    break
                before = extent.end
            if before > queue.trimmed:
                yield m.Trim(queue.name, before)

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

    def checkpoint_due(self, now_ms: int, entries_max: int, bytes_max: int, last: bool) -> bool:
        idle = now_ms - self._last_entry_ms >= IDLE_CHECKPOINT_MS
        due = self._entries >= entries_max or self._bytes >= bytes_max or (self._entries > 0 and (idle or last))
        if due:
            self._entries = self._bytes = 0
        return due
