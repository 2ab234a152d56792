"""Who asks one node itself, whatever the others say: operators, and probers who look if it is the primary still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from faults.history import Event

from penstock.peers import wire

from .machine import Config, address_of
from .seat import Seat

if TYPE_CHECKING:
    from .world import World

OPERATOR = b"operator"
REMOVING_MS = 6000  # until it is known what came of the removal of a node


class Operators:
    """They need no session core: what they ask, they ask once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._asked = 0
        self._then: dict[tuple[bytes, int], Callable[[wire.Reply], None]] = {}  # what to do with an answer
        self._removed_ms = -REMOVING_MS

    def hear(self, route: bytes, reply: wire.Reply) -> bool:
        """An answer leaves a node. True: it is for one of us."""
        then = self._then.pop((route, reply.sequence), None)
        if then is not None:
            then(reply)
        return then is not None

    @property
    def is_removing(self) -> bool:
        """Whether it is not known yet what came of the removal of a node."""
        return self.world.now_ms < self._removed_ms + REMOVING_MS

    def newcomer(self) -> Seat:
        """A node with an id of its own, that is told who is there and does not vote yet."""
        node = max(self.world.seats) + 1
        known = [*self.world.primaries(), *(seat for seat in self.world.seats.values() if seat.machine is not None)]
        machine = known[0].machine if known else None
        nodes = machine.raft.members.everyone if machine is not None else tuple(self.world.seats)
        peers = {each: address_of(each) for each in (*nodes, node)}
        return self.world.join(Config(node, peers, joins=True, limits=self.world.limits))

    def change_limits(self, seat: Seat, **limits: int) -> None:
        """As SIGHUP with another daemon.toml."""
        if seat.machine is not None:
            seat.machine.node.change_limits(replace(self.world.limits, **limits))

    def operate(self, seat: Seat, op: str, args: dict[str, Any], payload: bytes | None = None) -> None:
        """An operator, or whoever cannot wait, asks this very node, and does not care for the answer."""
        if seat.machine is None:
            return
        self.world.note(seat.node, "is asked", f"{op} {args}")
        self._asked += 1
        route = OPERATOR + b"%d" % self._asked
        hello = wire.request("hello", 0, {"version": 1, "client": "operator"})
        sequence = 0 if op == "cluster_transfer" else 1
        seat.machine.clients += [(route, hello), (route, wire.request(op, sequence, args, payload))]
        self.world.turns.call(seat)

    def probe(self, seat: Seat, id: str, queue: str, publishes: bool) -> None:
        """Publish or read there, at once, whoever else is asked at the same time by others."""
        if seat.primary is None:
            return
        office = (seat.life, seat.primary.raft.term)
        route = b"prober/%d/%d/%d" % (seat.node, *office)
        actor = route.decode()
        if seat.probed != office:
            seat.probed, seat.probes = office, 0
            seat.primary.clients.append((route, wire.request("hello", 0, {"version": 1, "client": "prober"})))
        due = self.world.checks.told_next.get(queue, 0)

        def published(reply: wire.Reply) -> None:
            if reply.status == "ok":
                self.world.record.append(Event(actor, self.world.now_ms, "accepted", queue, [id], reply.body["offset"]))
                self.world.checks.accepted(queue, reply.body["offset"] + 1, reply.body["index"])

        def read(reply: wire.Reply) -> None:
            if reply.status == "ok":
                self.world.checks.read(queue, due, reply.body)

        if publishes:
            seat.probes += 1
            self._then[route, seat.probes] = published
            self.world.record.append(Event(actor, self.world.now_ms, "sent", queue, [id]))
            payload = wire.pack_payload([id.encode()])
            request = wire.request("append", seat.probes, {"queue": queue, "count": 1}, payload)
        else:  # not together: what was published in the same turn would hold the answer back
            self._asked += 1
            self._then[route, -self._asked] = read
            request = wire.request("describe", -self._asked, {"name": queue})
        seat.primary.clients.append((route, request))
        self.world.turns.call(seat)

    def glance(self, seat: Seat) -> None:
        """Read there what it knows by itself, in its very next turn. The checks look at the answer."""
        if seat.machine is None:
            return
        self._asked += 1
        route = b"glance/%d/%d" % (seat.node, seat.life)
        for sequence, op, args in ((0, "hello", {"version": 1, "read_only": True}), (-self._asked, "status", {})):
            self._then[route, sequence] = lambda reply: None
            seat.machine.clients.append((route, wire.request(op, sequence, args)))
        self.world.turns.call(seat)

    def remove(self, seat: Seat, node: int) -> None:
        """The operator removes a node."""
        self._removed_ms = self.world.now_ms
        self.operate(seat, "cluster_remove", {"node": node})
