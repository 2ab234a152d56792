"""A job is a message seen as work: what commands do to it, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..peers.errors import InvalidArgument
from .extents import Outcome
from .groups import Group, Span
from .queues import QUEUE, Queue
from .state import State

STATUSES = ("queued", "delayed", "running", "failed", "done", "dead", "cancelled", "expired", "unknown")


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
        self._waiting = sorted(self.group.again)
        self._delayed = sorted((span, until) for until, span in self.group.delayed)

    def describe(self, offset: int) -> dict[str, Any]:
        """Status and counters of one job."""
        info: dict[str, Any] = {"offset": offset, "status": "unknown", "attempt": 0, "failures": 0}
        if not 0 <= offset < self.queue.next:
            return info
        ended = offset < self.group.floor or self.group.acked.end_at(offset) is not None
        if ended:
            outcome = self.queue.outcomes.at(offset)
            return info | ended_info(outcome, offset) if outcome is not None else info | {"status": "expired"}
        status, span = self._place(offset)
        if span is not None:
            info |= {"attempt": span.attempt, "failures": span.failures}
        return info | {"status": status}

    def live(self, offset: int) -> Iterator[tuple[int, int, str, Outcome | None]]:
        """(first, end, status, None) of jobs from `offset` on that have not ended, ascending."""
        stretches = [(span.first, span.end, "running", None) for span in self._leased]
        stretches += [(span.first, span.end, "failed" if span.failures else "queued", None) for span in self._waiting]
        for span, until_ms in self._delayed:
            status = "failed" if span.failures else "delayed" if until_ms > self.now_ms else "queued"
            stretches.append((span.first, span.end, status, None))
        stretches += [(s, e, "queued", None) for s, e in self.group.acked.gaps(self.group.cursor, self.queue.next)]
        return iter(sorted(stretch for stretch in stretches if stretch[1] > offset))

    def due_ms(self, offset: int) -> int | None:
        """When a delayed job may be given; None: it is not delayed."""
        return next((until_ms for span, until_ms in self._delayed if span.first <= offset < span.end), None)

    def ahead(self, offset: int) -> int:
        """How many of those that could be given now come before this one."""
        span = self._place(offset)[1]
        ready = [*self._waiting, *(span for span, until_ms in self._delayed if until_ms <= self.now_ms)]
        count = sum(min(it.end, offset) - it.first for it in ready if it.first < offset or span is None)
        if span is None:  # fresh: behind everything that was given before
            count = sum(it.end - it.first for it in ready)
            count += sum(stop - start for start, stop in self.group.acked.gaps(self.group.cursor, offset))
        return count

    def _place(self, offset: int) -> tuple[str, Span | None]:
        if (span := _find(self._leased, offset)) is not None:
            return "running", span
        if (span := _find(self._waiting, offset)) is not None:
            return ("failed" if span.failures else "queued"), span
        for span, until_ms in self._delayed:
            if span.first <= offset < span.end:
                return ("failed" if span.failures else "delayed" if until_ms > self.now_ms else "queued"), span
        return "queued", None


def _find(spans: list[Span], offset: int) -> Span | None:
    low, high = 0, len(spans)
    while low < high:
        middle = (low + high) // 2
        if spans[middle].end <= offset:
            low = middle + 1
        else:
            high = middle
    return spans[low] if low < len(spans) and spans[low].first <= offset else None


def ended_info(outcome: Outcome, offset: int) -> dict[str, Any]:
    """What an outcome says of one of its jobs."""
    info: dict[str, Any] = {"status": outcome.status, "attempt": outcome.attempt, "failures": outcome.failures}
    if outcome.reason:
        info["reason"] = outcome.reason
    if outcome.dead_offset >= 0:
        info["dead_offset"] = outcome.dead_offset + offset - outcome.first
    return info
