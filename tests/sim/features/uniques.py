"""Unique ids: of one id there is one job, until it has ended and for a while after its publish."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from ..ledger import Ledger, none_lost, one_at_a_time
from ..takers import Sender, Taker
from .feature import Feature, queue

ORDERS = "orders"
UNIQUE_MS = 1500
NAMES = ("a", "b", "c", "d", "e")


class Buyer(Sender):
    """Gives the same few ids again and again."""

    queue = ORDERS

    def send(self) -> None:
        names = self.random.sample(NAMES, self.random.choice((1, 1, 2)))
        self.publish(
            [f"{id}|{name}" for id, name in zip(self.fresh_ids(len(names)), names, strict=True)], {"ids": names}
        )


class Clerk(Taker):
    queues = (ORDERS,)


def judge(ledger: Ledger) -> Iterator[str]:
    yield from one_at_a_time(ledger, ORDERS)
    yield from none_lost(ledger, ORDERS)
    given, sent = ledger.given(ORDERS), ledger.sent(ORDERS)
    known = {offset: some[0].id for offset, some in given.items()} | sent
    yield from _one_job(ledger)
    for asked in ledger.asked:
        if asked.op == "append" and asked.queue == ORDERS and asked.code == "AlreadyExists":
            id = known.get(int(asked.job.rpartition("/")[2]), "")
            if id and _name(id) not in asked.args["ids"]:
                yield f"{asked.args['ids']} were refused for {asked.job}, which is {id}"


def _one_job(ledger: Ledger) -> Iterator[str]:
    given, settled = ledger.given(ORDERS), ledger.settled(ORDERS)
    appended = {asked.body["offset"] + at: asked.index for asked in ledger.done("append", queue=ORDERS)
                for at in range(len(asked.ids))}  # fmt: skip
    jobs: dict[str, list[int]] = defaultdict(list)
    for offset in sorted(given):
        jobs[_name(given[offset][0].id)].append(offset)
    for name, offsets in jobs.items():
        for one, two in pairwise(offsets):
            first, second = given[one], given[two]
            what = f"id {name!r}: {second[0]} was taken"
            since_ms = second[0].stamp_ms - first[0].stamp_ms
            if since_ms < UNIQUE_MS:
                yield f"{what} {since_ms} ms after {first[0]}, and that has {UNIQUE_MS} for itself"
            # It was taken before it was given, or, if its producer was told, at an index that is known.
            taken = appended.get(two, second[0].lease)
            if first[-1].lease > taken:
                yield f"{what} before {first[-1]} was given, which had not ended"
            for asked in settled.get(one, ()):
                if asked.index > taken:
                    yield f"{what} before {first[-1]} had ended, by {asked.op} at {asked.index}"


def _name(id: str) -> str:
    return id.rpartition("|")[2]


UNIQUES = Feature("unique ids", (queue(ORDERS, max_failures=None, unique_ms=UNIQUE_MS),), (Buyer, Buyer, Clerk), judge)
