"""`group_retry`: dead letters of a group are its messages again. They lie where they always did, in the topic."""

from __future__ import annotations

from typing import NamedTuple

from ..peers import messages as m
from .cancelling import take_waiting, waiting_parts
from .extents import Extent
from .groups import Span
from .queues import Queue
from .retries import letter_queues, tell
from .sessions import Answer
from .shelf import NEVER, READY, Spot
from .state import State
from .topics import topic_of


class Letter(NamedTuple):
    """The dead letters [first, end) of a queue, and the offset in the topic and the attempt at which they died."""

    queue: Queue
    first: int
    end: int
    offset: int
    attempt: int


def retry_group(state: State, command: m.RetryGroup) -> Answer:
    """The oldest of them leave the dead letters, and the group gets them anew: no failure counts any more."""
    topic = topic_of(state, command.topic)
    group = state.group(topic, command.group)
    letters = _letters(state, topic, group.name, command.limit)
    for letter in letters:
        first, end = letter.offset, letter.offset + letter.end - letter.first
        # What the group has before it anyway, since it was sent back there, needs its letter no more.
        for start, stop in group.reopen(first, end):
            group.shelf.put(Spot(start, stop, letter.attempt, 0, 0, READY, NEVER))
            tell(state, "job.queued", topic, group, Span(start, stop, letter.attempt, 0))
        _remove(state, letter)
    for queue in {letter.queue.id: letter.queue for letter in letters}.values():
        state.ended[queue.name] = None
        state.drop(queue)
    state.touched_queues.add(topic.id)
    state.wake_group(topic.name, group.name)
    return Answer("ok", {"count": sum(letter.end - letter.first for letter in letters)})


def _letters(state: State, topic: Queue, group: str, limit: int) -> list[Letter]:
    """Those of the group whose messages the topic still keeps, and that nobody has leased."""
    found: list[Letter] = []
    for queue in letter_queues(state, topic):
        for start, stop in waiting_parts(state, queue, 0, queue.next):
            for extent, first, end in queue.extents.between(start, stop):
                note = extent.note or {}
                if note.get("penstock-queue") != topic.name or note.get("penstock-group") != group:
                    continue
                offset = note["penstock-offset"] + first - extent.first
                gone = max(0, topic.trimmed - offset)
                first, offset = first + gone, offset + gone
                end = min(end, first + limit)
                if first >= end or not _is_same(topic, offset, extent, first):
                    continue
                # Letters of earlier versions do not say it: each failure was an attempt.
                attempt = note.get("penstock-attempt", note["penstock-failures"])
                found.append(Letter(queue, first, end, offset, attempt))
                limit -= end - first
                if not limit:
                    return found
    return found


def _is_same(topic: Queue, offset: int, extent: Extent, first: int) -> bool:
    """Is this the message that died? Not if the topic was deleted since, and made anew."""
    if offset >= topic.next:
        return False
    own = topic.extents.at(offset)
    return (own.home, own.start + offset - own.first) == (extent.home, extent.start + first - extent.first)


def _remove(state: State, letter: Letter) -> None:
    queue = letter.queue
    for span in list(take_waiting(state, queue, letter.first, letter.end)):
        queue.notes.drop(span.first, span.end)
        state.finish(queue, queue.groups[""], span.first, span.end, "cancelled")
