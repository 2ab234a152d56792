"""Calls: one request, one job, one answer, which is that of its own job; and what is forgotten is gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.client.requests import Request
from penstock.peers.wire import pack_payload, unpack_payload

from ..ledger import DONE, SETTLING, Asked, Ledger, one_at_a_time
from ..takers import LATER_MS, Asker, Taker
from .feature import Feature, queue

if TYPE_CHECKING:
    from ..world import World

DESK, LETTERS = "desk", "desk.dead"
ENDED = ("done", "dead")


class Told(NamedTuple):
    """What somebody was told of a job."""

    how: str
    offset: int
    status: str
    value: str


class Caller(Asker):
    """Asks, waits for the answer, has the job forgotten, and looks whether it is; asks much else meanwhile."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._count = 0
        self._due_ms = 0
        self._known: list[int] = []  # jobs of calls that were answered, if only since the wait was over

    def act(self, now_ms: int) -> int:
        if self.world.is_ending:
            return LATER_MS
        # Until its queue is there, one by one: calls that are refused count among the others.
        under_way_max = 6 if self._known else 1
        if self.under_way < under_way_max and now_ms >= self._due_ms:
            if not self._known or self.random.random() < 0.5:
                self._call()
            else:  # fills the window, and may forget a job too early, which is refused
                for offset in self.random.choices(self._known[-6:], k=self.random.choice((1, 3))):
                    self._forget(offset)
            self._due_ms = self.soon_ms(now_ms)
        return max(self._due_ms, now_ms + 1) if self.under_way < under_way_max else LATER_MS

    def _call(self) -> None:
        id = f"{self.name}.{self._count}"
        self._count += 1

        def answered(asked: Asked) -> None:
            if asked.fate == DONE:
                self._known.append(asked.body["offset"])
                self._hear("call", asked.body["offset"], asked.body["status"], asked.data)

        args = {"queue": DESK, "count": 1, "wait_ms": self.random.choice((0, 300, 3000))}
        if self.random.random() < 0.3:  # much else comes before its answer
            args["delay_ms"] = 1500
        self.do("call", args, answered, pack_payload([id.encode()]), queue=DESK, ids=[id])

    def _hear(self, how: str, offset: int, status: str, data: bytes | None) -> None:
        value = unpack_payload(data)[0][0].decode() if data is not None else ""
        self.world.ledger.told.append(Told(how, offset, status, value))
        if status in ENDED and self.random.random() < 0.7:
            self._forget(offset)
        elif status not in (*ENDED, "expired"):
            self._look("job_result", offset)

    def _look(self, op: str, offset: int) -> None:
        def seen(request: Request) -> None:
            if request.error is None:
                self._hear(op, offset, request.body["status"], request.data)

        self.ask(op, {"queue": DESK, "offset": offset, "wait_ms": 1000}, seen, counted=False)

    def _forget(self, offset: int) -> None:
        def looked(request: Request) -> None:
            if request.error is None:
                self.world.ledger.told.append(Told("forgotten", offset, request.body["jobs"][0]["status"], ""))

        def gone(asked: Asked) -> None:
            if asked.fate == DONE:
                self.ask("job_status", {"queue": DESK, "offsets": [offset]}, looked, counted=False)

        self.do("job_forget", {"queue": DESK, "offset": offset}, gone, queue=DESK)


class Answerer(Taker):
    queues = (DESK,)
    ops = ("nack", "reject", "release", "extend", "forget", "complete", "complete", "complete", "complete")


class Sweeper(Taker):
    """Works the dead letters off."""

    queues = (LETTERS,)


def judge(ledger: Ledger) -> Iterator[str]:
    for name in (DESK, LETTERS):
        yield from one_at_a_time(ledger, name)
    for asked in ledger.asked:
        if asked.code == "ProtocolError":
            yield f"{asked.op} of {asked.actor} was taken for a breach of the protocol"
    ids = {offset: some[0].id for offset, some in ledger.given(DESK).items()}
    ids |= {asked.body["offset"]: asked.ids[0] for asked in ledger.done("call", queue=DESK)}
    yield from _one_job(ledger, ids)
    yield from _own_answers(ledger, ids)
    yield from _forgotten(ledger)


def _one_job(ledger: Ledger, ids: dict[int, str]) -> Iterator[str]:
    offsets: dict[str, list[int]] = defaultdict(list)
    for offset, id in ids.items():
        offsets[id].append(offset)
    for id, some in offsets.items():
        if len(some) > 1:
            yield f"{id} was asked once, and there are {len(some)} jobs of it: {sorted(some)}"
    settled, given, dead = ledger.settled(DESK), ledger.given(DESK), _dead(ledger)
    perhaps = {offset for asked in ledger.perhaps(*SETTLING, queue=DESK) for offset in asked.offsets}
    for asked in ledger.done("call", queue=DESK):
        offset = asked.body["offset"]
        if offset not in given and offset not in dead:
            yield f"{DESK}/{offset} ({asked.ids[0]}) was taken and never came: lost"
        elif offset not in settled and offset not in perhaps and offset not in dead:
            yield f"{DESK}/{offset} ({asked.ids[0]}) was taken, and nobody did it: lost"


def _own_answers(ledger: Ledger, ids: dict[int, str]) -> Iterator[str]:
    results: dict[int, str] = {}
    for asked in ledger.done("complete", queue=DESK):
        results |= {offset: f"{id}|{asked.actor}" for offset, id in zip(asked.offsets, asked.ids, strict=True)}
    rejected = {offset for asked in ledger.done("reject", queue=DESK) for offset in asked.offsets}
    dead = _dead(ledger)
    for told in ledger.told:
        name = f"{DESK}/{told.offset} ({ids.get(told.offset)})"
        if told.status == "done":
            if results.get(told.offset, told.value) != told.value or not told.value.startswith(f"{ids[told.offset]}|"):
                yield f"{name}: {told.how} said {told.value!r}, and it was answered {results.get(told.offset)!r}"
            if told.offset in rejected or told.offset in dead:
                yield f"{name}: {told.how} said it was done, and it is dead"
        elif told.status == "dead" and (told.offset in results or told.offset not in dead):
            yield f"{name}: {told.how} said it was dead, and it is done"
        elif told.status not in (*ENDED, "queued", "delayed", "running", "failed", "expired"):
            yield f"{name}: {told.how} said it was {told.status}"


def _forgotten(ledger: Ledger) -> Iterator[str]:
    given, settled = ledger.given(DESK), ledger.settled(DESK)
    for told in ledger.told:
        if told.how == "forgotten" and told.status != "expired":
            yield f"{DESK}/{told.offset} was forgotten, and somebody who looked then was told that it is {told.status}"
    for asked in ledger.done("job_forget", queue=DESK):
        offset = asked.args["offset"]
        later = [it.lease for it in given.get(offset, ())] + [it.index for it in settled.get(offset, ())]
        if max(later, default=0) > asked.index:
            yield f"{DESK}/{offset} was forgotten at {asked.index}, and was not ended before {max(later)}"


def _dead(ledger: Ledger) -> set[Any]:
    return {some[0].headers["penstock-offset"] for some in ledger.given(LETTERS).values()}


CALLS = Feature(
    "calls",
    (queue(DESK, max_failures=3, retry_delay_ms=20),),
    (Caller, Caller, Answerer, Answerer, Sweeper),
    judge,
)
