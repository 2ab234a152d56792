"""Full queues: one takes no more than it may hold, the other lets go of what waits longest, and of no more."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from penstock.peers.messages import Pull

from ..ledger import Asked, Ledger, none_lost, one_at_a_time
from ..scribes import Scribe
from ..stays import Stay, appended, fresh, given_back, in_hand, leases
from ..takers import Sender, Taker
from .feature import Feature, queue

VAT, SINK = "vat", "sink"  # refuses; drops
MESSAGES_MAX = 8
NEVER = 1 << 60
DROPPED = "expired: it was dropped: the queue was full"


class Filler(Sender):
    queue = VAT
    counts = (1, 1, 3)

    def send(self) -> None:
        self.publish(self.fresh_ids(self.random.choice(self.counts)))


class Pourer(Filler):
    """Also more at once than there is room for at all."""

    queue = SINK
    counts = (1, 1, 3, MESSAGES_MAX + 2)


class Drain(Taker):
    queues = (VAT, SINK)
    ops = ("nack", "release", "extend", "forget", "ack", "ack")


class SinkScribe(Scribe):
    watched = SINK


def judge(ledger: Ledger) -> Iterator[str]:
    for name in (VAT, SINK):
        yield from one_at_a_time(ledger, name)
        yield from none_lost(ledger, name)
    yield from _room_kept(ledger)
    yield from _refusals(ledger)
    yield from _drops(ledger)


def _room_kept(ledger: Ledger) -> Iterator[str]:
    """Behind each batch that was taken there are no more than there may be."""
    settled, given = ledger.settled(VAT), ledger.given(VAT)
    held: list[Stay] = []
    for offset, since in appended(ledger, VAT).items():
        seen = [delivery.lease for delivery in given.get(offset, ())] + [it.index for it in settled.get(offset, ())]
        held += [Stay(offset, "", since, max(seen))] if seen else []
    yield from _too_many(ledger, VAT, held)
    # Of the other one what is in hand does not count.
    yield from _too_many(ledger, SINK, _waits(ledger))


def _too_many(ledger: Ledger, name: str, stays: Sequence[Stay]) -> Iterator[str]:
    for index in sorted(set(appended(ledger, name).values())):
        there = [stay.offset for stay in stays if stay.since <= index < stay.until]
        if len(there) > MESSAGES_MAX:
            yield f"{name} took a batch at {index} and held {there} then, more than {MESSAGES_MAX}"


def _refusals(ledger: Ledger) -> Iterator[str]:
    """Nobody is refused while there is room."""
    since = appended(ledger, VAT)
    ends = {offset: some[0].index for offset, some in ledger.settled(VAT).items()}
    for asked in ledger.asked:
        if asked.op == "append" and asked.queue == VAT and asked.code == "QueueFull" and asked.index:
            next_offset = min((offset for offset, index in since.items() if index > asked.index), default=None)
            if next_offset is not None:
                held = next_offset - sum(1 for end in ends.values() if end < asked.index)
                if held + len(asked.ids) <= MESSAGES_MAX:
                    yield f"{len(asked.ids)} were refused at {asked.index}, and {VAT} held {held} of {MESSAGES_MAX}"


def _waits(ledger: Ledger) -> list[Stay]:
    """When messages of the sink surely waited: until they were given, or dropped."""
    waits = [*fresh(ledger, SINK), *given_back(ledger, SINK)]
    given, ids, seen = ledger.given(SINK), ledger.sent(SINK), leases(ledger, SINK)
    pulls = [entry.index for entry in ledger.entries if isinstance(it := entry.command, Pull) and it.queue == SINK]
    unseen = [index for index in pulls if index not in seen]
    for offset, since in appended(ledger, SINK).items():
        if offset not in given and (SINK, offset) in ledger.ended_at:
            # What was given under a lease that nobody heard of waited no more.
            lost = next(iter(unseen[bisect_right(unseen, since) :]), NEVER)
            waits.append(Stay(offset, ids[offset], since, min(lost, ledger.ended_at[SINK, offset])))
    return waits


def _drops(ledger: Ledger) -> Iterator[str]:
    """What was dropped waited longest, and was too many."""
    settled, given, waits = ledger.settled(SINK), ledger.given(SINK), _waits(ledger)
    dropped: dict[int, list[int]] = defaultdict(list)  # by the entry that did it
    for (name, offset), ends in ledger.ended.items():
        if name == SINK and ends:
            if ends != [DROPPED]:
                yield f"{SINK}/{offset} ended as {ends}"
            at = ledger.ended_at[SINK, offset]
            dropped[at].append(offset)
            yield from (
                f"{it} was given though it was dropped at {at}" for it in given.get(offset, ()) if it.lease > at
            )
            yield from (f"{SINK}/{offset} was dropped at {at}, and {it.op}ed" for it in settled.get(offset, ()))
    for at, offsets in dropped.items():
        for stay in waits:
            if stay.since < at < stay.until and stay.offset < max(offsets):
                yield f"{SINK}/{max(offsets)} was dropped at {at}, and {stay.offset} waited from {stay.since} on"
    for asked in ledger.done("append", queue=SINK):
        if asked.index in dropped:
            yield from _needless(ledger, asked, dropped)


def _needless(ledger: Ledger, asked: Asked, dropped: dict[int, list[int]]) -> Iterator[str]:
    """How many there could be at most before this batch."""
    at = asked.index
    ended = {offset for offset, some in ledger.settled(SINK).items() if some[0].index < at}
    ended |= {offset for index, offsets in dropped.items() if index < at for offset in offsets}
    held = {stay.offset for stay in in_hand(ledger, SINK) if stay.since < at < stay.until}
    waiting = asked.body["offset"] - len(ended) - len(held)
    over = max(0, waiting + len(asked.ids) - MESSAGES_MAX)
    if len(dropped[at]) > over:
        yield f"{dropped[at]} were dropped at {at} for {len(asked.ids)}, and at most {waiting} waited in {SINK}"


FULL_QUEUES = Feature(
    "full queues",
    (
        queue(VAT, max_failures=None, max_messages=MESSAGES_MAX),
        queue(SINK, max_failures=None, max_messages=MESSAGES_MAX, overflow="drop_oldest"),
    ),
    (Filler, Filler, Pourer, Pourer, Drain, Drain, SinkScribe),
    judge,
)
