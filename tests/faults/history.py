"""What clients did and saw, written down as it happens, and a checker that finds every promise that was broken.

Each process of a test writes a file of its own, one line for each event, handed to the kernel before the process goes
on: so a history survives the kill of its writer. `check` is pure: histories in, violations out.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

FINAL = frozenset({"ack", "complete", "reject"})  # a message that was settled so never comes again


class Event(NamedTuple):
    """One thing that `actor` did or saw at `at_ms`, on the clock that all processes of a machine share.

    sent: ids are about to be published. accepted: they are durable, from `offset` on. refused: they surely are not.
    delivered: one message came; for `held_ms` from now its lease cannot have ended, unless it is settled.
    asked: it is about to be settled with `op`. settled: that is durable. denied: it is refused with the code `value`.
    result: the job `ids[0]` was seen to end with `value`.
    """

    actor: str
    at_ms: float
    kind: str
    queue: str
    ids: list[str]
    offset: int = -1
    attempt: int = 0
    op: str = ""
    held_ms: float = 0
    value: Any = None


class Recorder:
    """Writes the history of one actor."""

    def __init__(self, folder: Path, actor: str) -> None:
        self.actor = actor
        self._file = os.open(folder / f"{actor}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, kind: str, queue: str, ids: Sequence[str], **more: Any) -> None:
        """Append an event. It is the kernel's when this returns."""
        self.note_all([{"kind": kind, "queue": queue, "ids": list(ids), **more}])

    def note_all(self, events: Iterable[dict[str, Any]]) -> None:
        """Append events that happened at the same time."""
        now_ms = time.monotonic_ns() / 1e6
        os.write(self._file, b"".join(json.dumps({"at_ms": now_ms, **each}).encode() + b"\n" for each in events))


def read(folder: Path) -> list[Event]:
    """All histories of a folder in the order of time. The last line of a killed writer may be cut: it is left out."""
    events = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                events.append(Event(actor=path.stem, **json.loads(line)))
    return sorted(events, key=lambda event: event.at_ms)


def for_groups(events: Sequence[Event], topic: str) -> list[Event]:
    """Each group of a topic as a queue of its own, named TOPIC:GROUP, into which everything was published."""
    groups = sorted({event.queue for event in events if event.queue.startswith(f"{topic}:")})
    found = []
    for event in events:
        found += [event._replace(queue=group) for group in groups] if event.queue == topic else [event]
    return found


class Figures(NamedTuple):
    """What a history came to."""

    published: int
    acknowledged: int
    deliveries: int
    settled: int
    denied: int
    results: int


def figures(events: Sequence[Event]) -> Figures:
    count: dict[str, int] = defaultdict(int)
    for event in events:
        count[event.kind] += len(event.ids)
    return Figures(*(count[kind] for kind in ("sent", "accepted", "delivered", "settled", "denied", "result")))


@dataclass
class _Message:
    """All that was seen of one id."""

    sent: Event | None = None
    accepted: int | None = None  # its offset
    refused: bool = False
    deliveries: list[Event] = field(default_factory=list)
    asked: dict[int, Event] = field(default_factory=dict)  # by attempt
    settled: dict[int, Event] = field(default_factory=dict)
    denied: dict[int, Event] = field(default_factory=dict)
    results: list[Event] = field(default_factory=list)


def check(events: Iterable[Event], *, drained: bool = True, jobs: Sequence[str] = ()) -> list[str]:
    """Every broken promise, as a sentence. `events`: in the order of time.

    `drained`: at the end the queues were empty, so what is missing is lost. `jobs`: queues in which each message has
    to have a result. Denied or unanswered settlements may have been done or not; accepted ones have been.
    """
    ordered = list(events)
    messages, found = _gather(ordered)
    for (queue, id), message in messages.items():
        name = f"{queue} {id}"
        found += _published(name, message)
        found += _one_lease(name, message)
        found += _final(name, message)
        if drained:
            found += _lost(name, message)
        if queue in jobs:
            found += _one_result(name, message, drained)
    return found + _order(ordered)


def _gather(events: Sequence[Event]) -> tuple[dict[tuple[str, str], _Message], list[str]]:
    messages: dict[tuple[str, str], _Message] = defaultdict(_Message)
    found = []
    for event in events:
        for place, id in enumerate(event.ids):
            message = messages[event.queue, id]
            match event.kind:
                case "sent":
                    if message.sent is not None:
                        raise ValueError(f"the id {id} was sent twice: the test is wrong")
                    message.sent = event
                case "accepted":
                    message.accepted = event.offset + place
                case "refused":
                    message.refused = True
                case "delivered":
                    message.deliveries.append(event)
                case "asked":
                    message.asked[event.attempt] = event
                case "settled":
                    if event.attempt in message.settled:
                        found.append(f"{event.queue} {id}: attempt {event.attempt} was settled twice")
                    message.settled[event.attempt] = event
                case "denied":
                    message.denied[event.attempt] = event
                case "result":
                    message.results.append(event)
                case _:
                    raise ValueError(f"unknown kind of event {event.kind!r}")
    return messages, found


