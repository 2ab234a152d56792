"""Priorities: the most urgent goes first, and within one priority what was published first, or was given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..ledger import Delivery, Ledger, none_lost, one_at_a_time
from ..stays import Stay, fresh, given_back, leases, left_behind
from ..takers import Sender, Taker
from .feature import Feature, queue

RANKS = "ranks"
Place = tuple[int, int]  # a lease, and which one under it


class Officer(Sender):
    queue = RANKS

    def send(self) -> None:
        properties: dict[str, Any] = {"priority": self.random.choice((0, 0, 0, 1, 1, 5, 9))}
        if self.random.random() < 0.15:
            properties["delay_ms"] = self.random.choice((30, 300, 1500))
        self.publish(self.fresh_ids(self.random.choice((1, 1, 3))), properties)


class Orderly(Taker):
    queues = (RANKS,)
    ops = ("nack", "release", "release", "extend", "forget", "ack", "ack", "ack", "ack")


def judge(ledger: Ledger) -> Iterator[str]:
    yield from one_at_a_time(ledger, RANKS)
    yield from none_lost(ledger, RANKS)
    asked_of = {id: it.args for it in ledger.asked if it.op == "append" and it.queue == RANKS for id in it.ids}
    delayed = {id for id, args in asked_of.items() if "delay_ms" in args}
    priority = {id: args["priority"] for id, args in asked_of.items()}
    waits = [stay for stay in fresh(ledger, RANKS) if stay.id not in delayed]
    waits += given_back(ledger, RANKS)
    yield from left_behind(ledger, RANKS, "", waits)
    places = {
        (lease, it.offset): (lease, at) for lease, some in leases(ledger, RANKS).items() for at, it in enumerate(some)
    }
    for delivery in ledger.deliveries:
        if delivery.queue == RANKS:
            place = places[delivery.lease, delivery.offset]
            # What was delayed is in its turn by when it ripened, which no client is told.
            by_offset = not (delivery.id in delayed and delivery.attempt == 1)
            for stay in waits:
                if stay.since < delivery.lease and place < places[stay.until, stay.offset]:
                    yield from _overtook(delivery, stay, priority, by_offset)


def _overtook(delivery: Delivery, stay: Stay, priority: dict[str, int], by_offset: bool) -> Iterator[str]:
    own, other = priority[delivery.id], priority[stay.id]
    if other > own or (other == own and by_offset and stay.offset < delivery.offset):
        what = f"{RANKS}/{stay.offset} ({stay.id}) of priority {other}"
        yield f"{delivery} of priority {own} was given before {what}, to be had from {stay.since} to {stay.until}"


PRIORITIES = Feature("priorities", (queue(RANKS, max_failures=None),), (Officer, Officer, Orderly, Orderly), judge)
