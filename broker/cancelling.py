"""`job_cancel`: jobs that have not ended end now, waiting or running."""

from __future__ import annotations

from collections.abc import Iterator

from ..peers import messages as m
from ..peers.errors import InvalidArgument, NotFound
from ..peers.log import Entry
from .endings import NOBODY, Holder, add_outcome, holder_of
from .groups import Span
from .jobs import Jobs, job_queue
from .queues import Queue
from .ranges import RangeSet
from .sessions import Answer
from .state import State


def cancel(state: State, entry: Entry, command: m.Cancel) -> Answer:
    """A waiting job ends at once; a running one leaves its lease, and its holder is told when it asks for more time."""
    queue = job_queue(state, command.queue)
    first, end = command.offset, command.offset + command.count
    if not 0 <= first < end <= queue.next:
        missing = first if not 0 <= first < queue.next else queue.next
        raise NotFound(f"there is no job {queue.name}/{missing}", "look at the list of jobs for its number")
    if command.count == 1 and not any(queue.groups[""].acked.gaps(max(first, queue.groups[""].floor), end)):
        status = Jobs(state, queue, entry.stamp_ms).describe(first)["status"]
        raise InvalidArgument(
            f"job {queue.name}/{first} has ended already ({status})", "only a job that has not ended can be cancelled"
        )
    count = cancel_range(state, queue, first, end, "it was cancelled")
    return Answer("ok", {"status": "cancelled", "cancelled": count})


def cancel_range(state: State, queue: Queue, first: int, end: int, reason: str) -> int:
    """What of the jobs [first, end) has not ended does so now, as cancelled. Returns how many those are."""
    cancelled = 0
    taken = [(span, NOBODY) for span in take_waiting(state, queue, first, end)]
    taken += _running(state, queue, first, end)  # only now: what left its lease would look as if it waited
    for span, holder in sorted(taken):
        add_outcome(state, queue, span, "cancelled", reason, holder=holder)
        state.emit("job.cancelled", queue.name, span.first, span.end - span.first)
        state.finish(queue, queue.groups[""], span.first, span.end, "cancelled")
        cancelled += span.end - span.first
    if cancelled:
        state.wake_group(queue.name, "")
        state.ended[queue.name] = None
        state.drop(queue)
    return cancelled


def _running(state: State, queue: Queue, first: int, end: int) -> Iterator[tuple[Span, Holder]]:
    """Take jobs out of the leases they are under."""
    for lease in list(state.leases.values()):
        if lease.queue_id != queue.id:
            continue
        ranges = tuple(
            (max(first, span.first), min(end, span.end) - max(first, span.first))
            for span in lease.spans
            if span.first < end and first < span.end
        )
        if not ranges:
            continue
        parts = lease.split(ranges)
        assert parts is not None, ranges
        holder, session = holder_of(state, lease), state.sessions.get(lease.session)
        taken, lease.spans = parts
        lease.group.leased -= sum(count for _, count in ranges)
        state.touched_queues.add(queue.id)
        if session is not None:
            session.note_cancelled(lease.id, list(ranges))
            state.touched_sessions.add(session.id)
        if not lease.spans:
            state.forget_lease(lease)
        yield from ((span, holder) for span in taken)


def waiting_parts(state: State, queue: Queue, first: int, end: int) -> Iterator[tuple[int, int]]:
    """The stretches of [first, end) whose messages have not ended and are under no lease, ascending."""
    group = queue.groups[""]
    first, end = max(first, group.floor), min(end, queue.next)
    if end - first < len(state.leases):  # looking at each message is quicker than looking at each lease
        open_ones = (offset for start, stop in group.acked.gaps(first, end) for offset in range(start, stop))
        yield from RangeSet((offset, offset + 1) for offset in open_ones if group.waits(offset))
        return
    leased = sorted(
        (span.first, span.end) for lease in state.leases.values() if lease.queue_id == queue.id for span in lease.spans
    )
    at = 0
    for start, stop in group.acked.gaps(first, end):
        while at < len(leased) and leased[at][1] <= start:
            at += 1
        while at < len(leased) and leased[at][0] < stop:
            if start < leased[at][0]:
                yield start, leased[at][0]
            start = leased[at][1]
            if start >= stop:
                break
            at += 1
        if start < stop:
            yield start, stop


def take_waiting(state: State, queue: Queue, first: int, end: int) -> Iterator[Span]:
    """Take the messages of [first, end) that wait out of their places, neighbours of one history together."""
    group = queue.groups[""]
    last: Span | None = None
    for start, stop in list(waiting_parts(state, queue, first, end)):
        for offset in range(start, stop):
            span = group.take_waiting(offset)
            assert span is not None, (queue.name, offset)
            if last is not None and last.end == offset and last[2:] == span[2:]:
                last = last._replace(end=span.end)
                continue
            if last is not None:
                yield last
            last = span
    if last is not None:
        yield last
