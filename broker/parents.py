"""Jobs that wait for other jobs, their parents, to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..peers.errors import InvalidArgument, NotFound
from .dependents import Held, ParentEnd
from .expiry import end
from .groups import Group, Span
from .options import QUEUE
from .queues import Queue
from .shelf import HELD, READY, Spot
from .state import State

CANCEL, RELEASE = "cancel", "release"  # what becomes of a job when one of its parents fails
TOLD_MAX = 250  # batches of children that one command lets go or ends, about 20 ms
Parents = Sequence[tuple[str, int, int]]  # (queue, first, count), ...


def check(state: State, after: Parents) -> None:
    """Raises NotFound, InvalidArgument."""
    for name, first, count in after:
        queue = state.queue(name)
        if queue.kind != QUEUE:
            raise InvalidArgument(f"{name} is a topic and has no jobs", "a job waits for jobs of queues")
        if first + count > queue.next:
            raise NotFound(f"there is no job {name}/{max(first, queue.next)} to wait for", "submit the parents first")


def hold(
    state: State, queue: Queue, first: int, count: int, after: Parents, asked: dict[str, Any], due_ms: int
) -> bool:
    """Let a batch wait for its parents. False: all of them have ended, and well."""
    left, failed, child = 0, 0, (queue.id, first)
    for name, start, some in after:
        parent = state.queue(name)
        group = parent.groups[""]
        stop = start + some
        ended = _ended(group, start, stop)
        left += stop - start - ended
        failed += _failed(parent, start, stop)
        if ended < stop - start:
            parent.dependents.add(start, stop, child, stop - start - ended)
            state.touched_queues.add(parent.id)
    on_failure = asked.get("on_failure", CANCEL)
    if not left and not (failed and on_failure == CANCEL):
        return False
    queue.held.put((first,), Held(first + count, left, on_failure, due_ms))
    if failed:
        state.parent_ends.append(ParentEnd(*child, 0, True))
    return True


def _ended(group: Group, start: int, stop: int) -> int:
    below = max(0, min(stop, group.floor) - start)
    return below + group.acked.count_between(start + below, stop)


def _failed(queue: Queue, start: int, stop: int) -> int:
    count = 0
    for outcome in queue.outcomes.from_offset(start):
        if outcome.first >= stop:
            break
        if outcome.status != "done":
            count += min(stop, outcome.first + outcome.count) - max(start, outcome.first)
    return count


def tell_children(state: State) -> None:
    """Parents have ended: let those go that waited for them, or end them, too, and tell who waits for these.

    TOLD_MAX of them: what is more than that is left to TellChildren.
    """
    for _ in range(TOLD_MAX):
        if not state.parent_ends:
            return
        queue_id, first, ended, failed = state.parent_ends.popleft()
        queue = state.by_id.get(queue_id)
        held = None if queue is None else queue.held.pop((first,))
        if queue is None or held is None:
            continue
        state.touched_queues.add(queue_id)
        held = held._replace(left=held.left - ended)
        if failed and held.on_failure == CANCEL:
            _cancel(state, queue, first, held.end)
        elif held.left <= 0:
            _release(state, queue, first, held)
        else:
            queue.held.put((first,), held)


def _cancel(state: State, queue: Queue, first: int, stop: int) -> None:
    group = queue.groups[""]
    for spot in _held_spots(group, first, stop):
        group.shelf.remove(spot)
        end(state, queue, group, Span(*spot[:4]), "cancelled", "a job that it waited for has failed")
    state.drop(queue)


def _release(state: State, queue: Queue, first: int, held: Held) -> None:
    group = queue.groups[""]
    due_ms = held.due_ms if held.due_ms > state.stamp_ms else READY
    for spot in _held_spots(group, first, held.end):
        group.shelf.remove(spot)
        group.shelf.put(spot._replace(due_ms=due_ms))
    state.arm(queue, group, state.stamp_ms)
    state.wake_group(queue.name, group.name)


def _held_spots(group: Group, first: int, stop: int) -> list[Spot]:
    found = []
    while first < stop:
        spot = group.shelf.at(first)
        if spot is not None and spot.due_ms == HELD:
            found.append(spot)
        first = first + 1 if spot is None else spot.end
    return found


def forget_queue(state: State, queue: Queue) -> None:
    """The queue is deleted: who waited for its jobs counts them as failed; who waited in it is gone."""
    state.parent_ends += [ParentEnd(*child, 0, True) for child in queue.dependents.take_all()]
    queue.held.clear()
