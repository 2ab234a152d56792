"""What becomes of a message that failed: another try after a pause, or the dead letters."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import notes
from .endings import Why, add_outcome, note_failure
from .expiry import end
from .extents import Extent
from .groups import Group, Span
from .options import QUEUE, Options
from .origins import note_that_stays
from .queues import Queue
from .shelf import NEVER, READY, Spot
from .state import State

DEAD = ".dead"
FIRST_DELAY_MS = 1_000  # of a back-off that doubles and was given no first delay
NOT_SHARED = ("expires_ms", "ids", "after")  # of a dead letter, and of a dead job that is tried anew
PLAIN: dict[str, Any] = {}


class Retries(NamedTuple):
    """How often and after which pauses a message is tried again. Times in ms."""

    max_failures: int | None
    retry_delay_ms: int
    retry_backoff: str
    retry_delay_max_ms: int
    retry_jitter: int  # percent

    def delay_ms(self, failures: int, chance: int) -> int:
        """The pause after so many failures. `chance`: 32 bits that decide the jitter."""
        delay_ms = self.retry_delay_ms
        if self.retry_backoff == "exponential":
            delay_ms = (delay_ms or FIRST_DELAY_MS) << min(failures - 1, 40)
        delay_ms = min(delay_ms, self.retry_delay_max_ms) if failures > 1 else delay_ms
        return delay_ms - ((delay_ms * self.retry_jitter * chance) >> 32) // 100


def retries_of(options: Options, properties: dict[str, Any]) -> Retries:
    """Those of the message, and where it says nothing those of its queue."""
    return Retries(*[properties.get(name, getattr(options, name)) for name in Retries._fields])


def fail(state: State, queue: Queue, group: Group, taken: list[Span], asked_ms: int | None, why: Why) -> int:
    """One failure more for each; those that reach the limit go to the dead letters. Returns how many those are.

    `asked_ms`: the pause that the consumer asked for.
    """
    dead: list[Span] = []
    plain = retries_of(queue.options, PLAIN)
    for span, properties in _parts(queue, taken):
        retries = plain if properties is PLAIN else retries_of(queue.options, properties)
        failed = span._replace(failures=span.failures + 1)
        note_failure(state, queue, failed, why)
        if retries.max_failures is not None and failed.failures >= retries.max_failures:
            dead.append(failed)
            continue
        tell(state, "job.failed", queue, group, failed, failures=failed.failures)
        for part in _one_by_one(failed) if retries.retry_jitter and asked_ms is None else (failed,):
            delay_ms = asked_ms
            if delay_ms is None:
                chance = zlib.crc32(f"{queue.id}/{part.first}/{part.failures}".encode())
                delay_ms = retries.delay_ms(part.failures, chance)
            _put_back(state, queue, group, part, properties, delay_ms)
    state.arm(queue, group, state.stamp_ms)
    state.wake_group(queue.name, group.name)
    bury(state, queue, group, dead, why)
    state.drop(queue)
    return sum(span.end - span.first for span in dead)


def give_back(state: State, queue: Queue, group: Group, taken: list[Span]) -> None:
    """Ready again, with no failure counted."""
    for span, properties in _parts(queue, taken):
        _put_back(state, queue, group, span, properties, 0)
    state.arm(queue, group, state.stamp_ms)
    state.wake_group(queue.name, group.name)
    state.drop(queue)


def _parts(queue: Queue, spans: list[Span]) -> Iterator[tuple[Span, dict[str, Any]]]:
    """The spans, cut where the properties of the messages change."""
    if not queue.has_properties:
        for span in spans:
            yield span, PLAIN
        return
    for span in spans:
        for extent, first, stop in queue.extents.between(span.first, span.end):
            yield span._replace(first=first, end=stop), extent.properties or PLAIN


def _one_by_one(span: Span) -> Iterator[Span]:
    for offset in range(span.first, span.end):
        yield span._replace(first=offset, end=offset + 1)


def _put_back(state: State, queue: Queue, group: Group, span: Span, properties: dict[str, Any], delay_ms: int) -> None:
    expires_ms = properties.get("expires_ms", NEVER)
    if expires_ms and expires_ms <= state.stamp_ms:
        end(state, queue, group, span, "expired", "its time to live was over")
        return
    due_ms = state.stamp_ms + delay_ms if delay_ms else READY
    group.shelf.put(Spot(*span, properties.get("priority", 0), due_ms, expires_ms))


def bury(state: State, queue: Queue, group: Group, spans: list[Span], why: Why) -> None:
    """To the dead-letter queue and terminal, in one. The messages stay where they are: both queues point there."""
    if not spans:
        return
    dead_queue = _dead_queue(state, queue)
    for span in spans:
        dead_offset = dead_queue.next
        for extent, start, stop in queue.extents.between(span.first, span.end):
            note = note_that_stays(extent.note) | {
                "penstock-queue": queue.name, "penstock-offset": start,
                "penstock-failures": span.failures, "penstock-reason": why.dead,
            }  # fmt: skip
            if why.text and why.text != why.dead:
                note["penstock-error"] = why.text[: notes.REASON_MAX]
            if queue.kind != QUEUE:  # the other groups have nothing to do with it
                note |= {"penstock-group": group.name, "penstock-attempt": span.attempt}
            share(state, dead_queue, extent, start, stop, note)
        count = span.end - span.first
        if queue.kind == QUEUE:
            at = -1 if why.error is None else 0
            add_outcome(state, queue, span, "dead", why.dead, holder=why.holder, start=at, dead_offset=dead_offset)
        group.dead += count
        tell(state, "job.dead", queue, group, span, failures=span.failures, reason=why.dead)
        state.finish(queue, group, span.first, span.end, "dead")
    state.wake_group(queue.name, group.name)
    state.wake_group(dead_queue.name, "")
    state.ended[queue.name] = None
    state.drop(queue)


def tell(state: State, event: str, queue: Queue, group: Group, span: Span, **more: Any) -> None:
    """An event of these messages."""
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


def letter_queues(state: State, queue: Queue) -> list[Queue]:
    """Where dead letters of a queue or topic may lie."""
    own = queue.name.endswith(DEAD) and queue.kind == QUEUE  # a dead-letter queue keeps its own
    found = []
    for name, other in state.queues.items():
        more = name[len(queue.name) :]
        if other.kind == QUEUE and name.startswith(queue.name) and more == DEAD * (len(more) // len(DEAD)):
            found += [other] if more or own else []
    return found


def share(state: State, queue: Queue, extent: Extent, start: int, stop: int, note: dict[str, Any] | None) -> int:
    """Append messages that lie in a log entry already. Returns the offset of the first one."""
    state.hold(extent.home)
    size = extent.size * (stop - start) // extent.count
    place = extent.start + start - extent.first
    state.touched_queues.add(queue.id)
    keys = None
    if queue.options.ordered_by and extent.keys is not None:
        keys = extent.keys[start - extent.first : stop - extent.first]
    properties = {name: value for name, value in (extent.properties or PLAIN).items() if name not in NOT_SHARED}
    return queue.append(
        extent.home, place, stop - start, extent.total, size, state.stamp_ms, extent.plain, note, properties or None,
        keys,
    )  # fmt: skip


def share_ready(state: State, queue: Queue, extent: Extent, start: int, stop: int, note: dict[str, Any] | None) -> int:
    """The same, for messages that are to be worked on: those of a priority go ahead of others."""
    first = share(state, queue, extent, start, stop, note)
    priority = (extent.properties or PLAIN).get("priority", 0)
    if priority and not queue.options.ordered_by:
        queue.groups[""].place(Spot(first, first + stop - start, 0, 0, priority, READY, NEVER))
    return first
