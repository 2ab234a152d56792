"""How messages end that nobody worked on: their time was over, a parent failed, they had to make room."""

from __future__ import annotations

from .endings import add_outcome
from .groups import Group, Span
from .queues import Queue
from .state import State

OUTDATE_MAX = 300  # spots that one command ends, about 20 ms


def end(state: State, queue: Queue, group: Group, span: Span, status: str, reason: str) -> None:
    """These messages, taken out of their place, are terminal. `state.drop` is the caller's to call, once."""
    if group is queue.groups.get(""):
        add_outcome(state, queue, span, status, reason)
        state.ended[queue.name] = None
        state.emit(f"job.{status}", queue.name, span.first, span.end - span.first, reason=reason)
    state.finish(queue, group, span.first, span.end, status)


def outdate(state: State, queue: Queue) -> None:
    """End what waits for longer than its time to live."""
    group = queue.groups[""]
    for _ in range(OUTDATE_MAX):
        spot = group.shelf.next_expired(state.stamp_ms)
        if spot is None:
            break
        group.shelf.remove(spot)
        end(state, queue, group, Span(*spot[:4]), "expired", "its time to live was over")
    state.drop(queue)


def drop_oldest(state: State, queue: Queue, count: int, size: int | None) -> None:
    """Make room in a full queue at the cost of what waits there longest. What is leased does not count. `size` None: it
    is the number of messages alone that matters."""
    group, options = queue.groups[""], queue.options
    size_max = None if size is None else options.max_bytes
    while True:
        over = 0
        if options.max_messages is not None:
            over = group.open_count(queue.next) - group.leased + count - options.max_messages
        if over <= 0 and (size_max is None or queue.bytes + (size or 0) <= size_max):
            return
        first = group.lowest_waiting(queue.next)
        if first is None:
            return
        extent = queue.extents.at(first)
        spot = group.shelf.at(first)
        stop = min(extent.end, first + over) if over > 0 else extent.end
        if spot is not None:
            span = Span(first, min(stop, spot.end), spot.attempt, spot.failures)
            group.shelf.cut(spot, first, span.end)
        else:
            _, fresh_end = next(group.fresh(queue.next, first))
            span = Span(first, min(stop, fresh_end), 0, 0)
        end(state, queue, group, span, "expired", "it was dropped: the queue was full")
        state.drop(queue)
