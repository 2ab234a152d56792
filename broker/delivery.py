"""What commands do to messages: append, pull, and the ways in which a message leaves its lease."""

from __future__ import annotations

from typing import Any

from ..peers import messages as m
from ..peers.errors import LeaseLost
from ..peers.log import Entry
from ..peers.wire import unpack_payload
from . import notes
from .endings import Why, add_outcome, holder_of, note_failure
from .extents import Extent
from .groups import Group, Lease, Piece, Span
from .queues import QUEUE, Options, Queue
from .sessions import OK, Answer
from .state import State, Timer

DEAD = ".dead"
NOTHING = Answer("ok", {"lease": None})


def append(state: State, entry: Entry, command: m.Append) -> Answer:
    queue = state.queue(command.queue)
    count, size = command.count, command.size
    queue.check_room(count, size)
    first = queue.append(entry.index, 0, count, count, size, entry.stamp_ms, command.plain, None)
    state.touched_queues.add(queue.id)
    state.wake(queue)
    if queue.kind == QUEUE:
        state.emit("job.queued", queue.name, first, count)
    return Answer("ok", {"offset": first, "count": count, "index": entry.index})


def pull(state: State, entry: Entry, command: m.Pull) -> Answer:
    """Grant a lease. The answer holds the pieces, out of which the node makes the delivery."""
    queue = state.queue(command.queue)
    group = state.group(queue, command.group)
    if queue.paused:
        return NOTHING
    state.touched_queues.add(queue.id)
    pieces = group.grant(queue.extents, queue.next, entry.stamp_ms, command.messages, command.size_max)
    if not pieces:
        return NOTHING
    ends_ms = entry.stamp_ms + command.lease_ms
    spans = _spans(pieces)
    lease = Lease(entry.index, queue.id, group, entry.session, command.pull, spans, ends_ms, entry.stamp_ms)
    state.leases[lease.id] = lease
    state.sessions[entry.session].leases[command.pull] = lease.id
    state.timers.append(Timer(ends_ms, lease.id, queue.name, group.name))
    if queue.kind == QUEUE:
        for span in lease.spans:
            state.emit("job.running", queue.name, span.first, span.end - span.first, attempt=span.attempt)
    return Answer("ok", {"lease": lease.id, "ends_ms": ends_ms, "pieces": pieces})


def pieces_of(state: State, lease: Lease) -> list[Piece]:
    """What a lease holds, to deliver it once more."""
    extents = state.by_id[lease.queue_id].extents
    return [
        Piece(extent, start, end, span.attempt, span.failures)
        for span in lease.spans
        for extent, start, end in extents.between(span.first, span.end)
    ]


def _spans(pieces: list[Piece]) -> list[Span]:
    spans: list[Span] = []
    for piece in pieces:
        span = Span(piece.start, piece.end, piece.attempt, piece.failures)
        if spans and spans[-1].end == span.first and spans[-1][2:] == span[2:]:
            span = Span(spans.pop().first, *span[1:])
        spans.append(span)
    spans.sort()
    return spans


def held(state: State, entry: Entry, lease_id: int, ranges: m.Ranges) -> tuple[Queue, Group, list[Span]]:
    """Take messages out of a live lease, in the order of the ranges. Raises LeaseLost, and then nothing has changed."""
    lease = state.leases.get(lease_id)
    if lease is None or lease.session != entry.session:
        raise LeaseLost(
            f"lease {lease_id} has ended or is not yours",
            "its messages were given back, and perhaps to somebody else; renew leases in time, or ask for longer ones",
        )
    parts = lease.split(ranges)
    if parts is None:
        raise LeaseLost(
            f"lease {lease_id} does not hold all of {[list(some) for some in ranges[:5]]}",
            "a message is settled once; it may have been cancelled, or settled before",
        )
    taken, lease.spans = parts
    lease.group.leased -= sum(span.end - span.first for span in taken)
    state.touched_queues.add(lease.queue_id)
    if not lease.spans:
        state.forget_lease(lease)
    return state.by_id[lease.queue_id], lease.group, taken


def ack(state: State, entry: Entry, command: m.Ack) -> Answer:
    queue, group, taken = held(state, entry, command.lease, command.ranges)
    for span in taken:
        queue.notes.drop(span.first, span.end)
    finish(state, queue, group, taken, "message.acked")
    return OK


def finish(state: State, queue: Queue, group: Group, taken: list[Span], event: str) -> None:
    """These are done: nobody gets them again."""
    for span in taken:
        group.finish(span.first, span.end)
        group.done += span.end - span.first
        _tell(state, event, queue, group, span)
    state.wake_group(queue.name, group.name)  # the window of what may be in flight has room again
    state.ended[queue.name] = None
    state.drop(queue)


def nack(state: State, entry: Entry, command: m.Nack) -> Answer:
    holder = holder_of(state, state.leases.get(command.lease))
    queue, group, taken = held(state, entry, command.lease, command.ranges)
    delay_ms = queue.options.retry_delay_ms if command.delay_ms is None else command.delay_ms
    why = Why("it failed too often", notes.NACKED, holder, command.reason, _error(entry, command.has_error))
    return Answer("ok", {"dead": _fail(state, queue, group, taken, delay_ms, why)})


def reject(state: State, entry: Entry, command: m.Reject) -> Answer:
    holder = holder_of(state, state.leases.get(command.lease))
    queue, group, taken = held(state, entry, command.lease, command.ranges)
    failed = [span._replace(failures=span.failures + 1) for span in taken]
    error = _error(entry, command.has_error)
    why = Why(command.reason or "it was rejected", notes.REJECTED, holder, command.reason, error)
    for span in failed:
        note_failure(state, queue, span, why)
    _bury(state, queue, group, failed, why)
    return Answer("ok", {"dead": sum(span.end - span.first for span in failed)})


