"""Gathers: a job of one queue that runs when all of a batch of another one have ended, and not before its own time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..ledger import DONE, Asked, Ledger, none_lost, one_at_a_time
from ..scribes import Scribe
from ..stays import Stay, fresh, left_behind
from ..takers import Sender, Taker
from .feature import Feature, queue

if TYPE_CHECKING:
    from ..world import World

SHARES, TOTALS = "shares", "totals"
FAILED = "cancelled: a job that it waited for has failed"


class Planner(Sender):
    """Submits shares, and what gathers them; that may wait for what another one gathered, too."""

    queue = SHARES

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._gathers: list[int] = []

    def send(self) -> None:
        self.publish(self.fresh_ids(self.random.choice((1, 3, 6))), then=self._submitted)

    def _submitted(self, asked: Asked) -> None:
        if asked.fate != DONE:
            return
        first, count = asked.body["offset"], asked.body["count"]
        args: dict[str, Any] = {
            "after": [[SHARES, first, count]],
            "on_failure": self.random.choice(("cancel", "release")),
        }
        if self._gathers and self.random.random() < 0.3:
            args["after"].append([TOTALS, self.random.choice(self._gathers[-5:]), 1])
        if self.random.random() < 0.3:
            args["delay_ms"] = self.random.choice((100, 1500))
        self.publish(self.fresh_ids(1), args, self._gathered, queue=TOTALS)
        if self.random.random() < 0.2:
            args = {"queue": SHARES, "offset": first + self.random.randrange(count), "count": 1}
            self.do("job_cancel", args, queue=SHARES)

    def _gathered(self, asked: Asked) -> None:
        if asked.fate == DONE:
            self._gathers.append(asked.body["offset"])


class Share(Taker):
    queues = (SHARES,)
    ops = ("nack", "reject", "release", "forget", "complete", "complete", "complete", "complete", "complete")


class Total(Share):
    queues = (TOTALS,)


class Remains(Taker):
    """Works the dead letters off."""

    queues = (f"{SHARES}.dead", f"{TOTALS}.dead")


class SharesScribe(Scribe):
    watched = SHARES


class TotalsScribe(Scribe):
    watched = TOTALS


def judge(ledger: Ledger) -> Iterator[str]:
    for name in (SHARES, TOTALS):
        yield from one_at_a_time(ledger, name)
        yield from none_lost(ledger, name)
    given, free = ledger.given(TOTALS), {}
    for asked in ledger.done("append", queue=TOTALS):
        offset = asked.body["offset"]
        parents = [(name, at) for name, first, count in asked.args["after"] for at in range(first, first + count)]
        ends = [ledger.ended_at.get(parent, 0) for parent in parents]
        if not all(ends):
            yield f"{TOTALS}/{offset} waited for {parents}, which ended at {ends}"
            continue
        free[offset] = 0 if "delay_ms" in asked.args else max(ends)
        bad = [parent for parent in parents if not ledger.ended[parent][0].startswith("done")]
        due_ms = ledger.entries[asked.index - 1].stamp_ms + asked.args.get("delay_ms", 0)
        for delivery in given.get(offset, ()):
            if delivery.lease < max(ends):
                yield f"{delivery} was given before its parents had ended: {list(zip(parents, ends, strict=True))}"
            if ledger.entries[delivery.lease - 1].stamp_ms < due_ms:
                yield f"{delivery} was given before its time, {due_ms}"
            if bad and asked.args["on_failure"] == "cancel":
                yield f"{delivery} was given though its parents {bad} had failed"
        is_cancelled = ledger.ended[TOTALS, offset] == [FAILED]
        if is_cancelled != bool(bad and asked.args["on_failure"] == "cancel"):
            yield f"{TOTALS}/{offset} ended as {ledger.ended[TOTALS, offset]}, and of its parents failed {bad}"
    yield from left_behind(ledger, TOTALS, "", _free(ledger, free))


def _free(ledger: Ledger, free: dict[int, int]) -> Iterator[Stay]:
    """Since when they could be had, of those that waited for their parents alone."""
    for stay in fresh(ledger, TOTALS):
        if free.get(stay.offset):
            yield stay._replace(since=max(stay.since, free[stay.offset]))


GATHERS = Feature(
    "gathers",
    (queue(SHARES, max_failures=3, retry_delay_ms=20), queue(TOTALS, max_failures=3, retry_delay_ms=20)),
    (Planner, Planner, Share, Share, Total, Remains, SharesScribe, TotalsScribe),
    judge,
)
