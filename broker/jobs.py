"""A job is a message seen as work: what commands do to it, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any

from ..peers.errors import InvalidArgument
from .extents import Outcome
from .groups import Group, Span, rank
from .options import QUEUE
from .queues import Queue
from .shelf import HELD, Spot
from .state import State

AHEAD_MAX = 20_000  # spots looked at for how many jobs are before one
STATUSES = (
    "queued", "delayed", "waiting", "running", "failed", "done", "dead", "cancelled", "expired", "unknown",
)  # fmt: skip


def job_queue(state: State, name: str) -> Queue:
    """The queue whose messages are looked at as jobs. Raises NotFound, InvalidArgument."""
    queue = state.queue(name)
    if queue.kind != QUEUE:
        raise InvalidArgument(f"{name} is a topic and has no jobs", "jobs live in queues")
    return queue


class Jobs:
    """The jobs of one queue, as they stand at `now_ms`."""

    def __init__(self, state: State, queue: Queue, now_ms: int) -> None:
        self.queue = queue
        self.group: Group = queue.groups[""]
        self.now_ms = now_ms
        self._leased = sorted(
            span for lease in state.leases.values() if lease.queue_id == queue.id for span in lease.spans
        )

    def describe(self, offset: int) -> dict[str, Any]:
        """Status and counters of one job."""
        info: dict[str, Any] = {"offset": offset, "status": "unknown", "attempt": 0, "failures": 0}
        if not 0 <= offset < self.queue.next:
            return info
        if self.group.has_ended(offset):
            outcome = self.queue.outcomes.at(offset)
            return info | self.ended(outcome, offset) if outcome is not None else info | {"status": "expired"}
        status, span = self._place(offset)
        if span is not None:
            info |= {"attempt": span.attempt, "failures": span.failures}
        return info | {"status": status}

    def ended(self, outcome: Outcome, offset: int) -> dict[str, Any]:
        """What there is to say of a job that has this outcome."""
        info: dict[str, Any] = {"status": outcome.status, "attempt": outcome.attempt, "failures": outcome.failures}
        if outcome.reason:
            info["reason"] = outcome.reason
        if outcome.dead_offset >= 0:
            info["dead_offset"] = outcome.dead_offset + offset - outcome.first
            note = self.queue.notes.at(offset)
            if note is not None and note.again is not None:
                queue, by = note.again
                info["retried_as"] = f"{queue}/{offset + by}"
        return info

    def live(self, offset: int) -> Iterator[tuple[int, int, str, Outcome | None]]:
        """(first, end, status, None) of jobs from `offset` on that have not ended, ascending."""
        leased = ((span.first, span.end, "running", None) for span in self._leased if span.end > offset)
        shelved = ((spot.first, spot.end, self._status(spot), None) for spot in self.group.shelf.spots(offset))
        fresh = ((first, end, "queued", None) for first, end in self.group.fresh(self.queue.next, offset))
        return merge(leased, shelved, fresh, key=itemgetter(0))

    def due_ms(self, offset: int) -> int | None:
        """When a delayed job may be given; None: it is not delayed."""
        spot = self.group.shelf.at(offset)
        return spot.due_ms if spot is not None and spot.due_ms > 0 else None

    def ahead(self, offset: int) -> tuple[int, bool]:
        """How many of those that could be given now come before this one; and whether these are all, or more are than
        were looked at."""
        group = self.group
        first = next(group.fresh(self.queue.next), (self.queue.next, 0))[0]
        own = group.shelf.at(offset)
        mine = (0, 2, 0, offset) if own is None else rank(own, first)
        count = 0 if own is None else offset - own.first
        ready = group.shelf.ready_spots(self.now_ms)
        for spot in islice(ready, AHEAD_MAX):
            if rank(spot, first) < mine:
                count += spot.end - spot.first
        if mine[:2] == (0, 2):
            count += sum(min(stop, offset) - start for start, stop in group.fresh(self.queue.next) if start < offset)
        return count, next(ready, None) is None

    def _place(self, offset: int) -> tuple[str, Span | None]:
        if (span := _find(self._leased, offset)) is not None:
            return "running", span
        spot = self.group.shelf.at(offset)
        return ("queued", None) if spot is None else (self._status(spot), Span(*spot[:4]))

    def _status(self, spot: Spot) -> str:
        if spot.due_ms == HELD:
            return "waiting"
        if spot.failures:
            return "failed"
        return "delayed" if spot.due_ms > self.now_ms else "queued"


def _find(spans: list[Span], offset: int) -> Span | None:
    low, high = 0, len(spans)
    while low < high:
        middle = (low + high) // 2
        if spans[middle].end <= offset:
            low = middle + 1
        else:
            high = middle
    return spans[low] if low < len(spans) and spans[low].first <= offset else None
