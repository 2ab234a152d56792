"""Times to live: a message that is not done by then ends, is not given any more, and no other one ends so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..ledger import SETTLING, Ledger, one_at_a_time
from ..scribes import Scribe
from ..stays import in_hand
from ..takers import Sender, Taker
from .feature import Feature, queue

MILK = "milk"
LONG_MS = 10_000_000  # a delay that nothing but its own end ends


class Dairy(Sender):
    queue = MILK

    def send(self) -> None:
        properties: dict[str, Any] = {}
        if self.random.random() < 0.8:
            properties["ttl_ms"] = self.random.choice((100, 400, 1500, 5000))
            if self.random.random() < 0.3:
                properties["delay_ms"] = self.random.choice((30, 300, LONG_MS))
        self.publish(self.fresh_ids(self.random.choice((1, 1, 3))), properties)


class Drinker(Taker):
    queues = (MILK,)
    ops = ("nack", "nack", "release", "extend", "forget", "complete", "complete", "complete")


class MilkScribe(Scribe):
    watched = MILK


def judge(ledger: Ledger) -> Iterator[str]:
    yield from one_at_a_time(ledger, MILK)
    ttl_ms = {id: asked.args["ttl_ms"] for asked in ledger.asked if asked.op == "append" and asked.queue == MILK
              and "ttl_ms" in asked.args for id in asked.ids}  # fmt: skip
    for delivery in ledger.deliveries:
        if delivery.queue == MILK and delivery.id in ttl_ms:
            late_ms = ledger.entries[delivery.lease - 1].stamp_ms - delivery.stamp_ms - ttl_ms[delivery.id]
            if late_ms >= 0:
                yield f"{delivery} was given {late_ms} ms after its {ttl_ms[delivery.id]} ms were over"
    yield from _ended(ledger, ttl_ms)


def _ended(ledger: Ledger, ttl_ms: dict[str, int]) -> Iterator[str]:
    settled, given = ledger.settled(MILK), ledger.given(MILK)
    perhaps = {offset for asked in ledger.perhaps(*SETTLING, queue=MILK) for offset in asked.offsets}
    held = {(stay.offset, at) for stay in in_hand(ledger, MILK) for at in range(stay.since + 1, stay.until)}
    for asked in ledger.done("append", queue=MILK):
        published_ms = ledger.entries[asked.index - 1].stamp_ms
        for offset, id in enumerate(asked.ids, asked.body["offset"]):
            name, seen = f"{MILK}/{offset} ({id})", ledger.ended[MILK, offset]
            at = ledger.ended_at.get((MILK, offset), 0)
            if len(seen) != 1:
                yield f"{name} has {len(seen)} outcomes: {seen}"
            elif seen[0].startswith("expired"):
                lived_ms = ledger.entries[at - 1].stamp_ms - published_ms
                if id not in ttl_ms or lived_ms < ttl_ms[id]:
                    yield f"{name} expired at {at} after {lived_ms} ms, and has {ttl_ms.get(id, 'no end')}"
                if (offset, at) in held:
                    yield f"{name} expired at {at}, in somebody's hands"
                for other in settled.get(offset, ()):
                    yield f"{name} expired at {at}, and was {other.op}ed at {other.index}"
                yield from (f"{it} was given though it had expired at {at}" for it in given[offset] if it.lease > at)
            elif offset not in settled and offset not in perhaps:
                yield f"{name} ended as {seen[0]}, and nobody did it"


TIMES_TO_LIVE = Feature("times to live", (queue(MILK, max_failures=None, retry_delay_ms=20),),
                        (Dairy, Dairy, Drinker, Drinker, MilkScribe), judge)  # fmt: skip
