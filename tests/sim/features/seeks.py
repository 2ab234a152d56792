"""Seeks: a group reads on from where it was told to, all of it, and nothing from before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from penstock.client.requests import Request
from penstock.peers.messages import SeekGroup
from penstock.peers.wire import unpack_payload

from ..ledger import Ledger, one_at_a_time
from ..takers import LATER_MS, Asker, Sender, Taker
from .feature import Feature

if TYPE_CHECKING:
    from ..world import World

SCROLL, GROUP, OTHER = "scroll", "again", "once"


class Writer(Sender):
    queue = SCROLL


class Pupil(Taker):
    queues, group = (SCROLL,), GROUP
    credits = (5, 30)


class Scholar(Taker):
    """Of a group that nobody disturbs."""

    queues, group = (SCROLL,), OTHER
    credits = (5, 30)


class Teacher(Asker):
    """Has the group read again, and looks at what is written itself."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._due_ms = 0
        self._next = 0

    def act(self, now_ms: int) -> int:
        if self.world.is_ending:
            return LATER_MS
        if self.under_way < 2 and now_ms >= self._due_ms:
            if self.random.random() < 0.4:
                self._seek()
            else:
                args = {"topic": SCROLL, "start": "offset", "at": self.random.randrange(self._next + 1)}
                self.ask("read", {**args, "messages": 20}, self._read, counted=False)
            self._due_ms = self.soon_ms(now_ms) + 2 * self.world.pace_ms
        return max(self._due_ms, now_ms + 1) if self.under_way < 2 else LATER_MS

    def _seek(self) -> None:
        start = self.random.choice(("earliest", "latest", "offset", "offset"))
        args = {"topic": SCROLL, "group": GROUP, "start": start, "at": self.random.randrange(self._next + 1)}
        self.do("group_seek", args, queue=SCROLL, group=GROUP)

    def _read(self, request: Request) -> None:
        if request.error is None:
            self._next = request.body["end"]
            bodies = unpack_payload(request.data)[0] if request.data is not None else []
            for offset, body in enumerate(bodies, request.body["first"]):
                self.world.ledger.read[SCROLL, offset].add(body.decode())


def judge(ledger: Ledger) -> Iterator[str]:
    floors = {asked.index: asked.body["floor"] for asked in ledger.done("group_seek", queue=SCROLL)}
    seeks = [entry.index for entry in ledger.entries if isinstance(entry.command, SeekGroup)]  # refused ones, too
    yield from one_at_a_time(ledger, SCROLL, GROUP, seeks)
    yield from one_at_a_time(ledger, SCROLL, OTHER)
    for asked in ledger.done("group_seek", queue=SCROLL):
        wanted = {"earliest": 0, "offset": asked.args["at"]}.get(asked.args["start"], asked.body["floor"])
        if asked.body["floor"] != wanted:
            yield f"a group that sought {wanted} at {asked.index} went to {asked.body['floor']}"
    given, sent = ledger.given(SCROLL, GROUP), ledger.sent(SCROLL)
    for offset, some in given.items():
        for delivery in some:
            at = bisect_right(seeks, delivery.lease)
            floor = floors.get(seeks[at - 1], 0) if at else 0
            if offset < floor:
                yield f"{delivery} was given though the group had sought {floor} at {seeks[at - 1]}"
    for group in (GROUP, OTHER):
        yield from _all_seen(ledger, group, seeks if group == GROUP else [], floors)
    for asked in ledger.done("ack", queue=SCROLL):
        sought = bisect_right(seeks, asked.args["lease"]) != bisect_right(seeks, asked.index)
        if asked.group == GROUP and sought:
            yield f"an ack under lease {asked.args['lease']} was taken at {asked.index}, behind a seek of the group"
    for (name, offset), ids in ledger.read.items():
        ids = ids | {sent[offset]} if offset in sent else ids
        ids = ids | {delivery.id for delivery in given.get(offset, ())}
        if len(ids) > 1:
            yield f"{name}/{offset} was read as {sorted(ids)}"


def _all_seen(ledger: Ledger, group: str, seeks: list[int], floors: dict[int, int]) -> Iterator[str]:
    """From where it sought last, a group is given everything."""
    last = seeks[-1] if seeks else 0
    if last and last not in floors:
        return  # nobody was told where that was
    given = ledger.given(SCROLL, group)
    for offset, id in ledger.sent(SCROLL).items():
        if offset >= floors.get(last, 0) and not any(delivery.lease > last for delivery in given.get(offset, ())):
            yield f"{SCROLL}/{offset} ({id}) was never given to group {group} after {last}: lost"


SEEKS = Feature(
    "seeks",
    (
        ("create", {"name": SCROLL, "kind": "topic", "options": {"max_failures": None}}),
        ("group_create", {"topic": SCROLL, "group": GROUP, "start": "earliest"}),
        ("group_create", {"topic": SCROLL, "group": OTHER, "start": "earliest"}),
    ),
    (Writer, Pupil, Scholar, Teacher),
    judge,
)
