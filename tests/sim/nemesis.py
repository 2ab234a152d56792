"""What goes wrong, and when. Each seed gets some of the faults and not others, so that none hides another."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from faults.history import Event

from penstock.broker.desk import Limits
from penstock.peers.wire import pack_payload

from .machine import address_of
from .seat import Seat
from .workloads import WORK
from .world import World

NODES_MAX = 9  # that ever join a world
VOTERS_MAX = 5


class Nemesis:
    """Draws its plan from the world's chance, and then strikes again and again until it is stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random: Random = world.random
        self.stopped = False
        self.pace_ms = self.random.choice((60, 150, 400, 1200))
        kinds = {
            self._crash: 3, self._crash_primary: 4, self._pause: 2, self._cut: 4, self._cut_one_way: 3, self._bridge: 2,
            self._depose: 8, self._mend: 6, self._clog: 2, self._dark: 4, self._slow: 2, self._jump: 1,
            self._suspend: 2, self._change: 4, self._transfer: 3, self._checkpoint: 3,
            self._false_alarm: 3, self._weather: 2, self._hang_up: 3, self._strand: 2, self._rot: 1,
            self._kill_client: 1,
        }  # fmt: skip
        chosen = {kind: weight for kind, weight in kinds.items() if self.random.random() < 0.6 or kind == self._mend}
        self.kinds: list[Callable[[], None]] = [kind for kind, weight in chosen.items() for _ in range(weight)]
        self.upon_election = self.random.choice((0.0, 0.3, 0.8))
        self.upon_vote = self.random.choice((0.0, 0.2, 0.6))
        self.voters_min = self.random.choice((1, 2, 2))
        self.changes_members = self._change in chosen
        self._pushed = 0
        self.publishing = self.random.choice((0.1, 0.5))  # of the probes; the others read
        world.elected, world.voted = self._elected, self._voted
        world.crash_chance = self.random.choice((0.0, 0.0, 0.001, 0.004))
        world.tear_chance = self.random.choice((0.0, 0.0, 0.3))
        world.restart_ms = self.random.choice((100, 1000, 5000))
        world.notices_crashes = self.random.random() < 0.7
        world.pace_ms = self.random.choice((40, 150, 400))
        world.limits = Limits(
            session_timeout_ms=self.random.choice((2000, 5000)),
            cache_bytes=self.random.choice((1 << 20, 1 << 20, 4000)),
            checkpoint_entries=self.random.choice((7, 50, 300)),
        )
        self._weather()

    def begin(self) -> None:
        """The world is there: the first blow falls in a while."""
        for seat in self.world.seats.values():
            seat.offset_ms += self.random.randrange(100_000)
        self.world.at(self.random.randrange(3000), self.strike)
        self.world.at(1000, self._probe)

    def _probe(self) -> None:
        """Ask all who take themselves for the primary: each could be the one who does not know that it is none."""
        if self.stopped:
            return
        for seat in self.world.primaries():
            self._pushed += 1
            publishes = self.random.random() < self.publishing
            self.world.operators.probe(seat, f"{WORK}/probe/{self._pushed}", WORK, publishes)
            self.world.operators.glance(seat)
        self.world.at(self.world.now_ms + 1 + self.random.randrange(2 * self.world.pace_ms), self._probe)

    def strike(self) -> None:
        """Something goes wrong, and again a while later."""
        if self.stopped:
            return
        if len(self.world.seats) > 1:
            self.random.choice(self.kinds)()
        else:  # alone so far: that somebody joins is all that can happen to it
            self._change()
        self.world.at(self.world.now_ms + 1 + int(self.random.expovariate(1 / self.pace_ms)), self.strike)

    def stop(self) -> None:
        """From now on nothing goes wrong any more, and what is broken is mended."""
        world = self.world
        self.stopped = True
        world.note(0, "all is healed")
        world.network.heal()
        world.crash_chance = 0.0
        world.elected = world.voted = lambda seat: None
        for seat in world.seats.values():
            seat.slow_ms = 0
            seat.paused_until_ms = min(seat.paused_until_ms, world.now_ms)
            world.start(seat)
            world.operators.change_limits(seat)
            world.turns.call(seat)
        self.replace_dead()

    def _elected(self, seat: Seat) -> None:
        """The first moments of a primary are the dangerous ones."""
        if self.stopped or self.random.random() >= self.upon_election:
            return
        soon_ms = self.world.now_ms + self.random.choice((0, 1, 2, 3, 5, 10, 50, 200))
        if self.changes_members and self.random.random() < 0.5:
            self._ask_change(seat)
        if self.random.random() < 0.7:
            self.world.at(soon_ms, self._unless_stopped, self.world.crash, seat, "soon after it was elected")
        else:
            self.world.at(soon_ms, self._unless_stopped, self._isolate, seat)

    def _unless_stopped(self, strike: Callable[..., None], *arguments: Any) -> None:
        if not self.stopped:
            strike(*arguments)

    def _voted(self, seat: Seat) -> None:
        """A vote must not be forgotten: the node is back at once, and asked by the other candidates of the term."""
        if self.random.random() < self.upon_vote:
            self.world.crash(seat, "just after it voted", at_once=self.random.random() < 0.7)

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _any(self) -> Seat:
        return self.random.choice(list(self.world.seats.values()))

    def _crash(self) -> None:
        self.world.crash(self._any(), "struck")

    def _crash_primary(self) -> None:
        for seat in self.world.primaries()[-1:]:
            self.world.crash(seat, "as primary")

    def _pause(self) -> None:
        self.world.pause(self._any(), self.random.choice((50, 400, 1500, 4000)))

    def _slow(self) -> None:
        seat = self._any()
        seat.slow_ms = self.random.choice((0, 3, 20, 200, 1500))
        self.world.note(seat.node, "disk", f"takes up to {seat.slow_ms} ms")

    def _jump(self) -> None:
        self.world.jump(self._any(), self.random.choice((100, 900, 5000)))

    def _checkpoint(self) -> None:
        self.world.operators.change_limits(self._any(), checkpoint_entries=self.random.choice((1, 1, 20, 1000)))

    def _rot(self) -> None:
        """A bit flips on one disk; never on so many that what was acknowledged is nowhere else."""
        seat = self._any()
        if not seat.is_dead and self.world.may_lose(seat):
            self.world.note(seat.node, "disk", f"rots at entry {seat.disk.rot(self.random)}")
            if self.random.random() < 0.5:
                self.world.crash(seat, "with a bad disk")
        self._ask_replacement()

    def _false_alarm(self) -> None:
        """Connections break, of one node or of all: several stand at the same time."""
        for primary in self.world.primaries():
            if self.random.random() < 0.6:
                self._all_stand(primary.node)
            else:
                seat = self._any()
                self.world.lose(seat, seat.life, primary.node)

    # -- network ------------------------------------------------------------------------------------------------------

    def _nodes(self) -> list[int]:
        nodes = list(self.world.seats)
        self.random.shuffle(nodes)
        return nodes

    def _part(self, cut: set[tuple[int, int]], what: str) -> None:
        self.world.network.cut = cut
        self.world.note(0, "network", f"{what}: {sorted(cut)}")

    def _cut(self) -> None:
        nodes = self._nodes()
        at = self.random.randrange(1, len(nodes))
        self._part({way for a in nodes[:at] for b in nodes[at:] for way in ((a, b), (b, a))}, "cut")

    def _isolate(self, seat: Seat) -> None:
        others = [node for node in self.world.seats if node != seat.node]
        self._part({way for node in others for way in ((seat.node, node), (node, seat.node))}, "isolated")

    def _cut_one_way(self) -> None:
        nodes = self._nodes()
        if self.random.random() < 0.5:
            self._part({(nodes[0], node) for node in nodes[1:]}, "mute")
        else:
            self._part({(a, b) for a in nodes for b in nodes if a != b and self.random.random() < 0.25}, "one way")

    def _bridge(self) -> None:
        """Two halves that both hear one in the middle."""
        nodes = self._nodes()[1:]
        half = len(nodes) // 2
        self._part({way for a in nodes[:half] for b in nodes[half:] for way in ((a, b), (b, a))}, "bridge")

    def _depose(self) -> None:
        """A primary and a few others go on by themselves for a while; then logs that parted meet again."""
        world, random = self.world, self.random
        for seat in world.primaries()[-1:]:
            others = [node for node in self._nodes() if node != seat.node]
            count = min(len(others) // 2, random.choice((0, 1, 1, 2)))
            few, rest = [seat.node, *others[:count]], others[count:]
            self._part({way for a in few for b in rest for way in ((a, b), (b, a))}, "deposed")
            for _ in range(3):
                world.at(world.now_ms + random.randrange(100), self._push, seat)
            met_ms = world.now_ms + random.choice((100, 300, 600, 800, 2500))
            world.at(met_ms, self._unless_stopped, self._mend)
            if random.random() < 0.5:
                world.at(met_ms - 10, self._unless_stopped, self._checkpoint_all)
            if random.random() < 0.5:
                world.at(met_ms, self._unless_stopped, world.crash, seat, "as it met the others again")
                world.at(met_ms, self._unless_stopped, self._all_stand, seat.node)
            else:
                world.at(met_ms + random.choice((100, 300, 1000)), self._unless_stopped, self._transfer_to, seat.node)

    def _push(self, seat: Seat) -> None:
        """Somebody publishes there, whether it is the primary or not, and never hears of it again."""
        self._pushed += 1
        id = f"{WORK}/push/{self._pushed}"
        self.world.record.append(Event("push", self.world.now_ms, "sent", WORK, [id]))
        self.world.operators.operate(seat, "append", {"queue": WORK, "count": 1}, pack_payload([id.encode()]))

    def _checkpoint_all(self) -> None:
        for seat in self.world.seats.values():
            self.world.operators.change_limits(seat, checkpoint_entries=1)

    def _all_stand(self, primary: int) -> None:
        """Words that are slow make rivals of those who stand at the same time."""
        self.world.network.jitter_ms = self.random.choice((2, 20, 50))
        for seat in self.world.seats.values():
            self.world.lose(seat, seat.life, primary)

    def _mend(self) -> None:
        self.world.network.cut = set()
        self.world.note(0, "network", "mended")

    def _clog(self) -> None:
        a, b = self._nodes()[:2]
        self.world.network.clogged[a, b] = self.world.now_ms + self.random.choice((100, 800, 3000))

    def _dark(self) -> None:
        """Broadcasts to one node, or of one node, are dropped for a while."""
        nodes = self._nodes()
        until_ms = self.world.now_ms + self.random.choice((200, 1000, 5000))
        ways = [(node, nodes[0]) for node in nodes[1:]] if self.random.random() < 0.6 else [(nodes[0], nodes[1])]
        self.world.network.dark.update(dict.fromkeys(ways, until_ms))

    def _weather(self) -> None:
        network = self.world.network
        network.loss = self.random.choice((0.0, 0.0, 0.02, 0.1, 0.3))
        network.replay = self.random.choice((0.0, 0.05, 0.3))
        network.jitter_ms = self.random.choice((0, 2, 20, 200))
        network.broadcast_skew_ms = self.random.choice((0, 0, 5, 100))

    # -- operators ----------------------------------------------------------------------------------------------------

    def _transfer(self) -> None:
        self._transfer_to(self._any().node)

    def _transfer_to(self, node: int) -> None:
        for seat in self.world.primaries():
            self.world.operators.operate(seat, "cluster_transfer", {"to": node})

    def _suspend(self) -> None:
        """The whole machine room stands still: afterwards everyone has waited too long."""
        for seat in self.world.seats.values():
            self.world.jump(seat, 3000)

    def _change(self) -> None:
        for seat in self.world.primaries():
            self._ask_change(seat)
            if self.random.random() < 0.3:
                self._ask_change(seat)

    def _ask_change(self, seat: Seat) -> None:
        """A new node joins as a learner, which the primary makes a voter by itself, or one is removed."""
        machine, world = seat.machine, self.world
        if machine is None:
            return
        members = machine.raft.members
        if self.random.random() < 0.4:
            if len(members.voters) < VOTERS_MAX and len(world.seats) < NODES_MAX:
                self._add(seat)
            return
        node = self.random.choice(members.everyone)
        lost = any(world.seats[each].disk.is_broken for each in members.voters)
        if node in members.voters and (len(members.voters) <= self.voters_min or lost):
            return  # an operator replaces what is lost first
        world.operators.remove(seat, node)

    def _add(self, seat: Seat) -> None:
        """A node that was started and never taken in is asked for once more before another one comes."""
        machine, world = seat.machine, self.world
        assert machine is not None
        known = machine.node.desk.state.addresses
        fresh = [s.node for s in world.seats.values() if s.node not in known and not s.is_dead]
        node = fresh[0] if fresh else world.operators.newcomer().node
        client, listen, publish, _ = address_of(node)
        world.operators.operate(
            seat, "cluster_add", {"node": node, "client": client, "listen": listen, "publish": publish}
        )

    def _ask_replacement(self) -> None:
        """Who lost its disk is removed; a new node, with an id of its own, comes for it (rule 7)."""
        for seat in self.world.primaries():
            assert seat.machine is not None
            members = seat.machine.raft.members
            dead = [node for node in members.everyone if self.world.seats[node].is_dead]
            if dead and len(members.everyone) > 1:
                self.world.operators.remove(seat, dead[0])
            elif len(members.voters) < 3 and len(self.world.seats) < NODES_MAX + 3:
                self._add(seat)

    def replace_dead(self) -> None:
        """The operator looks again and again, until none of the members is dead."""
        members = {n for seat in self.world.primaries() if seat.machine for n in seat.machine.raft.members.everyone}
        if not members or any(self.world.seats[node].is_dead for node in members):
            self._ask_replacement()
        for node in members:
            self._tell(self.world.seats[node], members)
        self.world.at(self.world.now_ms + 300, self.replace_dead)

    def _tell(self, seat: Seat, members: set[int]) -> None:
        """A member that was away while the others changed may know none of them: it gets a daemon.toml of today."""
        if seat.machine is not None and not members <= {*seat.config.peers}:
            seat.config.peers = {node: address_of(node) for node in {*members, seat.node}}
            self.world.crash(seat, "to take its new configuration", restart_ms=50)

    # -- clients ------------------------------------------------------------------------------------------------------

    def _hang_up(self) -> None:
        """Connections of clients break."""
        for client in self.world.clients:
            if client.channel is not None and self.random.random() < 0.4:
                self.world.hang_up(client.channel)

    def _strand(self) -> None:
        """Some clients cannot reach some nodes, and nobody tells them."""
        away = self.world.network.away
        away.clear()
        for client in self.world.clients:
            if self.random.random() < 0.3:
                away.update((client.name, node) for node in self.world.seats if self.random.random() < 0.5)

    def _kill_client(self) -> None:
        """As kill -9. Another one takes its place; its session stays behind."""
        client = self.random.choice(self.world.clients)
        if client.is_alive and client.is_replaceable:
            client.die()
            self.world.enter(type(client))
