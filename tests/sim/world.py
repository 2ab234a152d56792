"""A world in which everything comes from one seed: time, network, disks, crashes, clients and operators."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from faults.history import Event

from penstock.broker import damage
from penstock.broker.desk import Limits
from penstock.broker.node import Turn
from penstock.broker.rows import CorruptRow
from penstock.peers import wire
from penstock.peers.log import CorruptEntry
from penstock.peers.raft.core import Timing
from penstock.peers.raft.words import Vote, Word

from .checks import Broken, Checks, show
from .clients import Channel, Client
from .disk import Disk
from .machine import Config, Machine, address_of
from .network import Network

HISTORY = 80
NOTICE_MS = 5  # after a crash, until the others see the connection broken
REFUSED_MS = 3  # until a client knows that nobody listens there
TURNS_MAX = 150_000  # of one run: more is a storm of words
OPERATOR = b"operator"
REMOVING_MS = 6000  # until it is known what came of the removal of a node


class Seat:
    """The place of a node: its configuration, its disk, and its life, if it has one just now."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.node = config.node
        self.disk = Disk()
        self.machine: Machine | None = None
        self.is_dead = False  # its disk is not what it was: it never comes back
        self.life = 0
        self.offset_ms = 0  # its clock against the world's
        self.paused_until_ms = 0
        self.writing = False
        self.called = False  # a turn is on the calendar for this moment
        self.alarm = 0  # counts alarms: an older one that rings is void
        self.alarm_ms = -1
        self.slow_ms = 0  # a write takes up to so long
        self.channels: dict[bytes, Channel] = {}
        self.probed, self.probes = (0, 0), 0  # life and term in which it was probed, how often
        self.term = self.commit = self.applied = 0  # of this life, for the checks
        self.presides = self.was_primary = self.presides_ms = 0  # term and moment of its election
        self.office = self.office_ms = 0
        self.left: dict[Any, int] = {}  # by lease and its end: the time it had left when the office was taken
        self.digested = -1  # of how much applied the model was looked at last
        self.fetches: dict[tuple[int, int], tuple[int, int]] = {}  # when it began to ask for this, how often
        self.promised = (0, 0)  # the latest term in which it answered an append, and how far
        self.members: Any = None  # its own view, and since when
        self.members_ms = 0
        self.now_ms = 0  # its own, of its latest turn
        self.heard: dict[int, int] = {}  # when it last heard of others
        self.matches: dict[int, int] = {}

    @property
    def primary(self) -> Machine | None:
        return self.machine if self.machine is not None and self.machine.raft.is_primary else None


