"""Jobs: parents come first, what was cancelled comes no more, each ends once, and what is told of it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..ledger import DONE, Asked, Delivery, Ledger, none_lost, one_at_a_time
from ..scribes import Scribe
from ..takers import Sender, Taker
from .feature import Feature, queue

if TYPE_CHECKING:
    from ..world import World

STEPS, LETTERS = "steps", "steps.dead"
BAD = {"dead", "cancelled"}
ENDS = {"complete": "done", "reject": "dead", "job_cancel": "cancelled"}
PARENT_FAILED = "a job that it waited for has failed"


class Foreman(Sender):
    """Submits jobs, and others that wait for them; cancels some, and has dead ones tried again."""

    queue = STEPS

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._batches: list[tuple[int, int]] = []  # (first, count)

    def send(self) -> None:
        random, known = self.random, self._batches[-6:]
        properties: dict[str, Any] = {}
        if known and random.random() < 0.6:
            parents = random.sample(known, min(len(known), random.choice((1, 1, 2))))
            properties["after"] = [[STEPS, first, count] for first, count in parents]
            properties["on_failure"] = random.choice(("cancel", "release"))
        self.publish(self.fresh_ids(random.choice((1, 1, 3))), properties, self._submitted)
        if known and random.random() < 0.25:
            first, count = random.choice(known)
            some = random.choice((1, 1, count))
            self.do("job_cancel", {"queue": STEPS, "offset": first, "count": some}, queue=STEPS)
        if known and random.random() < 0.15:
            first, count = random.choice(known)
            self.do("job_retry", {"queue": STEPS, "offset": first, "count": count}, queue=STEPS)

    def _submitted(self, asked: Asked) -> None:
        if asked.fate == DONE:
            self._batches.append((asked.body["offset"], asked.body["count"]))


class Hand(Taker):
    """Tells how far it is before it completes a job."""

    queues = (STEPS,)
    ops = ("nack", "reject", "release", "extend", "forget", "complete", "complete", "complete", "complete")

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._lines = 0

    def settle(self, plan: dict[str, Any], args: dict[str, Any]) -> None:
        if self.random.random() < 0.6:
            self._lines += 1
            offset = plan["ranges"][0][0]
            lines = [f"{self.name}:{self._lines}:{at}" for at in range(self.random.choice((1, 2)))]
            told = {"lease": plan["lease"], "offset": offset}
            self.do("job_log", {**told, "lines": lines}, queue=STEPS, ids=lines)
            self.do("job_progress", {**told, "progress": self.random.choice((0.25, 0.5))}, queue=STEPS)
        super().settle(plan, args)


class Digger(Taker):
    """Works the dead letters off."""

    queues = (LETTERS,)


class StepsScribe(Scribe):
    watched = STEPS


def judge(ledger: Ledger) -> Iterator[str]:
    for name in (STEPS, LETTERS):
        yield from one_at_a_time(ledger, name)
    yield from none_lost(ledger, STEPS)
    given, ends = ledger.given(STEPS), _ends(ledger)
    for asked in ledger.done("append", queue=STEPS):
        for offset in range(asked.body["offset"], asked.body["offset"] + asked.body["count"]):
            yield from _outcome(ledger, offset, ends)
            if "after" in asked.args:
                yield from _after_parents(ledger, asked, offset, given, ends)
    yield from _kept_lines(ledger)


def _ends(ledger: Ledger) -> dict[int, tuple[int, str]]:
    """When and how jobs ended, as far as somebody was told."""
    found = {offset: (some[0].index, ENDS[some[0].op]) for offset, some in ledger.settled(STEPS).items()}
    for asked in ledger.done("job_cancel", queue=STEPS):
        if asked.args["count"] == 1:
            found[asked.args["offset"]] = asked.index, "cancelled"
    return found


def _outcome(ledger: Ledger, offset: int, ends: dict[int, tuple[int, str]]) -> Iterator[str]:
    seen = ledger.ended[STEPS, offset]
    if len(seen) != 1:
        yield f"{STEPS}/{offset} has {len(seen)} outcomes: {seen}"
    elif offset in ends and ends[offset][1] != seen[0].partition(":")[0]:
        yield f"{STEPS}/{offset} was said to be {ends[offset][1]}, and its outcome is {seen[0]}"


def _after_parents(
    ledger: Ledger,
    asked: Asked,
    offset: int,
    given: dict[int, list[Delivery]],
    ends: dict[int, tuple[int, str]],
) -> Iterator[str]:
    some, outcome = given.get(offset, []), ledger.ended[STEPS, offset]
    parents = [at for _, first, count in asked.args["after"] for at in range(first, first + count)]
    bad = [at for at in parents if any(end.partition(":")[0] in BAD for end in ledger.ended[STEPS, at])]
    for at in parents:
        for delivery in some[:1]:
            late = [it for it in given.get(at, ()) if it.lease > delivery.lease]
            if late:
                yield f"{delivery} was given before its parent {late[-1]}"
            if at in ends and ends[at][0] > delivery.lease:
                yield f"{delivery} was given before its parent {STEPS}/{at} ended at {ends[at][0]}"
    if asked.args["on_failure"] == "cancel" and bad and some:
        yield f"{some[0]} was given though its parents {bad} had failed"
    if any(PARENT_FAILED in end for end in outcome) and (not bad or asked.args["on_failure"] == "release"):
        yield f"{STEPS}/{offset} ended as {outcome}, and of its parents {parents} failed {bad}"


def _kept_lines(ledger: Ledger) -> Iterator[str]:
    """The log of a job has the lines that were taken, each once and in order."""
    told: dict[int, list[tuple[int, str]]] = {}
    for asked in ledger.done("job_log", queue=STEPS):
        told.setdefault(asked.args["offset"], []).extend((asked.index, line) for line in asked.ids)
    unsure = {line for asked in ledger.perhaps("job_log", queue=STEPS) for line in asked.ids}
    for offset, lines in told.items():
        expected = [line for _, line in sorted(lines, key=lambda it: it[0])]
        kept = [line for line in ledger.lines.get(offset, ()) if line not in unsure]
        if kept != expected:
            yield f"the log of {STEPS}/{offset} is {kept}, and was told {expected}"


JOBS = Feature(
    "jobs",
    (queue(STEPS, max_failures=3, retry_delay_ms=20),),
    (Foreman, Foreman, Hand, Hand, Digger, StepsScribe),
    judge,
)
