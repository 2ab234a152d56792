"""What commands do to messages on their way: pull, and the ways in which a message leaves its lease."""

from __future__ import annotations

from typing import Any

from ..peers import messages as m
from ..peers.errors import LeaseLost
from ..peers.log import Entry
from ..peers.wire import unpack_payload
from . import notes
from .endings import Why, holder_of, note_failure
from .groups import Group, Lease, Piece, Span
from .options import QUEUE
from .queues import Queue
from .retries import bury, fail, give_back
from .sessions import OK, Answer
from .state import State, Timer

NO_MORE: dict[str, Any] = {}  # to say of an event
NOTHING = Answer("ok", {"lease": None})


def pull(state: State, entry: Entry, command: m.Pull) -> Answer:
    """Grant a lease. The answer holds the pieces, out of which the node makes the delivery."""
    queue = state.queue(command.queue)
    group = state.group(queue, command.group)
    if queue.paused:
        return NOTHING
    state.touched_queues.add(queue.id)
    pieces = group.grant(queue.extents, queue.next, entry.stamp_ms, command.messages, command.size_max)
    if group.shelf.total:
        state.arm(queue, group, entry.stamp_ms)
    if not pieces:
        return NOTHING
    if queue.options.rate is not None:
        queue.rate.take(queue.options.rate, entry.stamp_ms, sum([piece.end - piece.start for piece in pieces]))
    ends_ms = entry.stamp_ms + command.lease_ms
    spans = _spans(pieces)
    lease = Lease(entry.index, queue.id, group, entry.session, command.pull, spans, ends_ms, entry.stamp_ms)
    state.leases[lease.id] = lease
    state.sessions[entry.session].leases[command.pull] = lease.id
    state.timers.append(Timer(ends_ms, lease.id, queue.name, group.name))
    if queue.kind == QUEUE:
        for span in lease.spans:
            more = {"attempt": span.attempt} if span.attempt > 1 else NO_MORE
            state.emit("job.running", queue.name, span.first, span.end - span.first, **more)
    return Answer("ok", {"lease": lease.id, "ends_ms": ends_ms, "pieces": pieces})


def pieces_of(state: State, lease: Lease) -> list[Piece]:
    """What a lease holds, to deliver it once more: the most urgent first."""
    queue = state.by_id[lease.queue_id]
    pieces = [
        Piece(extent, start, end, span.attempt, span.failures)
        for span in lease.spans
        for extent, start, end in queue.extents.between(span.first, span.end)
    ]
    return sorted(pieces, key=_urgency) if queue.has_properties else pieces


def _urgency(piece: Piece) -> int:
    priority: int = (piece.extent.properties or NO_MORE).get("priority", 0)
    return -priority


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
    for span in taken if queue.notes.rows else ():
        queue.notes.drop(span.first, span.end)
    finish(state, queue, group, taken, "message.acked")
    return OK


def finish(state: State, queue: Queue, group: Group, taken: list[Span], event: str) -> None:
    """These are done: nobody gets them again."""
    more = NO_MORE if queue.kind == QUEUE else {"group": group.name}
    for first, end in _joined(taken) if len(taken) > 1 else ((taken[0].first, taken[0].end),):
        group.done += end - first
        state.emit(event, queue.name, first, end - first, **more)
        state.finish(queue, group, first, end)
    state.wake_group(queue.name, group.name)  # the window of what may be in flight has room again
    state.ended[queue.name] = None
    state.drop(queue)


def _joined(spans: list[Span]) -> list[tuple[int, int]]:
    """The ranges that spans cover, whatever their histories: what waited one by one may be done side by side."""
    joined: list[tuple[int, int]] = []
    for span in sorted(spans):
        if joined and joined[-1][1] == span.first:
            joined[-1] = (joined[-1][0], span.end)
        else:
            joined.append((span.first, span.end))
    return joined


def nack(state: State, entry: Entry, command: m.Nack) -> Answer:
    holder = holder_of(state, state.leases.get(command.lease))
    queue, group, taken = held(state, entry, command.lease, command.ranges)
    why = Why("it failed too often", notes.NACKED, holder, command.reason, _error(entry, command.has_error))
    return Answer("ok", {"dead": fail(state, queue, group, taken, command.delay_ms, why)})


def reject(state: State, entry: Entry, command: m.Reject) -> Answer:
    holder = holder_of(state, state.leases.get(command.lease))
    queue, group, taken = held(state, entry, command.lease, command.ranges)
    failed = [span._replace(failures=span.failures + 1) for span in taken]
    error = _error(entry, command.has_error)
    text = command.error_text or command.reason
    why = Why(command.reason or "it was rejected", notes.REJECTED, holder, text, error)
    for span in failed:
        note_failure(state, queue, span, why)
    bury(state, queue, group, failed, why)
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
    fail(state, queue, lease.group, taken, None, why)
