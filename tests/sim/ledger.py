"""What clients of the features asked, were told and were given, each with its place in the log.

The id of a lease is the index of the entry that granted it, and a counted request is found in the log by its session
and sequence: so all that is judged here has one order, however late an answer came.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from penstock.peers.log import Entry

UNKNOWN, DONE, REFUSED = "unknown", "done", "refused"
SETTLING = ("ack", "complete", "reject")  # what is settled so never comes again


class Delivery(NamedTuple):
    """One message came, under a lease. `failures`, `stamp_ms`: as the range said."""

    queue: str
    group: str
    offset: int
    lease: int
    attempt: int
    failures: int
    stamp_ms: int
    id: str
    headers: Mapping[str, Any]
    actor: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.offset} ({self.id}, attempt {self.attempt}, lease {self.lease}, to {self.actor})"


@dataclass(slots=True)
class Asked:
    """A counted request. `fate`: unknown until its answer came, and for ever if none did."""

    actor: str
    op: str
    args: Mapping[str, Any]
    queue: str = ""
    group: str = ""
    ids: Sequence[str] = ()
    fate: str = UNKNOWN
    body: Mapping[str, Any] = field(default_factory=dict)
    data: bytes | None = None  # the payload of its answer
    code: str = ""
    job: str = ""  # that has the id, for who is told so
    session: int = 0
    sequence: int = 0
    index: int = 0  # of its entry; 0: not known

    @property
    def offsets(self) -> Iterator[int]:
        """The messages that it settles."""
        for first, count in self.args["ranges"]:
            yield from range(first, first + count)


class Ledger:
    """Written while the world is played, read when it has ended."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.asked: list[Asked] = []
        self.ended: dict[tuple[str, int], list[str]] = defaultdict(list)  # by queue and offset: outcomes that were told
        self.ended_at: dict[tuple[str, int], int] = {}  # the entry that did it
        self.read: dict[tuple[str, int], set[str]] = defaultdict(set)  # by topic and offset: ids that were read there
        self.told: list[Any] = []  # of jobs, by who asked for them
        self.lines: dict[int, Sequence[str]] = {}  # by offset: the log of a job, in the end
        self.entries: Sequence[Entry] = ()

    def close(self, entries: Sequence[Entry]) -> None:
        """The committed log: from now on everything that was done has its index."""
        self.entries = entries
        places: dict[tuple[int, int], int] = {}
        for entry in entries:
            if entry.sequence > 0:  # asked again it may be there twice: the first one counts
                places.setdefault((entry.session, entry.sequence), entry.index)
        for asked in self.asked:
            if asked.fate == DONE:
                asked.index = places[asked.session, asked.sequence]
            elif asked.fate == REFUSED:
                asked.index = places.get((asked.session, asked.sequence), 0)

    def done(self, *ops: str, queue: str | None = None) -> Iterator[Asked]:
        """Requests that were done, in the order in which they were asked."""
        for asked in self.asked:
            if asked.op in ops and asked.fate == DONE and queue in (None, asked.queue):
                yield asked

    def perhaps(self, *ops: str, queue: str) -> Iterator[Asked]:
        """Requests that nobody was told the fate of."""
        for asked in self.asked:
            if asked.op in ops and asked.fate == UNKNOWN and asked.queue == queue:
                yield asked

    def given(self, queue: str, group: str = "") -> dict[int, list[Delivery]]:
        """All deliveries by offset, in the order of their leases."""
        found: dict[int, list[Delivery]] = defaultdict(list)
        for delivery in self.deliveries:
            if delivery.queue == queue and delivery.group == group:
                found[delivery.offset].append(delivery)
        for some in found.values():
            some.sort(key=lambda delivery: delivery.lease)
        return found

    def settled(self, queue: str, group: str = "") -> dict[int, list[Asked]]:
        """What was settled for good, by offset."""
        found: dict[int, list[Asked]] = defaultdict(list)
        for asked in self.done(*SETTLING, queue=queue):
            if asked.group == group:
                for offset in asked.offsets:
                    found[offset].append(asked)
        return found

    def cancelled(self, queue: str) -> dict[int, int]:
        """By offset: the index of the first command behind which the job had surely ended, since it was cancelled."""
        found: dict[int, int] = {}
        for asked in self.done("job_cancel", queue=queue):
            first = asked.args["offset"]
            for offset in range(first, first + asked.args.get("count", 1)):
                found[offset] = min(asked.index, found.get(offset, asked.index))
        return found

    def sent(self, queue: str) -> dict[int, str]:
        """The ids of what was accepted, by offset."""
        found: dict[int, str] = {}
        for asked in self.done("append", queue=queue):
            found.update(enumerate(asked.ids, asked.body["offset"]))
        return found


def one_at_a_time(ledger: Ledger, queue: str, group: str = "", seeks: Sequence[int] = ()) -> Iterator[str]:
    """One holder at a time, by rising attempts; nothing comes behind its end. `seeks`: where all begins anew."""
    settled, cancelled = ledger.settled(queue, group), ledger.cancelled(queue)
    for offset, some in ledger.given(queue, group).items():
        for before, after in pairwise(some):
            if before.id != after.id:
                yield f"{before} and {after} are two messages at one place"
            if before.lease == after.lease:
                if before.attempt != after.attempt:
                    yield f"{before} and {after} are two attempts under one lease"
            elif _epoch(seeks, before.lease) == _epoch(seeks, after.lease) and after.attempt <= before.attempt:
                yield f"{after} was given after {before}: the attempt did not rise"
        for asked in settled.get(offset, ()):
            yield from _after_end(some, asked.index, f"it was {asked.op}ed by {asked.actor}", seeks)
        if offset in cancelled:
            yield from _after_end(some, cancelled[offset], "it was cancelled", seeks)
    for offset, some_asked in settled.items():
        ends = [_epoch(seeks, asked.index) for asked in some_asked]
        if len(set(ends)) < len(ends):
            who = [f"{asked.op} by {asked.actor} at {asked.index}" for asked in some_asked]
            yield f"{queue}/{offset} was settled {len(ends)} times: {', '.join(who)}"


def _after_end(some: Iterable[Delivery], end: int, what: str, seeks: Sequence[int]) -> Iterator[str]:
    for delivery in some:
        if delivery.lease > end and _epoch(seeks, delivery.lease) == _epoch(seeks, end):
            yield f"{delivery} was given though {what} at {end}"


def _epoch(seeks: Sequence[int], index: int) -> int:
    return bisect_right(seeks, index)


def none_lost(ledger: Ledger, queue: str) -> Iterator[str]:
    """Whatever was accepted came to somebody, and somebody may have settled it. For queues that keep their offsets."""
    given, settled, cancelled = ledger.given(queue), ledger.settled(queue), ledger.cancelled(queue)
    perhaps = {offset for asked in ledger.perhaps(*SETTLING, queue=queue) for offset in asked.offsets}
    for offset, id in ledger.sent(queue).items():
        if offset in cancelled or ledger.ended[queue, offset]:
            continue
        if offset not in given:
            yield f"{queue}/{offset} ({id}) was accepted and never came: lost"
        elif offset not in settled and offset not in perhaps:
            yield f"{queue}/{offset} ({id}) was accepted, nobody settled it, and it did not come again: lost"
