"""What goes wrong, and when. Each seed gets some of the faults and not others, so that none hides another."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from penstock.peers.raft.words import Members

from .machine import Change, Checkpoint, Lost, Transfer
from .world import Seat, World

NODES_MAX = 8  # that ever join a world
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
            self._false_alarm: 3, self._weather: 2,
        }  # fmt: skip
        chosen = {kind: weight for kind, weight in kinds.items() if self.random.random() < 0.6 or kind == self._mend}
        self.kinds: list[Callable[[], None]] = [kind for kind, weight in chosen.items() for _ in range(weight)]
        self.upon_election = self.random.choice((0.0, 0.3, 0.8))
        self.upon_vote = self.random.choice((0.0, 0.0, 0.3))
        self.voters_min = self.random.choice((1, 2, 2))
        self.changes_members = self._change in chosen
        world.elected, world.voted = self._elected, self._voted
        world.crash_chance = self.random.choice((0.0, 0.0, 0.002, 0.01))
        world.restart_ms = self.random.choice((100, 1000, 5000))
        world.cache_bytes = self.random.choice((1 << 20, 1 << 20, 2000))
        world.is_deaf_when_removed = self.random.random() < 0.5
        world.notices_crashes = self.random.random() < 0.7
        self._weather()
        for seat in world.seats.values():
            seat.offset_ms = self.random.randrange(100_000)

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
            world.call(seat)

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
        """A vote must not be forgotten: the node is back soon, and may be asked by another candidate."""
        if self.random.random() < self.upon_vote:
            self.world.crash(seat, "just after it voted", restart_ms=20)

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
        self.world.hand(self._any(), Checkpoint())

    def _false_alarm(self) -> None:
        """Connections break, of one node or of all: several stand at the same time."""
        for primary in self.world.primaries():
            if self.random.random() < 0.6:
                self._all_stand(primary.node)
            else:
                self.world.hand(self._any(), Lost(primary.node))

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
                world.at(world.now_ms + random.randrange(100), world.put, seat)
            met_ms = world.now_ms + random.choice((100, 300, 600, 800, 2500))
            world.at(met_ms, self._unless_stopped, self._mend)
            if random.random() < 0.5:
                world.at(met_ms - 10, self._unless_stopped, self._checkpoint_all)
            if random.random() < 0.5:
                world.at(met_ms, self._unless_stopped, world.crash, seat, "as it met the others again")
                world.at(met_ms, self._unless_stopped, self._all_stand, seat.node)
            else:
                world.at(met_ms + random.choice((100, 300, 1000)), self._unless_stopped, self._transfer_to, seat.node)

    def _checkpoint_all(self) -> None:
        for seat in self.world.seats.values():
            self.world.hand(seat, Checkpoint())

    def _all_stand(self, primary: int) -> None:
        """Words that are slow make rivals of those who stand at the same time."""
        self.world.network.jitter_ms = self.random.choice((2, 20, 50))
        for seat in self.world.seats.values():
            self.world.hand(seat, Lost(primary))

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
            self.world.hand(seat, Transfer(node))

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
        if seat.machine is None:
            return
        world, members = self.world, seat.machine.raft.members
        verb = self.random.choice(("learn", "promote", "promote", "remove", "remove"))
        if verb == "learn":
            outside = [node for node in world.seats if node not in members.everyone]
            node = self.random.choice(outside) if outside and self.random.random() < 0.5 else len(world.seats) + 1
            if node not in world.seats:
                if node > NODES_MAX:
                    return
                world.join(node, Members(()))
        elif verb == "promote" and members.learners and len(members.voters) < VOTERS_MAX:
            node = self.random.choice(members.learners)
        elif verb == "remove":
            node = self.random.choice(members.everyone)
            if members.voters == (node,) or (node in members.voters and len(members.voters) <= self.voters_min):
                return
        else:
            return
        world.hand(seat, Change(verb, node))
