"""Dead letters: a message that failed too often, or was rejected, is in one place at a time, and is never lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..ledger import SETTLING, Ledger, one_at_a_time
from ..takers import Sender, Taker
from .feature import Feature, queue

if TYPE_CHECKING:
    from ..world import World

BRITTLE, LETTERS = "brittle", "brittle.dead"
FAILURES_MAX = 2


class Author(Sender):
    queue = BRITTLE


class Breaker(Taker):
    """Fails more often than not."""

    queues = (BRITTLE,)
    ops = ("nack", "nack", "nack", "reject", "release", "forget", "ack")


class Undertaker(Taker):
    """Works dead letters off, or has them tried again, one by one, by the number, or by moving them home."""

    queues = (LETTERS,)
    ops = ("release", "forget", "nack", "ack")

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._again_ms = 0

    def act(self, now_ms: int) -> int:
        if not self.world.is_ending and now_ms >= self._again_ms and self.under_way < 4:
            self._again_ms = self.soon_ms(now_ms) + self.world.pace_ms
            op, args = self.random.choice(
                (
                    ("job_retry_dead", {"queue": BRITTLE, "limit": 3}),
                    ("move", {"queue": LETTERS, "target": BRITTLE, "limit": 2}),
                    ("job_retry", {"queue": BRITTLE, "offset": self.random.randrange(60)}),
                    ("job_retry", {"queue": BRITTLE, "offset": self.random.randrange(60), "count": 5}),
                )
            )
            self.do(op, args, queue=BRITTLE)
        return super().act(now_ms)


def judge(ledger: Ledger) -> Iterator[str]:
    for name in (BRITTLE, LETTERS):
        yield from one_at_a_time(ledger, name)
    for delivery in ledger.deliveries:
        if delivery.queue == BRITTLE and delivery.failures >= FAILURES_MAX:
            yield f"{delivery} was given after {delivery.failures} failures, and has {FAILURES_MAX} at most"
    yield from _one_letter(ledger)
    yield from _one_end(ledger)


def _one_letter(ledger: Ledger) -> Iterator[str]:
    """A message has one dead letter, and is given no more where it died."""
    given, settled = ledger.given(BRITTLE), ledger.settled(BRITTLE)
    places: dict[int, int] = {}
    for place, letters in ledger.given(LETTERS).items():
        first = letters[0]
        origin = first.headers["penstock-offset"]
        if places.setdefault(origin, place) != place:
            yield f"{BRITTLE}/{origin} ({first.id}) has two dead letters, {places[origin]} and {place}"
        for delivery in given.get(origin, ()):
            if delivery.id != first.id:
                yield f"{first} is the dead letter of {delivery}"
            if delivery.lease > first.lease:
                yield f"{delivery} was given though its dead letter was given before: {first}"
        for asked in settled.get(origin, ()):
            if asked.op != "reject":
                yield f"{BRITTLE}/{origin} ({first.id}) was {asked.op}ed at {asked.index}, and is dead: {first}"


def _one_end(ledger: Ledger) -> Iterator[str]:
    """However often it died and was tried again: in the end it was done once."""
    acked: dict[str, list[int]] = defaultdict(list)
    perhaps: set[str] = set()
    for name in (BRITTLE, LETTERS):
        for asked in ledger.done("ack", queue=name):
            for id in asked.ids:
                acked[id].append(asked.index)
        perhaps.update(id for asked in ledger.perhaps(*SETTLING, queue=name) for id in asked.ids)
    for id, indexes in acked.items():
        if len(indexes) > 1:
            yield f"{id} was done {len(indexes)} times, at {indexes}: it was doubled"
    for delivery in ledger.deliveries:
        if delivery.queue in (BRITTLE, LETTERS) and (done := acked.get(delivery.id)) and delivery.lease > min(done):
            yield f"{delivery} was given though {delivery.id} was done at {min(done)}"
    for id in ledger.sent(BRITTLE).values():
        if id not in acked and id not in perhaps:
            yield f"{id} was accepted, and nobody did it, alive or dead: lost"


DEAD_LETTERS = Feature(
    "dead letters",
    (queue(BRITTLE, max_failures=FAILURES_MAX, retry_delay_ms=20),),
    (Author, Breaker, Breaker, Undertaker),
    judge,
)
