"""What an append does: a batch goes to the end of its queue, and, if it asked for more, to where it has to wait."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from ..peers import messages as m
from ..peers.errors import AlreadyExists, InvalidArgument
from ..peers.log import Entry
from . import parents
from .expiry import drop_oldest
from .groups import Group
from .options import DROP_OLDEST, QUEUE, Options
from .queues import Queue
from .sessions import Answer
from .shelf import HELD, NEVER, READY, Spot
from .state import State
from .uniques import Known

LOOK_AGAIN_MS = 60_000  # at an id whose job takes longer than its time
OF_QUEUES = ("priority", "delay_ms", "due_ms", "ttl_ms", "ids", "after")
KEPT = ("priority", "max_failures", "retry_delay_ms", "retry_backoff", "retry_delay_max_ms", "retry_jitter", "ids")


def append(
    state: State, entry: Entry, command: m.Append, home: int | None = None, note: dict[str, Any] | None = None
) -> Answer:
    """`home`, `note`: of messages that lie in another log entry, with headers that come on top."""
    queue = state.queue(command.queue)
    count, size, asked = command.count, command.size, command.properties
    if asked is not None:
        check(state, queue, asked)
    too_many = _drops_its_own(queue.options, count, size)
    if too_many:
        drop_oldest(state, queue, count, size)
    else:
        make_room(state, queue, count, size)
    kept = None if asked is None else _kept(asked, state.stamp_ms) or None
    state.claim()
    first = queue.append(
        home or entry.index, 0, count, count, size, entry.stamp_ms, command.plain, note, kept,
        command.keys if queue.options.ordered_by else None,
    )  # fmt: skip
    state.touched_queues.add(queue.id)
    state.wake(queue)
    if queue.kind == QUEUE:
        state.emit("job.queued", queue.name, first, count)
        if asked is not None:
            _place(state, queue, first, count, asked, (kept or {}).get("expires_ms", NEVER))
    if too_many:
        drop_oldest(state, queue, 0, None)
    return Answer("ok", {"offset": first, "count": count, "index": entry.index})


def check_room(queue: Queue, count: int, size: int) -> None:
    """Whether a batch can have room, at the cost of others if need be. Raises QueueFull."""
    if queue.options.overflow == DROP_OLDEST and _fits_alone(queue.options, count, size):
        return
    queue.check_room(count, size)


def make_room(state: State, queue: Queue, count: int, size: int) -> None:
    """Room for a batch. Raises QueueFull, and then nothing has changed."""
    options = queue.options
    if options.max_messages is None and options.max_bytes is None:
        return
    check_room(queue, count, size)
    if options.overflow == DROP_OLDEST:
        drop_oldest(state, queue, count, size)


def _fits_alone(options: Options, count: int, size: int) -> bool:
    return (options.max_messages is None or count <= options.max_messages) and (
        options.max_bytes is None or size <= options.max_bytes
    )


def _drops_its_own(options: Options, count: int, size: int) -> bool:
    """Whether so many come at once that the oldest of them are too old already: how a producer that gathers cuts what
    it sends is not its user's choice."""
    if options.overflow != DROP_OLDEST or options.max_messages is None or count <= options.max_messages:
        return False
    return options.max_bytes is None or size <= options.max_bytes


def check(state: State, queue: Queue, asked: dict[str, Any]) -> None:
    """Raises InvalidArgument, AlreadyExists, NotFound, before anything has changed."""
    if queue.kind != QUEUE:
        for name in OF_QUEUES:
            if name in asked:
                raise InvalidArgument(f"{name} is for queues", f"{queue.name} is a topic: leave it out")
    if queue.options.ordered_by and asked.get("priority"):
        raise InvalidArgument(
            f"queue {queue.name} is ordered by key, a priority would break the order", "leave priority out"
        )
    for id in asked.get("ids", ()):
        known = queue.uniques.find(id)
        if known is not None and (state.stamp_ms < known.until_ms or not queue.groups[""].has_ended(known.offset)):
            job = f"{queue.name}/{known.offset}"
            raise AlreadyExists(f"the id {id!r} belongs to job {job}", "take that one, or give another id", job)
    parents.check(state, asked.get("after", ()))


def _kept(asked: dict[str, Any], stamp_ms: int) -> dict[str, Any]:
    """The properties that matter as long as the messages live."""
    kept = {name: asked[name] for name in KEPT if name in asked}
    if "ttl_ms" in asked:
        kept["expires_ms"] = stamp_ms + asked["ttl_ms"]
    if "after" in asked:
        kept["after"] = asked["after"]
    return kept


def _place(state: State, queue: Queue, first: int, count: int, asked: dict[str, Any], expires_ms: int) -> None:
    """To the shelf, if the batch is to wait for something or to be ahead of others; and into the books of ids."""
    group, ids = queue.groups[""], asked.get("ids", ())
    until_ms = state.stamp_ms + queue.options.unique_ms
    for at, id in enumerate(ids):
        queue.uniques.put(id, Known(first + at, until_ms, until_ms))
    priority, after = asked.get("priority", 0), asked.get("after")
    dues = _dues(asked, state.stamp_ms, count)
    if not (priority or after or expires_ms or any(dues)):
        return
    if after is not None and parents.hold(state, queue, first, count, after, asked, dues[0]):
        dues = [HELD] * count
    _shelve(group, first, dues, priority, expires_ms)
    state.arm(queue, group, state.stamp_ms)


def _shelve(group: Group, first: int, dues: list[int], priority: int, expires_ms: int) -> None:
    """Neighbours that fall due together share a spot."""
    for due_ms, same in groupby(dues):
        end = first + sum(1 for _ in same)
        group.place(Spot(first, end, 0, 0, priority, due_ms, expires_ms))
        first = end


def _dues(asked: dict[str, Any], stamp_ms: int, count: int) -> list[int]:
    """When each message may be given; READY: at once."""
    if "delay_ms" in asked:
        delays = asked["delay_ms"]
        if isinstance(delays, int):
            return [stamp_ms + delays if delays else READY] * count
        return [stamp_ms + delay if delay else READY for delay in delays]
    due = asked.get("due_ms", READY)
    dues = [due] * count if isinstance(due, int) else due
    return [due_ms if due_ms > stamp_ms else READY for due_ms in dues]


def forget_ids(state: State, queue: Queue, command: m.ForgetIds) -> None:
    """These ids may be given again, but for those of jobs that have not ended: theirs go on."""
    state.touched_queues.add(queue.id)
    for id in command.ids:
        known = queue.uniques.find(id)
        if known is None or known.look_ms > state.stamp_ms:
            continue
        if queue.groups[""].has_ended(known.offset):
            queue.uniques.remove(id)
        else:
            queue.uniques.put(id, known._replace(look_ms=state.stamp_ms + LOOK_AGAIN_MS))
