"""Dead letters of groups: what died in one group is in its hands or among the letters, and the other has its own."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from penstock.peers.messages import RetryGroup

from ..ledger import SETTLING, Asked, Delivery, Ledger, one_at_a_time
from ..takers import Sender, Taker
from .feature import Feature

if TYPE_CHECKING:
    from ..world import World

NEWS, LETTERS = "news", "news.dead"
ANGRY, CALM = "angry", "calm"  # of the dead of one of them all are tried again, of the other none
FAILURES_MAX = 2


class Press(Sender):
    queue = NEWS


class Angry(Taker):
    queues, group = (NEWS,), ANGRY
    ops = ("nack", "nack", "nack", "reject", "release", "forget", "ack")


class Calm(Angry):
    group = CALM


class Editor(Taker):
    """Works the letters off, or gives those of one group back to it."""

    queues = (LETTERS,)
    ops = ("release", "release", "forget", "nack", "ack")

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._again_ms = 0

    def act(self, now_ms: int) -> int:
        if not self.world.is_ending and now_ms >= self._again_ms and self.under_way < 4:
            self._again_ms = self.soon_ms(now_ms)
            args = {"topic": NEWS, "group": ANGRY, "limit": self.random.choice((1, 3, 1000))}
            self.do("group_retry", args, queue=NEWS, group=ANGRY)
        return super().act(now_ms)


class Letter(NamedTuple):
    """A place among the letters, with what it says of itself."""

    place: int
    attempt: int
    some: list[Delivery]


def judge(ledger: Ledger) -> Iterator[str]:
    yield from one_at_a_time(ledger, LETTERS)
    letters: dict[tuple[str, int], list[Letter]] = defaultdict(list)
    for place, some in sorted(ledger.given(LETTERS).items()):
        headers = some[0].headers
        letters[headers["penstock-group"], headers["penstock-offset"]].append(
            Letter(place, headers["penstock-attempt"], some)
        )
    commands = [entry.index for entry in ledger.entries if isinstance(entry.command, RetryGroup)]
    for group, retries in ((ANGRY, commands), (CALM, [])):
        given, settled = ledger.given(NEWS, group), ledger.settled(NEWS, group)
        for offset, some in given.items():
            yield from _in_turn(some, settled.get(offset, ()), retries)
        for offset in {*given, *(offset for name, offset in letters if name == group)}:
            yield from _one_place(given.get(offset, []), letters[group, offset], retries)
        yield from _one_end(ledger, group, letters)
    for asked in ledger.done("group_retry", queue=NEWS):
        if asked.body["count"] > asked.args["limit"]:
            yield f"{asked.body['count']} were tried again at {asked.index}, {asked.args['limit']} may be"


def _in_turn(some: list[Delivery], settled: Sequence[Asked], retries: list[int]) -> Iterator[str]:
    """Attempts rise, also behind the death; failures count anew, and are never too many."""
    for delivery in some:
        if delivery.failures >= FAILURES_MAX:
            yield f"{delivery} was given after {delivery.failures} failures, and has {FAILURES_MAX} at most"
    for before, after in pairwise(some):
        if before.id != after.id:
            yield f"{before} and {after} are two messages at one place"
        if after.attempt <= before.attempt and after.lease != before.lease:
            yield f"{after} was given after {before}: the attempt did not rise"
    for asked in settled:
        for delivery in some:
            if delivery.lease > asked.index and (asked.op == "ack" or not _any(retries, asked.index, delivery.lease)):
                yield f"{delivery} was given though it was {asked.op}ed by {asked.actor} at {asked.index}"


def _one_place(given: list[Delivery], letters: list[Letter], retries: list[int]) -> Iterator[str]:
    """Either the group has it, or the letters have: it goes from one to the other and back by a retry of the group."""
    for letter in letters:
        first, last = letter.some[0], letter.some[-1]
        for delivery in given:
            if delivery.id != first.id:
                yield f"{first} is the letter of {delivery}"
            if delivery.attempt <= letter.attempt and delivery.lease > first.lease:
                yield f"{delivery} was given though its letter was given before: {first}"
            if delivery.attempt > letter.attempt and delivery.lease < last.lease:
                yield f"{last} was given though its message was tried again before: {delivery}"
            if delivery.attempt > letter.attempt and not _any(retries, first.lease, delivery.lease):
                yield f"{delivery} was given after its letter {first}, and nobody had it tried again"
    for one, two in pairwise(letters):
        if two.attempt <= one.attempt:
            yield f"{one.some[0]} and {two.some[0]} are two letters of attempts {one.attempt} and {two.attempt}"


def _one_end(ledger: Ledger, group: str, letters: dict[tuple[str, int], list[Letter]]) -> Iterator[str]:
    """However often it died: in the end it was done once, by the group or as a letter."""
    acks: dict[int, list[int]] = defaultdict(list)
    perhaps = {offset for it in ledger.perhaps(*SETTLING, queue=NEWS) if it.group == group for offset in it.offsets}
    for asked in ledger.done("ack", queue=NEWS):
        for offset in asked.offsets if asked.group == group else ():
            acks[offset].append(asked.index)
    settled = ledger.settled(LETTERS)
    unsure = {place for asked in ledger.perhaps(*SETTLING, queue=LETTERS) for place in asked.offsets}
    for (name, offset), some in letters.items():
        for letter in some if name == group else ():
            acks[offset] += [asked.index for asked in settled.get(letter.place, ())]
            perhaps |= {offset} if letter.place in unsure else set()
    given = ledger.given(NEWS, group)
    for offset, indexes in acks.items():
        if len(indexes) > 1:
            yield f"{NEWS}/{offset} was done {len(indexes)} times for {group}, at {indexes}: it was doubled"
        for delivery in given.get(offset, ()) if indexes else ():
            if delivery.lease > min(indexes):
                yield f"{delivery} was given though it was done at {min(indexes)}"
    for offset, id in ledger.sent(NEWS).items():
        if not acks[offset] and offset not in perhaps:
            yield f"{NEWS}/{offset} ({id}) was accepted, and nobody did it for {group}, alive or dead: lost"


def _any(retries: list[int], after: int, before: int) -> bool:
    """Whether there was one between these two."""
    return bisect_right(retries, after) < bisect_right(retries, before)


GROUP_LETTERS = Feature(
    "dead letters of groups",
    (
        ("create", {"name": NEWS, "kind": "topic", "options": {"max_failures": FAILURES_MAX, "retry_delay_ms": 20}}),
        ("group_create", {"topic": NEWS, "group": ANGRY, "start": "earliest"}),
        ("group_create", {"topic": NEWS, "group": CALM, "start": "earliest"}),
    ),
    (Press, Angry, Angry, Calm, Editor, Editor),
    judge,
)
