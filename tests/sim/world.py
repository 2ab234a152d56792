"""A world in which everything comes from one seed: time, network, disks, crashes, clients and operators."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

from penstock.peers.raft import core as real_core
from penstock.peers.raft import tail as real_tail
from penstock.peers.raft.core import FOREVER_MS
from penstock.peers.raft.words import Members, Vote, Word

from .checks import Broken, Checks, show
from .disk import Disk
from .machine import Lost, Machine, Put, Read, Turn
from .network import Network

HISTORY = 60
NOTICE_MS = 5  # after a crash, until the others see the connection broken
TURNS_MAX = 100_000  # of one run: more is a storm of words


class Seat:
    """The place of a node: its disk, and its life, if it has one just now."""

    def __init__(self, node: int, members: Members) -> None:
        self.node = node
        self.disk = Disk(members)
        self.machine: Machine | None = None
        self.life = 0
        self.inbox: list[Any] = []
        self.offset_ms = 0  # its clock against the world's
        self.paused_until_ms = 0
        self.writing = False
        self.called = False  # a turn is on the calendar for this moment
        self.alarm = 0  # counts alarms: an older one that rings is void
        self.alarm_ms = -1
        self.slow_ms = 0  # a write takes up to so long
        self.term = self.commit = self.applied = 0  # of this life, for the checks
        self.presides = self.was_primary = self.presides_ms = 0  # term and moment of its election
        self.fetches: dict[tuple[int, int], tuple[int, int]] = {}  # when it began to ask for this, how often
        self.promised = (0, 0)  # the latest term in which it answered an append, and how far
        self.members: Any = None  # its own view, and since when
        self.members_ms = 0
        self.round_said = 0
        self.now_ms = 0  # its own, of its latest turn
        self.heard: dict[int, int] = {}  # when it last heard of others
        self.matches: dict[int, int] = {}


class World:
    """`run` a plan of faults; `Broken` (or what the machine itself raises) is the finding."""

    def __init__(self, seed: int, size: int, core: ModuleType = real_core, tails: ModuleType = real_tail) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.core, self.tails = core, tails
        self.now_ms = 0
        self.network = Network(self.random)
        self.history: deque[tuple[int, int, str, Any]] = deque(maxlen=HISTORY)
        self.seats: dict[int, Seat] = {}
        self.checks = Checks(self.seats)
        self.crash_chance = 0.0  # at each boundary of a turn
        self.restart_ms = 1000
        self.cache_bytes = 1 << 20
        self.is_deaf_when_removed = False
        self.notices_crashes = True
        self.elected: Callable[[Seat], None] = lambda seat: None
        self.voted: Callable[[Seat], None] = lambda seat: None
        self.turns = 0
        self._calendar: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._puts = self._reads = 0
        first = Members(tuple(range(1, size + 1)))
        for node in first.voters:
            self.join(node, first)

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

    def note(self, node: int, what: str, about: Any = None) -> None:
        self.history.append((self.now_ms, node, what, about))

    def story(self) -> str:
        """The last events, one a line."""
        lines = []
        for at_ms, node, what, about in self.history:
            if type(about) is tuple and len(about) == 2 and isinstance(about[1], tuple):
                about = f"{about[0]}: {show(about[1])}"
            elif about is not None and not isinstance(about, str):
                about = show(about)
            lines.append(f"{at_ms / 1000:9.3f}  {node or '-'}  {what} {about or ''}")
        return "\n".join(lines)

    # -- nodes --------------------------------------------------------------------------------------------------------

    def join(self, node: int, members: Members) -> Seat:
        seat = self.seats[node] = Seat(node, members)
        self.start(seat)
        return seat

    def start(self, seat: Seat) -> None:
        if seat.machine is not None:
            return
        seat.life += 1
        seat.term, seat.commit, seat.presides, seat.was_primary = seat.disk.hard.term, seat.disk.floor, 0, 0
        seat.applied = seat.disk.floor
        now_ms = self.now_ms + seat.offset_ms
        seat.machine = Machine(seat.node, seat.disk, self.core, self.tails, self.random, now_ms, self.cache_bytes)
        self.checks.started(seat)
        self.note(seat.node, "starts", f"life {seat.life}: {seat.disk.hard}, log {seat.disk.floor}..{seat.disk.last}")
        self.call(seat)

    def crash(self, seat: Seat, why: str, restart_ms: int = 0) -> None:
        if seat.machine is None:
            return
        self.note(seat.node, "crashes", why)
        seat.machine = None
        seat.inbox, seat.writing, seat.alarm, seat.alarm_ms = [], False, seat.alarm + 1, -1
        seat.paused_until_ms = 0
        if self.notices_crashes:
            for other in self.seats.values():
                if other is not seat and other.machine is not None and (seat.node, other.node) not in self.network.cut:
                    self.at(
                        self.now_ms + 1 + self.random.randrange(NOTICE_MS),
                        self._hear,
                        other,
                        other.life,
                        Lost(seat.node),
                    )
        self.at(self.now_ms + 10 + self.random.randrange(restart_ms or self.restart_ms), self.start, seat)

    def pause(self, seat: Seat, for_ms: int) -> None:
        """As SIGSTOP: it does nothing for a while and then hears everything at once."""
        self.note(seat.node, "stands still", f"for {for_ms} ms")
        seat.paused_until_ms = self.now_ms + for_ms
        self.at(seat.paused_until_ms, self.call, seat)

    def jump(self, seat: Seat, by_ms: int) -> None:
        self.note(seat.node, "clock jumps", f"by {by_ms} ms")
        seat.offset_ms += by_ms
        self.call(seat)

    def hand(self, seat: Seat, item: Any) -> None:
        """A client or the operator says something to a node."""
        self.note(seat.node, "is asked", repr(item))
        self._hear(seat, seat.life, item)

    def primaries(self) -> list[Seat]:
        """Who takes itself for the primary."""
        return [seat for seat in self.seats.values() if seat.machine is not None and seat.machine.raft.is_primary]

    # -- a turn -------------------------------------------------------------------------------------------------------

    def call(self, seat: Seat) -> None:
        """Let it have a turn at this moment."""
        if not seat.called:
            seat.called = True
            self.at(self.now_ms, self._turn, seat)

    def _hear(self, seat: Seat, life: int, item: Any) -> None:
        if seat.machine is not None and (life == seat.life or type(item) is not Lost):
            seat.inbox.append(item)
            self.call(seat)

    def _ring(self, seat: Seat, alarm: int) -> None:
        if alarm == seat.alarm:
            seat.alarm_ms = -1
            self.call(seat)

    def _turn(self, seat: Seat) -> None:
        seat.called = False
        machine = seat.machine
        if machine is None or seat.writing or self.now_ms < seat.paused_until_ms:
            return  # what is in the inbox waits for the end of it
        self.turns += 1
        heard, seat.inbox = seat.inbox, []
        seat.now_ms = self.now_ms + seat.offset_ms
        if seat.presides:
            self.checks.heard(seat, heard)
        turn = machine.turn(heard, seat.now_ms)
        self.checks.turn(seat, turn)
        if self._crashes(seat, "before anything of the turn left"):
            return
        if turn.early:
            self.checks.shown(seat, turn)
        for word in turn.early:
            self._broadcast(seat, word)
        if self._crashes(seat, "with its broadcast out, and nothing written"):
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
        if seat.presides != presided:
            seat.was_primary = seat.presides
            self.note(seat.node, "is primary", f"of term {seat.presides}")
            self.elected(seat)
        if turn.writes.truncate_from is not None:
            self.note(seat.node, "truncates", f"from {turn.writes.truncate_from}")
        if turn.applied:
            self.note(seat.node, "applies", f"up to {turn.applied[-1].index}")
        if self._crashes(seat, "with the turn written, and no word of it out"):
            return
        for to, word in turn.words:
            if type(word) is Vote and word.granted and not word.pre:
                self.checks.voted(seat, word, to)
            self.checks.said(seat, word, to)
            if to in self.seats:
                self._send(seat, self.seats[to], word, broadcast=False)
            if type(word) is Vote and word.granted and not word.pre:
                self.voted(seat)
        if seat.machine is None:
            return
        self.checks.told(seat, turn)
        if machine.written() or seat.inbox:
            self.call(seat)
        self._set_alarm(seat, machine.next_ms())

    def _crashes(self, seat: Seat, why: str) -> bool:
        if self.crash_chance and self.random.random() < self.crash_chance:
            self.crash(seat, why)
            return True
        return False

    def _set_alarm(self, seat: Seat, due_ms: int) -> None:
        if due_ms >= FOREVER_MS:
            return
        at_ms = max(due_ms - seat.offset_ms, self.now_ms + 1)
        if at_ms != seat.alarm_ms:
            seat.alarm += 1
            seat.alarm_ms = at_ms
            self.at(at_ms, self._ring, seat, seat.alarm)

    # -- words --------------------------------------------------------------------------------------------------------

    def _broadcast(self, seat: Seat, word: Word) -> None:
        self.checks.said(seat, word)
        members = seat.machine.raft.members.everyone if seat.machine else ()
        for other in self.seats.values():
            if other is not seat and not (self.is_deaf_when_removed and other.node not in members):
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
        seat.inbox.append(word)
        self.call(seat)

    # -- clients ------------------------------------------------------------------------------------------------------

    def put(self, seat: Seat) -> None:
        self._puts += 1
        self.hand(seat, Put(b"put %d" % self._puts))

    def read(self, seat: Seat) -> None:
        self._reads += 1
        self.hand(seat, Read(self._reads))