def _error(entry: Entry, has_error: bool) -> bytes | None:
    return unpack_payload(entry.payload)[0][0] if has_error else None


def release(state: State, entry: Entry, command: m.Release) -> Answer:
    lease = state.leases.get(command.lease)
    ranges = command.ranges
    if ranges is None:
        ranges = tuple((span.first, span.end - span.first) for span in lease.spans) if lease is not None else ()
    queue, group, taken = held(state, entry, command.lease, ranges)
    give_back(state, queue, group, taken)
    return OK


def give_back(state: State, queue: Queue, group: Group, taken: list[Span]) -> None:
    """Ready again, with no failure counted."""
    for span in taken:
        group.put_again(span)
    state.wake_group(queue.name, group.name)


def extend(state: State, entry: Entry, command: m.Extend) -> Answer:
    lost: list[int] = []
    for lease_id in command.leases:
        lease = state.leases.get(lease_id)
        if lease is None or lease.session != entry.session:
            lost.append(lease_id)
            continue
        lease.ends_ms = entry.stamp_ms + command.lease_ms
        state.touched_queues.add(lease.queue_id)
        state.timers.append(Timer(lease.ends_ms, lease.id, "", ""))
    cancelled = state.sessions[entry.session].take_cancelled(command.leases)
    return Answer("ok", {"lost": lost, "cancelled": cancelled})


def expire(state: State, entry: Entry, command: m.Expire) -> Answer:
    lease = state.leases.get(command.lease)
    if lease is not None and lease.ends_ms == command.ends_ms and lease.ends_ms <= entry.stamp_ms:
        fail_lease(state, lease, "its lease ended")
    return OK


def fail_lease(state: State, lease: Lease, what: str) -> None:
    """The holder was not heard of in time: a failure for every message it held. `what` happened, in words."""
    queue, taken = state.by_id[lease.queue_id], lease.spans
    why = Why(f"{what} too often", notes.EXPIRED, holder_of(state, lease), what)
    state.end_lease(lease)
    _fail(state, queue, lease.group, taken, queue.options.retry_delay_ms, why)


def _fail(state: State, queue: Queue, group: Group, taken: list[Span], delay_ms: int, why: Why) -> int:
    """One failure more for each; those that reach the limit go to the dead letters. Returns how many those are."""
    limit = queue.options.max_failures
    dead: list[Span] = []
    for span in taken:
        failed = span._replace(failures=span.failures + 1)
        note_failure(state, queue, failed, why)
        if limit is not None and failed.failures >= limit:
            dead.append(failed)
            continue
        if delay_ms:
            group.put_delayed(failed, state.stamp_ms + delay_ms)
        else:
            group.put_again(failed)
        _tell(state, "job.failed", queue, group, failed, failures=failed.failures)
    if delay_ms and len(dead) < len(taken):
        state.timers.append(Timer(state.stamp_ms + delay_ms, 0, queue.name, group.name))
    state.wake_group(queue.name, group.name)
    _bury(state, queue, group, dead, why)
    return sum(span.end - span.first for span in dead)


def _bury(state: State, queue: Queue, group: Group, spans: list[Span], why: Why) -> None:
    """To the dead-letter queue and terminal, in one. The messages stay where they are: both queues point there."""
    if not spans:
        return
    dead_queue = _dead_queue(state, queue)
    for span in spans:
        dead_offset = dead_queue.next
        for extent, start, end in queue.extents.between(span.first, span.end):
            note = {
                "penstock-queue": queue.name, "penstock-offset": start,
                "penstock-failures": span.failures, "penstock-reason": why.dead,
            }  # fmt: skip
            if why.text and why.text != why.dead:
                note["penstock-error"] = why.text[: notes.REASON_MAX]
            if queue.kind != QUEUE:  # the other groups have nothing to do with it
                note["penstock-group"] = group.name
            share(state, dead_queue, extent, start, end, note)
        if queue.kind == QUEUE:
            start = -1 if why.error is None else 0
            add_outcome(state, queue, span, "dead", why.dead, holder=why.holder, start=start, dead_offset=dead_offset)
        group.finish(span.first, span.end)
        group.dead += span.end - span.first
        _tell(state, "job.dead", queue, group, span, failures=span.failures, reason=why.dead)
    state.wake_group(queue.name, group.name)
    state.wake_group(dead_queue.name, "")
    state.ended[queue.name] = None
    state.drop(queue)


def _tell(state: State, event: str, queue: Queue, group: Group, span: Span, **more: Any) -> None:
    if queue.kind != QUEUE:
        more["group"] = group.name
    state.emit(event, queue.name, span.first, span.end - span.first, **more)


def _dead_queue(state: State, queue: Queue) -> Queue:
    """Where the dead letters of a queue go, made when first needed; a dead-letter queue keeps its own."""
    name = queue.name if queue.name.endswith(DEAD) and queue.kind == QUEUE else queue.name + DEAD
    while (found := state.queues.get(name)) is not None and found.kind != QUEUE:
        name += DEAD
    if found is None:
        found = state.new_queue(name, QUEUE, Options(max_failures=None))
    state.touched_queues.add(found.id)
    return found


def share(state: State, queue: Queue, extent: Extent, start: int, end: int, note: dict[str, Any] | None) -> int:
    """Append messages that lie in a log entry already. Returns the offset of the first one."""
    state.hold(extent.home)
    size = extent.size * (end - start) // extent.count
    place = extent.start + start - extent.first
    state.touched_queues.add(queue.id)
    return queue.append(extent.home, place, end - start, extent.total, size, state.stamp_ms, extent.plain, note)
