"""Messages that go to another queue, and dead ones that go back: they stay in the log entry where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Any, NamedTuple

from ..peers import messages as m
from ..peers.errors import InvalidArgument, NotFound, PenstockError
from .cancelling import take_waiting, waiting_parts
from .endings import add_outcome
from .extents import Extent
from .jobs import Jobs, job_queue
from .notes import tried_again
from .options import QUEUE
from .origins import note_at, note_that_stays
from .publish import make_room
from .queues import Queue
from .retries import DEAD, letter_queues, share_ready
from .sessions import Answer
from .state import State


class Letter(NamedTuple):
    """Dead jobs [first, first + count), and where their messages lie, from `dead_offset` on."""

    first: int
    count: int  # type: ignore[assignment]
    queue: Queue
    dead_offset: int


def retry(state: State, command: m.Retry) -> Answer:
    """The dead ones of these jobs leave the dead letters and become new jobs; one alone has to be dead."""
    queue = job_queue(state, command.queue)
    first, end = command.offset, command.offset + command.count
    if command.count == 1:
        letters = [_letter(state, queue, first)]
    elif not 0 <= first < end <= queue.next:
        raise NotFound(f"there are no jobs {queue.name}/{first} to {end - 1}", f"the last one is {queue.next - 1}")
    else:
        letters = list(_letters(state, queue, first, end))
    return _submit_again(state, queue, letters)


def _letter(state: State, queue: Queue, offset: int) -> Letter:
    """The dead letter of one job. Raises NotFound, InvalidArgument."""
    info = Jobs(state, queue, state.stamp_ms).describe(offset)
    if info["status"] == "unknown":
        raise NotFound(f"there is no job {queue.name}/{offset}", "look at the list of jobs for its number")
    if "retried_as" in info:
        raise NotFound(f"job {queue.name}/{offset} was retried already", f"it is {info['retried_as']} now")
    if info["status"] != "dead":
        ended = info["status"] in ("done", "cancelled", "expired")
        hint = "submit it again" if ended else "only a dead job can be retried"
        raise InvalidArgument(f"job {queue.name}/{offset} is not dead but {info['status']}", hint)
    return _find(state, queue, letter_queues(state, queue), info["dead_offset"], offset)


def _letters(state: State, queue: Queue, first: int, end: int) -> Iterator[Letter]:
    """The dead letters of these jobs, as far as they can be had."""
    among = letter_queues(state, queue)
    for outcome in queue.outcomes.from_offset(first):
        if outcome.first >= end:
            return
        if outcome.status != "dead":
            continue
        for offset in range(max(first, outcome.first), min(end, outcome.first + outcome.count)):
            try:
                yield _find(state, queue, among, outcome.dead_offset + offset - outcome.first, offset)
            except PenstockError:
                continue  # it is leased, or was taken: the others can be retried all the same


def _find(state: State, queue: Queue, among: list[Queue], dead_offset: int, offset: int) -> Letter:
    """Where the message of a dead job lies, unless it was taken or purged there. Raises NotFound, InvalidArgument."""
    for candidate in among:
        group = candidate.groups[""]
        if not max(group.floor, candidate.dropped) <= dead_offset < candidate.next:
            continue
        if group.has_ended(dead_offset):
            continue
        extent = candidate.extents.at(dead_offset)
        note = extent.note or {}
        origin = note.get("penstock-offset", -1) + dead_offset - extent.first
        if note.get("penstock-queue") != queue.name or origin != offset:
            continue
        if not group.waits(dead_offset):
            raise InvalidArgument(
                f"the dead letter of job {queue.name}/{offset} is leased by a consumer", "try again when it is released"
            )
        return Letter(offset, 1, candidate, dead_offset)
    raise NotFound(
        f"the message of dead job {queue.name}/{offset} is no longer in the dead-letter queue",
        "it was retried, taken or purged; submit the job again",
    )


def retry_dead(state: State, command: m.RetryDead) -> Answer:
    """The oldest dead letters that came from a queue become new jobs of it."""
    if state.queue(command.queue).kind != QUEUE:
        raise InvalidArgument(
            f"{command.queue} is a topic and has no jobs",
            "dead letters of a topic are those of its groups: retry a group",
        )
    queue = job_queue(state, command.queue)
    return _submit_again(state, queue, _oldest_letters(state, queue, command.limit))


def _oldest_letters(state: State, queue: Queue, limit: int) -> list[Letter]:
    """Those that came from the queue and that nobody has leased, `limit` messages of them."""
    letters: list[Letter] = []
    for candidate in letter_queues(state, queue):
        for start, stop in waiting_parts(state, candidate, 0, candidate.next):
            for extent, first, end in candidate.extents.between(start, stop):
                note = extent.note or {}
                if note.get("penstock-queue") != queue.name:
                    continue
                end = min(end, first + limit)
                letters.append(Letter(note["penstock-offset"] + first - extent.first, end - first, candidate, first))
                limit -= end - first
                if not limit:
                    return letters
    return letters


def _submit_again(state: State, queue: Queue, letters: list[Letter]) -> Answer:
    """These messages become new jobs, in this order. Raises QueueFull, and then nothing has changed."""
    # A letter that comes back to the queue in which it lies goes as it comes.
    others = [(it.queue, it.dead_offset, it.dead_offset + it.count) for it in letters if it.queue is not queue]
    _make_room(state, queue, others, may_drop=len(others) == len(letters))
    retried: list[list[int]] = []
    count = 0
    for letter in letters:
        new = _hand_over(state, letter.queue, queue, letter.dead_offset, letter.dead_offset + letter.count)
        before = retried[-1] if retried else [0, 0, 0]
        if before[1] and before[0] + before[1] == letter.first and before[2] + before[1] == new:
            before[1] += letter.count
        else:
            retried.append([letter.first, letter.count, new])
        count += letter.count
    for dead_queue in {letter.queue.id: letter.queue for letter in letters}.values():
        state.ended[dead_queue.name] = None
        state.drop(dead_queue)
    for old, some, new in retried:
        state.emit("job.queued", queue.name, new, some, retry_of=old)
    state.wake(queue)
    return Answer("ok", {"offset": retried[0][2] if retried else None, "count": count, "retried": retried})


def move(state: State, command: m.Move) -> Answer:
    """The oldest messages that are ready leave a queue for another one; there they are new."""
    queue, target = job_queue(state, command.queue), job_queue(state, command.target)
    if queue is target:
        raise InvalidArgument(f"target is {target.name}, which is where they are", "name another queue")
    parts: list[tuple[Queue, int, int]] = []
    left = command.limit
    for start, stop in _ready_parts(state, queue):
        stop = min(stop, start + left)
        left -= stop - start
        parts.append((queue, start, stop))
        if not left:
            break
    _make_room(state, target, parts, may_drop=True)
    first = target.next
    for _, start, stop in parts:
        _hand_over(state, queue, target, start, stop)
    if parts:
        state.emit("job.queued", target.name, first, command.limit - left, moved_from=queue.name)
        state.wake(target)
        state.wake(queue)
        state.ended[queue.name] = None
        state.drop(queue)
    return Answer("ok", {"moved": command.limit - left})


def _ready_parts(state: State, queue: Queue) -> Iterator[tuple[int, int]]:
    """The stretches that wait for nothing but a consumer, the oldest first. Those that wait for their time or for other
    jobs stay."""
    group = queue.groups[""]
    spots = group.shelf.ready_spots(state.stamp_ms, blocked=True)
    return merge(((spot.first, spot.end) for spot in spots), group.fresh(queue.next))


def _make_room(state: State, target: Queue, parts: list[tuple[Queue, int, int]], may_drop: bool) -> None:
    count = size = 0
    for queue, start, stop in parts:
        for extent, first, end in queue.extents.between(start, stop):
            count += end - first
            size += extent.size * (end - first) // extent.count
    if count and may_drop:
        make_room(state, target, count, size)
    elif count:
        target.check_room(count, size)  # what it would drop may be what is about to come


def _hand_over(state: State, queue: Queue, target: Queue, start: int, stop: int) -> int:
    """Waiting messages leave a queue and are appended to another one. Returns the offset of the first one there."""
    new = target.next
    for span in list(take_waiting(state, queue, start, stop)):
        place = target.next
        for extent, first, end in queue.extents.between(span.first, span.end):
            at = share_ready(state, target, extent, first, end, _note_for(extent.note, target, first - extent.first))
            if queue.name.endswith(DEAD):
                _note_again(state, extent, first, end, target, at)
        if not queue.name.endswith(DEAD):
            add_outcome(state, queue, span, "cancelled", f"it was moved to {target.name}/{place}")
        queue.notes.drop(span.first, span.end)
        state.finish(queue, queue.groups[""], span.first, span.end, "cancelled")
    return new


def _note_again(state: State, letters: Extent, first: int, end: int, target: Queue, place: int) -> None:
    """The jobs whose dead letters are [first, end) of these are tried again in `target`, from `place` on."""
    note = letters.note or {}
    queue = state.queues.get(note.get("penstock-queue", ""))
    if queue is None or queue.kind != QUEUE:
        return
    job = note["penstock-offset"] + first - letters.first
    for outcome in queue.outcomes.from_offset(job):
        start, stop = max(job, outcome.first), min(job + end - first, outcome.first + outcome.count)
        if start >= stop:
            return
        # A queue that was deleted may have left letters to one of the same name, whose jobs they are not.
        if outcome.dead_offset >= 0 and outcome.dead_offset - outcome.first == first - job:
            queue.notes.change(start, stop, tried_again(target.name, place - job))
            state.touched_queues.add(queue.id)


def _note_for(note: dict[str, Any] | None, target: Queue, by: int) -> dict[str, Any] | None:
    """The headers that a message brings along: a dead letter that comes home is a job like others."""
    if note is None or note.get("penstock-queue") == target.name:
        return note_that_stays(note) or None
    return note_at(note, by)