class World:
    """`run` a plan of faults; `Broken` (or what the machine itself raises) is the finding."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now_ms = 0
        self.network = Network(self.random)
        self.history: deque[tuple[int, str, str, Any]] = deque(maxlen=HISTORY)
        self.record: list[Event] = []  # what clients did and saw
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
        self.turns = 0
        self.clients: list[Client] = []
        self._calendar: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._asked = 0
        self._then: dict[tuple[bytes, int], Callable[[wire.Reply], None]] = {}  # what to do with an answer
        self._removed_ms = -REMOVING_MS
        self._size = size

    def populate(self, workloads: tuple[type[Client], ...]) -> None:
        """The first nodes start, and the clients."""
        peers = {node: address_of(node) for node in range(1, self._size + 1)}
        for node in peers:
            self.join(Config(node, peers, joins=False, limits=self.limits))
        for workload in workloads:
            self.enter(workload)

    # -- time ---------------------------------------------------------------------------------------------------------

    def at(self, at_ms: int, what: Callable[..., None], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._calendar, (at_ms, self._count, what, arguments))

    def run_until(self, end_ms: int) -> None:
        calendar = self._calendar
        while calendar and calendar[0][0] <= end_ms:
            self.now_ms, _, what, arguments = heapq.heappop(calendar)
            what(*arguments)
            if self.turns > TURNS_MAX:
                raise Broken("storm", f"{TURNS_MAX} turns in {self.now_ms} ms")
        self.now_ms = end_ms

    def note(self, who: int | str, what: str, about: Any = None) -> None:
        self.history.append((self.now_ms, str(who or "-"), what, about))

    def story(self) -> str:
        """The last events, one a line."""
        lines = []
        for at_ms, who, what, about in self.history:
            if type(about) is tuple and len(about) == 2 and isinstance(about[1], tuple):
                about = f"{about[0]}: {show(about[1])}"
            elif about is not None and not isinstance(about, str):
                about = show(about)
            lines.append(f"{at_ms / 1000:9.3f}  {who}  {what} {about or ''}")
        return "\n".join(lines)

    # -- nodes --------------------------------------------------------------------------------------------------------

    def join(self, config: Config) -> Seat:
        seat = self.seats[config.node] = Seat(config)
        self.start(seat)
        return seat

    def newcomer(self) -> Seat:
        """A node with an id of its own, that is told who is there and does not vote yet."""
        node = max(self.seats) + 1
        known = [*self.primaries(), *(seat for seat in self.seats.values() if seat.machine is not None)]
        machine = known[0].machine if known else None
        nodes = machine.raft.members.everyone if machine is not None else tuple(self.seats)
        peers = {each: address_of(each) for each in (*nodes, node)}
        return self.join(Config(node, peers, joins=True, limits=self.limits))

    def start(self, seat: Seat) -> None:
        if seat.machine is not None or seat.is_dead:
            return
        seat.life += 1
        disk = seat.disk
        seat.term, seat.presides, seat.was_primary, seat.office, seat.digested = disk.hard.term, 0, 0, 0, -1
        seat.fetches = {}
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
        self.call(seat)

    def _stop(self, seat: Seat, fault: Exception) -> None:
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
            self.call(seat)

    def pause(self, seat: Seat, for_ms: int) -> None:
        """As SIGSTOP: it does nothing for a while and then hears everything at once."""
        self.note(seat.node, "stands still", f"for {for_ms} ms")
        seat.paused_until_ms = self.now_ms + for_ms
        self.at(seat.paused_until_ms, self.call, seat)

    def jump(self, seat: Seat, by_ms: int) -> None:
        self.note(seat.node, "clock jumps", f"by {by_ms} ms")
        seat.offset_ms += by_ms
        self.call(seat)

    def change_limits(self, seat: Seat, **limits: int) -> None:
        """As SIGHUP with another daemon.toml."""
        if seat.machine is not None:
            seat.machine.node.change_limits(replace(self.limits, **limits))

    def operate(self, seat: Seat, op: str, args: dict[str, Any], payload: bytes | None = None) -> None:
        """An operator, or whoever cannot wait, asks this very node, and does not care for the answer."""
        if seat.machine is None:
            return
        self.note(seat.node, "is asked", f"{op} {args}")
        self._asked += 1
        route = OPERATOR + b"%d" % self._asked
        hello = wire.request("hello", 0, {"version": 1, "client": "operator"})
        sequence = 0 if op == "cluster_transfer" else 1
        seat.machine.clients += [(route, hello), (route, wire.request(op, sequence, args, payload))]
        self.call(seat)

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
        due = self.checks.told_next.get(queue, 0)

        def published(reply: wire.Reply) -> None:
            if reply.status == "ok":
                self.record.append(Event(actor, self.now_ms, "accepted", queue, [id], reply.body["offset"]))
                self.checks.accepted(queue, reply.body["offset"] + 1, reply.body["index"])

        def read(reply: wire.Reply) -> None:
            if reply.status == "ok":
                self.checks.read(queue, due, reply.body)

        if publishes:
            seat.probes += 1
            self._then[route, seat.probes] = published
            self.record.append(Event(actor, self.now_ms, "sent", queue, [id]))
            payload = wire.pack_payload([id.encode()])
            request = wire.request("append", seat.probes, {"queue": queue, "count": 1}, payload)
        else:  # not together: what was published in the same turn would hold the answer back
            self._asked += 1
            self._then[route, -self._asked] = read
            request = wire.request("describe", -self._asked, {"name": queue})
        seat.primary.clients.append((route, request))
        self.call(seat)

    def remove(self, seat: Seat, node: int) -> None:
        """The operator removes a node."""
        self._removed_ms = self.now_ms
        self.operate(seat, "cluster_remove", {"node": node})

    def primaries(self) -> list[Seat]:
        """Who takes itself for the primary."""
        return [seat for seat in self.seats.values() if seat.primary is not None]

    # -- a turn -------------------------------------------------------------------------------------------------------

    def call(self, seat: Seat) -> None:
        """Let it have a turn at this moment."""
        if not seat.called:
            seat.called = True
            self.at(self.now_ms, self._turn, seat)

    def _ring(self, seat: Seat, alarm: int) -> None:
        if alarm == seat.alarm:
            seat.alarm_ms = -1
            self.call(seat)

    def _turn(self, seat: Seat) -> None:
        seat.called = False
        machine = seat.machine
        if machine is None or seat.writing or self.now_ms < seat.paused_until_ms:
            return  # what came waits for the end of it
        self.turns += 1
        seat.now_ms = self.now_ms + seat.offset_ms
        if seat.presides:
            self.checks.heard(seat, machine.wires.heard)
        try:
            turn = machine.turn(seat.now_ms)
        except (CorruptEntry, CorruptRow) as fault:
            self._stop(seat, fault)
            return
        self.checks.turn(seat, turn)
        if self._crashes(seat, "before anything of the turn left"):
            return
        early = machine.publish(turn)
        if early:
            self.checks.shown(seat, turn)
        for word in early:
            self._broadcast(seat, word)
        if self._crashes(seat, "with its broadcast out, and nothing written"):
            return
        if self._crashes(seat, "while it wrote"):
            if turn.writes.entries and self.random.random() < self.tear_chance and self.may_lose(seat):
                self.note(seat.node, "disk", "is torn")
                seat.disk.tear(turn.writes, self.random)
            return
        if seat.slow_ms:
            seat.writing = True
            self.at(self.now_ms + 1 + self.random.randrange(seat.slow_ms), self._written, seat, seat.life, turn)
        else:
            self._written(seat, seat.life, turn)

    def _written(self, seat: Seat, life: int, turn: Turn) -> None:
        machine = seat.machine
        if machine is None or life != seat.life:
            return
        seat.writing = False
        seat.disk.commit(turn.writes)
        presided = seat.was_primary
        self.checks.shown(seat, turn)
        self.checks.written(seat, turn)
        if turn.writes.truncate_from is not None:
            self.note(seat.node, "truncates", f"from {turn.writes.truncate_from}")
        if self._crashes(seat, "with the turn written, and no word of it out"):
            return
        if not self._answer(seat, machine, turn):
            return
        if seat.presides != presided:
            seat.was_primary = seat.presides
            self.note(seat.node, "is primary", f"of term {seat.presides}")
            self.elected(seat)
            if seat.machine is None:
                return
        self._end_turn(seat, machine, turn)

    def _answer(self, seat: Seat, machine: Machine, turn: Turn) -> bool:
        """What clients are told leaves. False: it crashed on the way."""
        for route, frames in machine.written(turn):
            reply = wire.parse_reply(frames)
            self.checks.told(seat, reply.body)
            then = self._then.pop((route, reply.sequence), None)
            channel = seat.channels.get(route)
            if then is not None:
                then(reply)
            elif channel is None or not channel.stands:
                machine.unsent.append(route)
            else:
                self._reply(channel, frames)
            if self._crashes(seat, "with some answers out"):
                return False
        return True

    def _end_turn(self, seat: Seat, machine: Machine, turn: Turn) -> None:
        before = machine.raft.tail.commit
        state = machine.node.desk.state
        try:
            words = machine.settle(turn, self.now_ms + seat.offset_ms)
        except (CorruptEntry, CorruptRow) as fault:
            self._stop(seat, fault)
            return
        if machine.node.desk.state is not state and not turn.deposed:
            self.note(seat.node, "installs", f"a snapshot of {machine.node.desk.state.applied}")
            self.checks.installed(seat, before)
        self.checks.model(seat, always=turn.deposed or turn.writes.checkpoint is not None)
        for to, word in words:
            if type(word) is Vote and word.granted and not word.pre:
                self.checks.voted(seat, word, to)
            self.checks.said(seat, word, to)
            if to in self.seats:
                self._send(seat, self.seats[to], word, broadcast=False)
            if type(word) is Vote and word.granted and not word.pre:
                self.voted(seat)
            if seat.machine is None or self._crashes(seat, "with some words out"):
                return
        if machine.has_more:
            self.call(seat)
        self._set_alarm(seat, machine.wait_ms(self.now_ms + seat.offset_ms))

    def _crashes(self, seat: Seat, why: str) -> bool:
        if self.crash_chance and self.random.random() < self.crash_chance:
            self.crash(seat, why)
            return True
        return False

    def _set_alarm(self, seat: Seat, wait_ms: int) -> None:
        at_ms = self.now_ms + max(wait_ms, 1)
        if at_ms != seat.alarm_ms:
            seat.alarm += 1
            seat.alarm_ms = at_ms
            self.at(at_ms, self._ring, seat, seat.alarm)

    # -- what is lost for ever -----------------------------------------------------------------------------------------

    def may_lose(self, seat: Seat) -> bool:
        """Whether the disk of this node may go bad: never those of half of the voters, by anybody's view."""
        if self.now_ms < self._removed_ms + REMOVING_MS:
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

    def _broadcast(self, seat: Seat, word: Word) -> None:
        self.checks.said(seat, word)
        for other in self.seats.values():
            # Who does not know it has not subscribed to it.
            if other is not seat and other.machine is not None and seat.node in other.machine.wires.known:
                self._send(seat, other, word, broadcast=True)

    def _send(self, seat: Seat, other: Seat, word: Any, broadcast: bool) -> None:
        arrivals = self.network.arrivals(seat.node, other.node, broadcast, self.now_ms)
        self.note(seat.node, "says" if arrivals else "says (lost)", (f"to {other.node}", word))
        for at_ms in arrivals:
            self.at(at_ms, self._arrive, seat.node, other, word)

    def _arrive(self, source: int, seat: Seat, word: Any) -> None:
        if seat.machine is None:
            return
        self.note(seat.node, "hears", (f"of {source}", word))
        seat.machine.wires.heard.append(word)
        self.call(seat)

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
            self.call(seat)

    def _reply(self, channel: Channel, frames: list[bytes]) -> None:
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