def _published(name: str, message: _Message) -> list[str]:
    """What comes was sent, comes from one place, and from the place that the producer was told."""
    found = []
    offsets = {event.offset for event in message.deliveries}
    if message.sent is None:
        found.append(f"{name}: it came, and nobody sent it")
    if message.refused and message.deliveries:
        found.append(f"{name}: it was refused, and came nevertheless")
    if message.refused and message.accepted is not None:
        found.append(f"{name}: it was refused and accepted")
    if message.accepted is not None:
        offsets.add(message.accepted)
    if len(offsets) > 1:
        found.append(f"{name}: it was published twice, it is at offsets {sorted(offsets)}")
    return found


def _one_lease(name: str, message: _Message) -> list[str]:
    """At any time one consumer holds it: by the attempts, which are fences, and by the times."""
    found = []
    seen: dict[int, Event] = {}
    for event in message.deliveries:
        other = seen.setdefault(event.attempt, event)
        if other is not event:
            found.append(f"{name}: attempt {event.attempt} came to {other.actor} and to {event.actor}")
    for event in message.deliveries:
        asked = message.asked.get(event.attempt)
        held_until_ms = event.at_ms + event.held_ms
        if asked is not None:
            held_until_ms = min(held_until_ms, asked.at_ms)
        found += [
            f"{name}: {other.actor} got it (attempt {other.attempt}) while {event.actor} held it (attempt "
            f"{event.attempt})"
            for other in message.deliveries
            if other is not event and event.at_ms < other.at_ms < held_until_ms
        ]
    for attempt, settled in message.settled.items():
        asked = message.asked.get(attempt)
        found += [
            f"{name}: {settled.op} of attempt {attempt} was accepted after attempt {event.attempt} had begun"
            for event in message.deliveries
            if event.attempt > attempt and asked is not None and event.at_ms < asked.at_ms
        ]
    return found


def _final(name: str, message: _Message) -> list[str]:
    """After an accepted ack or completion, no later attempt was ever given, and no other one accepted."""
    final = [attempt for attempt, event in message.settled.items() if event.op in FINAL]
    found = []
    if len(final) > 1:
        found.append(f"{name}: it was finished {len(final)} times, as attempts {sorted(final)}")
    for attempt in final[:1]:
        found += [
            f"{name}: {event.actor} got it again (attempt {event.attempt}) though attempt {attempt} was "
            f"{message.settled[attempt].op}ed"
            for event in message.deliveries
            if event.attempt > attempt or event.at_ms > message.settled[attempt].at_ms
        ]
    return found


def _lost(name: str, message: _Message) -> list[str]:
    """What was acknowledged came, and somebody may have finished it."""
    if message.accepted is None:
        return []
    if not message.deliveries:
        return [f"{name}: it was acknowledged (offset {message.accepted}) and never came: lost"]
    for attempt, asked in message.asked.items():
        # Asked without an answer: it may have been done.
        if asked.op in FINAL and attempt not in message.denied:
            return []
    return [f"{name}: it was acknowledged, nobody finished it, and it did not come again: lost"]


def _one_result(name: str, message: _Message, drained: bool) -> list[str]:
    """A job has one result: that of the completion that was accepted."""
    found = []
    values = {json.dumps(event.value, sort_keys=True): event for event in message.results}
    if len(values) > 1:
        found.append(f"{name}: it has {len(values)} results: {', '.join(sorted(values))}")
    if drained and message.accepted is not None and not message.results:
        found.append(f"{name}: it has no result")
    for attempt, settled in message.settled.items():
        told = message.asked.get(attempt)
        if settled.op == "complete" and told is not None and values:
            said = json.dumps(told.value, sort_keys=True)
            if said not in values:
                found.append(f"{name}: {said} was accepted as its result, but {', '.join(sorted(values))} was seen")
    if message.results and message.asked:
        said_all = {json.dumps(event.value, sort_keys=True) for event in message.asked.values()}
        found += [f"{name}: nobody gave the result {value}" for value in values if value not in said_all]
    return found


def _order(events: Sequence[Event]) -> list[str]:
    """First deliveries: what one producer sent later has a higher offset, and does not come earlier to one consumer."""
    rank: dict[tuple[str, str], tuple[str, int]] = {}
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        if event.kind == "sent":
            for id in event.ids:
                rank[event.queue, id] = (event.actor, counts[event.actor, event.queue])
                counts[event.actor, event.queue] += 1
    places: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    latest: dict[tuple[str, str, str], tuple[int, str]] = {}
    found = []
    for event in events:
        if event.kind != "delivered" or event.attempt != 1 or (event.queue, event.ids[0]) not in rank:
            continue
        producer, number = rank[event.queue, event.ids[0]]
        places[event.queue, producer].append((number, event.offset, event.ids[0]))
        before = latest.get((event.actor, event.queue, producer))
        if before is not None and before[0] > number:
            found.append(f"{event.queue} {event.ids[0]}: it came to {event.actor} after {before[1]}, sent later")
        latest[event.actor, event.queue, producer] = (number, event.ids[0])
    for (queue, producer), some in places.items():
        some.sort()
        for (_, offset, id), (_, next_offset, next_id) in itertools.pairwise(some):
            if next_offset <= offset:
                found.append(f"{queue} {next_id}: {producer} sent it after {id}, but its offset is lower")
    return found
