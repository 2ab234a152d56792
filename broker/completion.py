"""`complete`: the end of jobs, their results, and what they bring forth, in one step or not at all."""

from __future__ import annotations

from typing import Any

from ..peers import messages as m
from ..peers.errors import InvalidArgument
from ..peers.log import Entry
from .delivery import finish, held
from .endings import add_outcome, holder_of
from .groups import Span
from .options import QUEUE, Options
from .publish import check_room, make_room
from .queues import Queue
from .sessions import OK, Answer
from .state import State


def complete(state: State, entry: Entry, command: m.Complete) -> Answer:
    """Ack, results and outputs. A target that has no room refuses all of it."""
    lease = state.leases.get(command.lease)
    holder = holder_of(state, lease)
    if lease is not None and lease.session == entry.session:
        queue = state.by_id[lease.queue_id]
        if queue.kind != QUEUE:
            # Each group could end the same message, and an outcome is of one job.
            raise InvalidArgument(f"{queue.name} is a topic and has no jobs", "ack what comes from a topic")
        if command.outputs or queue.options.result_queue is not None:
            _check_targets(state, queue, command)
    queue, group, taken = held(state, entry, command.lease, command.ranges)
    at = 0
    for span in taken:
        add_outcome(state, queue, span, "done", holder=holder, start=at, each=True)
        at += span.end - span.first
    for name, count, size, keys in command.outputs:
        _append(state, state.queue(name), entry, at, count, size, command, None, keys)
        at += count
    if queue.options.result_queue is not None:
        _append_results(state, queue, entry, command, taken)
    finish(state, queue, group, taken, "job.done")
    return OK


def _check_targets(state: State, queue: Queue, command: m.Complete) -> None:
    """Raises NotFound or QueueFull if something of the outputs or results has no place to go."""
    wanted: dict[str, tuple[int, int]] = {}
    for name, count, size, _ in command.outputs:
        before = wanted.get(name, (0, 0))
        wanted[name] = before[0] + count, before[1] + size
    target = queue.options.result_queue
    if target is not None and target in state.queues:
        before = wanted.get(target, (0, 0))
        wanted[target] = before[0] + sum([count for _, count in command.ranges]), before[1] + command.size
    for name, (count, size) in wanted.items():
        check_room(state.queue(name), count, size)


def _append_results(state: State, queue: Queue, entry: Entry, command: m.Complete, taken: list[Span]) -> None:
    """The results once more, as messages of the result queue, which is made when first needed."""
    name = queue.options.result_queue
    assert name is not None
    target = state.queues.get(name) or state.new_queue(name, QUEUE, Options())
    at, each = 0, command.size // max(1, sum([count for _, count in command.ranges]))
    for span in taken:
        note = {"penstock-job": f"{queue.name}/{span.first}", "penstock-status": "done"}
        count = span.end - span.first
        _append(state, target, entry, at, count, each * count, command, note)
        at += count


def _append(
    state: State,
    queue: Queue,
    entry: Entry,
    start: int,
    count: int,
    size: int,
    command: m.Complete,
    note: dict[str, Any] | None,
    keys: tuple[str | None, ...] | None = None,
) -> None:
    """Bodies of the entry become messages."""
    make_room(state, queue, count, size)
    state.claim()
    first = queue.append(
        entry.index, start, count, command.total, size, entry.stamp_ms, command.plain, note, None,
        keys if queue.options.ordered_by else None,
    )  # fmt: skip
    state.touched_queues.add(queue.id)
    state.wake(queue)
    if queue.kind == QUEUE:
        state.emit("job.queued", queue.name, first, count)
