"""A world in which everything comes from one seed: time, network, disks, crashes, clients and operators."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from faults.history import Event

from penstock.broker import damage
from penstock.broker.desk import Limits
from penstock.broker.rows import CorruptRow
from penstock.peers.log import CorruptEntry
from penstock.peers.raft.core import Timing
from penstock.peers.raft.words import Word

from .checks import Broken, Checks
from .clients import Channel, Client
from .ledger import Ledger
from .machine import Config, Machine, address_of
from .network import Network
from .operators import Operators
from .seat import Seat
from .timeline import Timeline
from .turns import Turns

if TYPE_CHECKING:
    from .features import Feature

NOTICE_MS = 5  # after a crash, until the others see the connection broken
REFUSED_MS = 3  # until a client knows that nobody listens there


class World(Timeline):
    """`run` a plan of faults; `Broken` (or what the machine itself raises) is the finding."""

    def __init__(self, seed: int, size: int) -> None:
        super().__init__()
        self.seed = seed
        self.random = Random(seed)
        self.network = Network(self.random)
        self.record: list[Event] = []  # what clients did and saw
        self.ledger = Ledger()  # and those of the features
        self.features: tuple[Feature, ...] = ()
        self.seats: dict[int, Seat] = {}
        self.checks = Checks(self.seats)
        self.limits = Limits(session_timeout_ms=3000)
        self.pace_ms = 100  # of each client
        self.is_ending = False  # clients finish what there is, and begin nothing new
        self.crash_chance = 0.0  # at each boundary of a turn
        self.tear_chance = 0.0  # that a crash in a write leaves a part of it
        self.restart_ms = 1000
        self.notices_crashes = True
        self.elected: Callable[[Seat], None] = lambda seat: None
        self.voted: Callable[[Seat], None] = lambda seat: None
        self.clients: list[Client] = []
        self.turns = Turns(self)
        self.operators = Operators(self)
        self._size = size

    def populate(self, workloads: tuple[type[Client], ...], features: tuple[Feature, ...]) -> None:
        """The first nodes start, and the clients."""
        self.features = features
        peers = {node: address_of(node) for node in range(1, self._size + 1)}
        for node in peers:
            self.join(Config(node, peers, joins=False, limits=self.limits))
        for workload in (*workloads, *(client for feature in features for client in feature.clients)):
            self.enter(workload)

    # -- nodes --------------------------------------------------------------------------------------------------------

    def join(self, config: Config) -> Seat:
        seat = self.seats[config.node] = Seat(config)
        self.start(seat)
        return seat

    def start(self, seat: Seat) -> None:
        if seat.machine is not None or seat.is_dead:
            return
        seat.life += 1
        disk = seat.disk
        seat.term, seat.presides, seat.was_primary, seat.office, seat.digested = disk.hard.term, 0, 0, 0, -1
        seat.fetches, seat.told_applied = {}, 0
        seat.offset_ms += self.random.choice((0, 0, -500, 700))  # nobody kept the clock while it was away
        timing = Timing(1000, 100)
        try:
            machine = Machine(seat.config, disk, timing, self.random, self.now_ms + seat.offset_ms)
        except (CorruptEntry, CorruptRow) as fault:
            self._bury(seat, fault)
            return
        if disk.is_broken and any(index > machine.raft.tail.floor for index in disk.damaged):
            raise Broken("bad entry accepted", f"node {seat.node} starts from a disk that is not as it was (rule 24)")
        seat.offset_ms = machine.clock_ms - self.now_ms
        seat.machine = machine
        seat.commit = seat.applied = machine.raft.tail.commit
        self.note(seat.node, "starts", f"life {seat.life}: {disk.hard}, log {disk.floor}..{disk.last}")
        self.checks.started(seat)
        self.turns.call(seat)

    def stop(self, seat: Seat, fault: Exception) -> None:
        """It has found a bad entry, says which one and stops; its next start asks the others for it (rule 24)."""
        if not seat.disk.is_broken or seat.machine is None:
            raise fault
        if isinstance(fault, CorruptEntry):
            folder: Any = seat.disk.folder
            damage.note(folder, [fault.index])
        self.crash(seat, str(fault))

    def _bury(self, seat: Seat, fault: Exception) -> None:
        """What is bad may be nowhere else: it does not start, and is to be replaced (rules 7, 24)."""
        if not seat.disk.is_broken:
            raise fault
        self.note(seat.node, "is given up", str(fault))
        seat.is_dead = True

    def crash(self, seat: Seat, why: str, restart_ms: int = 0, at_once: bool = False) -> None:
        if seat.machine is None:
            return
        self.note(seat.node, "crashes", why)
        self._end_life(seat)
        down_ms = 1 if at_once else 10 + self.random.randrange(restart_ms or self.restart_ms)
        self.at(self.now_ms + down_ms, self.start, seat)

    def _end_life(self, seat: Seat) -> None:
        seat.machine = None
        seat.writing, seat.alarm, seat.alarm_ms = False, seat.alarm + 1, -1
        seat.paused_until_ms = 0
        channels, seat.channels = seat.channels, {}
        for channel in channels.values():
            if channel.stands and not channel.is_hole:
                self.at(self.now_ms + 1 + self.random.randrange(NOTICE_MS), channel.client.broken, channel)
            channel.stands = False
        if self.notices_crashes:
            for other in self.seats.values():
                if other is not seat and other.machine is not None and (seat.node, other.node) not in self.network.cut:
                    at_ms = self.now_ms + 1 + self.random.randrange(NOTICE_MS)
                    self.at(at_ms, self.lose, other, other.life, seat.node)

    def lose(self, seat: Seat, life: int, node: int) -> None:
        """Its connection to `node` breaks."""
        if seat.machine is not None and life == seat.life:
            seat.machine.wires.broken.append(node)
            self.turns.call(seat)

    def pause(self, seat: Seat, for_ms: int) -> None:
        """As SIGSTOP: it does nothing for a while and then hears everything at once."""
        self.note(seat.node, "stands still", f"for {for_ms} ms")
        seat.paused_until_ms = self.now_ms + for_ms
        self.at(seat.paused_until_ms, self.turns.call, seat)

    def jump(self, seat: Seat, by_ms: int) -> None:
        self.note(seat.node, "clock jumps", f"by {by_ms} ms")
        seat.offset_ms += by_ms
        self.turns.call(seat)

    def primaries(self) -> list[Seat]:
        """Who takes itself for the primary."""
        return [seat for seat in self.seats.values() if seat.primary is not None]

    # -- what is lost for ever -----------------------------------------------------------------------------------------

    def may_lose(self, seat: Seat) -> bool:
        """Whether the disk of this node may go bad: never those of half of the voters, by anybody's view."""
        if self.operators.is_removing:
            return False
        lost = {other.node for other in self.seats.values() if other.is_dead or other.disk.is_broken} | {seat.node}
        for other in self.seats.values():
            if other.is_dead:
                continue
            views = [members for _, members in other.disk.changes[-3:]] or [other.config.members]
            if other.machine is not None:
                views += [members for _, members in other.machine.raft.history]
            for members in views:
                voters = set(members.voters)
                if len(voters & lost) > (len(voters) - 1) // 2:
                    return False
        return True

    # -- words --------------------------------------------------------------------------------------------------------

    def broadcast(self, seat: Seat, word: Word) -> None:
        self.checks.said(seat, word)
        for other in self.seats.values():
            # Who does not know it has not subscribed to it.
            if other is not seat and other.machine is not None and seat.node in other.machine.wires.known:
                self.send(seat, other, word, broadcast=True)

    def send(self, seat: Seat, other: Seat, word: Any, broadcast: bool) -> None:
        arrivals = self.network.arrivals(seat.node, other.node, broadcast, self.now_ms)
        self.note(seat.node, "says" if arrivals else "says (lost)", (f"to {other.node}", word))
        for at_ms in arrivals:
            self.at(at_ms, self._arrive, seat.node, other, word)

    def _arrive(self, source: int, seat: Seat, word: Any) -> None:
        if seat.machine is None:
            return
        self.note(seat.node, "hears", (f"of {source}", word))
        seat.machine.wires.heard.append(word)
        if seat.primary is not None and getattr(word, "term", 0) > seat.machine.raft.term:
            self.operators.glance(seat)  # just as it is deposed
        self.turns.call(seat)

    # -- clients ------------------------------------------------------------------------------------------------------

    def enter(self, workload: type[Client]) -> Client:
        """A new client begins."""
        client = workload(self, f"{workload.__name__.lower()}{len(self.clients)}")
        self.clients.append(client)
        self.at(self.now_ms + 1, client.wake)
        return client

    def dial(self, client: Client, link: int, node: int, route: bytes) -> Channel:
        """A client connects: in a moment the channel stands, or is refused."""
        seat = self.seats.get(node)
        channel = Channel(client, link, node, seat.life if seat is not None else 0, route)
        at_ms = self.now_ms + 1 + self.random.randrange(REFUSED_MS)
        if self.network.is_away(client.name, node):
            channel.is_hole = True
        elif seat is None or seat.machine is None:
            channel.stands = False
            self.at(at_ms, client.broken, channel)
        else:
            seat.channels[route] = channel
            channel.there_ms = at_ms
            self.at(at_ms, client.connected, channel)
        return channel

    def say(self, channel: Channel, frames: list[bytes]) -> None:
        """A client says something."""
        if channel.is_hole or self._falls_into_hole(channel):
            return
        channel.there_ms = max(channel.there_ms, self.network.client_arrival(self.now_ms))
        self.at(channel.there_ms, self._hear, channel, frames)

    def _falls_into_hole(self, channel: Channel) -> bool:
        channel.is_hole = channel.is_hole or self.network.is_away(channel.client.name, channel.node)
        return channel.is_hole

    def _hear(self, channel: Channel, frames: list[bytes]) -> None:
        seat = self.seats[channel.node]
        if seat.machine is not None and seat.life == channel.life and not channel.is_hole:
            seat.machine.clients.append((channel.route, frames))
            self.turns.call(seat)

    def reply(self, channel: Channel, frames: list[bytes]) -> None:
        if self._falls_into_hole(channel):
            return
        channel.back_ms = max(channel.back_ms, self.network.client_arrival(self.now_ms))
        self.at(channel.back_ms, channel.client.hear, channel, frames)

    def hang_up(self, channel: Channel) -> None:
        """The connection breaks: what is on its way is gone."""
        if channel.stands and not channel.is_hole:
            self.note(channel.client.name, "loses", f"its connection to node {channel.node}")
            self.seats[channel.node].channels.pop(channel.route, None)
            channel.client.broken(channel)
