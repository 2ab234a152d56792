"""Order by key: one message of each key is out at a time, the lowest first; who waits for its retry blocks no other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from ..ledger import SETTLING, Delivery, Ledger, one_at_a_time
from ..stays import Stay, fresh, given_back, leases, left_behind
from ..takers import Sender, Taker
from .feature import Feature, queue

LANES, RELAY, PORTERS = "lanes", "relay", "porters"
KEYS = ("a", "b", "c", "d", "")  # the last one: none
FAILURES_MAX = 4
OPTIONS = {"ordered_by": "key", "max_failures": FAILURES_MAX}
NEVER = 1 << 60


class Shipper(Sender):
    """The key of a message is a part of its id, too."""

    queue = LANES

    def send(self) -> None:
        keys = [self.random.choice(KEYS) for _ in range(self.random.choice((1, 1, 3, 5)))]
        ids = [f"{id}|{key}" for id, key in zip(self.fresh_ids(len(keys)), keys, strict=True)]
        self.publish(ids, headers=[{"penstock-key": key} if key else None for key in keys])


class Runner(Shipper):
    queue = RELAY


class Carrier(Taker):
    """Sends some back for a while."""

    queues = (LANES,)
    ops = ("nack", "nack", "reject", "release", "extend", "forget", "ack", "ack", "ack", "ack")

    def settle(self, plan: dict[str, Any], args: dict[str, Any]) -> None:
        if plan["op"] == "nack":
            args = {**args, "delay_ms": self.random.choice((0, 0, 400, 1500))}
        super().settle(plan, args)


class Porter(Carrier):
    queues, group = (RELAY,), PORTERS


class Stower(Taker):
    """Works the dead letters off."""

    queues = (f"{LANES}.dead", f"{RELAY}.dead")


def judge(ledger: Ledger) -> Iterator[str]:
    for name, group in ((LANES, ""), (RELAY, PORTERS)):
        yield from one_at_a_time(ledger, name, group)
        yield from _in_order(ledger, name, group)
        yield from left_behind(ledger, name, group, _free(ledger, name, group))
        yield from _none_lost(ledger, name, group)
    for name in Stower.queues:
        yield from one_at_a_time(ledger, name)


def _in_order(ledger: Ledger, name: str, group: str) -> Iterator[str]:
    ends, dead = _ends(ledger, name, group), _dead(ledger, name)
    perhaps = {offset for asked in ledger.perhaps(*SETTLING, queue=name) for offset in asked.offsets}
    by_key: dict[str, list[Delivery]] = defaultdict(list)
    for _, some in sorted(leases(ledger, name, group).items()):
        for delivery in some:
            by_key[_key(delivery.id)].append(delivery)
    for key, some in by_key.items():
        for before, after in pairwise(some if key else ()):
            what = f"{after} was given after {before}, of the same key"
            if after.offset < before.offset:
                yield f"{what}, which comes behind it"
            elif after.offset > before.offset:
                if after.lease == before.lease:
                    yield f"{what}, under one lease"
                elif ends.get(before.offset, 0) > after.lease:
                    yield f"{what}, which ended at {ends[before.offset]}"
                elif before.offset not in ends and before.offset not in dead and before.offset not in perhaps:
                    yield f"{what}, which had not ended"


def _free(ledger: Ledger, name: str, group: str) -> Iterator[Stay]:
    """When messages could be had since nobody of their keys was before them any more."""
    yield from given_back(ledger, name, group)
    ends, ids = _ends(ledger, name, group), ledger.sent(name)
    ids |= {offset: some[0].id for offset, some in ledger.given(name, group).items()}
    free: dict[str, int] = {}  # since when, by key
    waiting = {stay.offset: stay for stay in fresh(ledger, name, group)}
    for offset in sorted(ids):
        key = _key(ids[offset])
        if (stay := waiting.get(offset)) is not None:
            yield stay._replace(since=max(stay.since, free.get(key, 0)))
        if key:
            free[key] = max(free.get(key, 0), ends.get(offset, NEVER))


def _none_lost(ledger: Ledger, name: str, group: str) -> Iterator[str]:
    given, ends, dead = ledger.given(name, group), _ends(ledger, name, group), _dead(ledger, name)
    perhaps = {offset for asked in ledger.perhaps(*SETTLING, queue=name) for offset in asked.offsets}
    for offset, id in ledger.sent(name).items():
        if offset not in given and offset not in dead:
            yield f"{name}/{offset} ({id}) was accepted and never came: lost"
        elif offset not in ends and offset not in dead and offset not in perhaps:
            yield f"{name}/{offset} ({id}) was accepted, nobody settled it, and it is no dead letter: lost"


def _ends(ledger: Ledger, name: str, group: str) -> Mapping[int, int]:
    return {offset: some[0].index for offset, some in ledger.settled(name, group).items()}


def _dead(ledger: Ledger, name: str) -> set[int]:
    """Those whose dead letters were seen."""
    return {some[0].headers["penstock-offset"] for some in ledger.given(f"{name}.dead").values()}


def _key(id: str) -> str:
    return id.rpartition("|")[2]


ORDER_BY_KEY = Feature(
    "order by key",
    (
        queue(LANES, **OPTIONS),
        ("create", {"name": RELAY, "kind": "topic", "options": OPTIONS}),
        ("group_create", {"topic": RELAY, "group": PORTERS, "start": "earliest"}),
    ),
    (Shipper, Runner, Carrier, Carrier, Porter, Stower),
    judge,
)
