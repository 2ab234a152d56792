"""A job is a message seen as work: what commands do to it, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..peers import messages as m
from ..peers.errors import InvalidArgument, NotFound
from ..peers.log import Entry
from .delivery import share
from .extents import Outcome
from .groups import Group, Span
from .queues import QUEUE, Queue
from .sessions import Answer
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


def cancel(state: State, entry: Entry, command: m.Cancel) -> Answer:
    """A waiting job ends at once; a running one loses its lease, so that its completion will be refused."""
    queue = job_queue(state, command.queue)
    offset, group = command.offset, queue.groups[""]
    job_id = f"{queue.name}/{offset}"
    if not 0 <= offset < queue.next:
        raise NotFound(f"there is no job {job_id}", "look at the list of jobs for its number")
    if offset < group.floor or group.acked.end_at(offset) is not None:
        status = Jobs(state, queue, entry.stamp_ms).describe(offset)["status"]
        raise InvalidArgument(
            f"job {job_id} has ended already ({status})", "only a job that has not ended can be cancelled"
        )
    span = group.take_waiting(offset) or _take_leased(state, queue, offset)
    assert span is not None, (queue.name, offset)
    queue.outcomes.add(
        Outcome(
            offset, 1, entry.index, -1, False, "cancelled", "it was cancelled", span.attempt, span.failures,
            entry.stamp_ms, -1,
        )
    )  # fmt: skip
    group.finish(offset, offset + 1)
    state.wake_group(queue.name, group.name)
    state.ended[queue.name] = None
    state.drop(queue)
    state.emit("job.cancelled", queue.name, offset, 1)
    return Answer("ok", {"status": "cancelled"})


def _take_leased(state: State, queue: Queue, offset: int) -> Span | None:
    for lease in state.leases.values():
        if lease.queue_id == queue.id and (parts := lease.split(((offset, 1),))) is not None:
            taken, lease.spans = parts
            lease.group.leased -= 1
            if not lease.spans:
                state.forget_lease(lease)
            return taken[0]
    return None


def retry(state: State, entry: Entry, command: m.Retry) -> Answer:
    """A dead job's message leaves the dead-letter queue and becomes a new job."""
    queue = job_queue(state, command.queue)
    offset = command.offset
    job_id = f"{queue.name}/{offset}"
    info = Jobs(state, queue, entry.stamp_ms).describe(offset)
    if info["status"] == "unknown":
        raise NotFound(f"there is no job {job_id}", "look at the list of jobs for its number")
    if info["status"] != "dead":
        hint = (
            "submit it again"
            if info["status"] in ("done", "cancelled", "expired")
            else "only a dead job can be retried"
        )
        raise InvalidArgument(f"job {job_id} is not dead but {info['status']}", hint)
    dead_queue, dead_offset = _dead_letter(state, queue, info["dead_offset"], offset)
    extent = dead_queue.extents.at(dead_offset)
    queue.check_room(1, extent.size // extent.count)
    if dead_queue.groups[""].take_waiting(dead_offset) is None:
        raise InvalidArgument(
            f"the dead letter of job {job_id} is leased by a consumer", "try again when it is released"
        )
    new_offset = share(state, queue, extent, dead_offset, dead_offset + 1, None)
    dead_queue.groups[""].finish(dead_offset, dead_offset + 1)
    state.drop(dead_queue)
    state.wake(queue)
    state.emit("job.queued", queue.name, new_offset, 1, retry_of=offset)
    return Answer("ok", {"offset": new_offset})


def _dead_letter(state: State, queue: Queue, dead_offset: int, offset: int) -> tuple[Queue, int]:
    """Where the message of a dead job lies: in a dead-letter queue, unless it was taken or purged there."""
    for name, candidate in state.queues.items():
        if not name.startswith(queue.name + ".dead") and candidate is not queue:
            continue
        group = candidate.groups.get("")
        if group is None or not max(group.floor, candidate.dropped) <= dead_offset < candidate.next:
            continue
        if group.acked.end_at(dead_offset) is not None:
            continue
        note = candidate.extents.at(dead_offset).note or {}
        at = offset - (dead_offset - candidate.extents.at(dead_offset).first)
        if note.get("penstock-queue") == queue.name and note.get("penstock-offset") == at:
            return candidate, dead_offset
    raise NotFound(
        f"the message of dead job {queue.name}/{offset} is no longer in the dead-letter queue",
        "it was retried, taken or purged; submit the job again",
    )
