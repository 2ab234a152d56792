"""One turn of a node in the world, which may end it at each step, in the order of `Daemon._carry_out`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.broker.node import Turn
from penstock.broker.rows import CorruptRow
from penstock.peers import wire
from penstock.peers.log import CorruptEntry
from penstock.peers.raft.words import Vote

from .checks import Broken
from .machine import Machine
from .seat import Seat

if TYPE_CHECKING:
    from .world import World

TURNS_MAX = 150_000  # of one run: more is a storm of words


class Turns:
    """The turns of all nodes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.count = 0

    def call(self, seat: Seat) -> None:
        """Let it have a turn at this moment."""
        if not seat.called:
            seat.called = True
            self.world.at(self.world.now_ms, self._turn, seat)

    def _ring(self, seat: Seat, alarm: int) -> None:
        if alarm == seat.alarm:
            seat.alarm_ms = -1
            self.call(seat)

    def _turn(self, seat: Seat) -> None:
        seat.called = False
        machine = seat.machine
        if machine is None or seat.writing or self.world.now_ms < seat.paused_until_ms:
            return  # what came waits for the end of it
        self.count += 1
        if self.count > TURNS_MAX:
            raise Broken("storm", f"{TURNS_MAX} turns in {self.world.now_ms} ms")
        seat.now_ms = self.world.now_ms + seat.offset_ms
        if seat.presides:
            self.world.checks.heard(seat, machine.wires.heard)
        try:
            turn = machine.turn(seat.now_ms)
        except (CorruptEntry, CorruptRow) as fault:
            self.world.stop(seat, fault)
            return
        self.world.checks.turn(seat, turn)
        if self._crashes(seat, "before anything of the turn left"):
            return
        early = machine.publish(turn)
        if early:
            self.world.checks.shown(seat, turn)
        for word in early:
            self.world.broadcast(seat, word)
        if self._crashes(seat, "with its broadcast out, and nothing written"):
            return
        if self._crashes(seat, "while it wrote"):
            if (
                turn.writes.entries
                and self.world.random.random() < self.world.tear_chance
                and self.world.may_lose(seat)
            ):
                self.world.note(seat.node, "disk", "is torn")
                seat.disk.tear(turn.writes, self.world.random)
            return
        if seat.slow_ms:
            seat.writing = True
            self.world.at(
                self.world.now_ms + 1 + self.world.random.randrange(seat.slow_ms), self._written, seat, seat.life, turn
            )
        else:
            self._written(seat, seat.life, turn)

    def _tear(self, seat: Seat, turn: Turn) -> None:
        world = self.world
        if turn.writes.entries and world.random.random() < world.tear_chance and world.may_lose(seat):
            world.note(seat.node, "disk", "is torn")
            seat.disk.tear(turn.writes, world.random)

    def _written(self, seat: Seat, life: int, turn: Turn) -> None:
        machine = seat.machine
        if machine is None or life != seat.life:
            return
        seat.writing = False
        seat.disk.commit(turn.writes)
        presided = seat.was_primary
        self.world.checks.shown(seat, turn)
        self.world.checks.written(seat, turn)
        if turn.writes.truncate_from is not None:
            self.world.note(seat.node, "truncates", f"from {turn.writes.truncate_from}")
        if self._crashes(seat, "with the turn written, and no word of it out"):
            return
        if not self._answer(seat, machine, turn):
            return
        if seat.presides != presided:
            seat.was_primary = seat.presides
            self.world.note(seat.node, "is primary", f"of term {seat.presides}")
            self.world.elected(seat)
            if seat.machine is None:
                return
        self._end_turn(seat, machine, turn)

    def _answer(self, seat: Seat, machine: Machine, turn: Turn) -> bool:
        """What clients are told leaves. False: it crashed on the way."""
        for route, frames in machine.written(turn):
            reply = wire.parse_reply(frames)
            self.world.checks.told(seat, reply.body)
            if not self.world.operators.hear(route, reply):
                channel = seat.channels.get(route)
                if channel is None or not channel.stands:
                    machine.unsent.append(route)
                else:
                    self.world.reply(channel, frames)
            if self._crashes(seat, "with some answers out"):
                return False
        return True

    def _end_turn(self, seat: Seat, machine: Machine, turn: Turn) -> None:
        before = machine.raft.tail.commit
        state = machine.node.desk.state
        try:
            words = machine.settle(turn, self.world.now_ms + seat.offset_ms)
        except (CorruptEntry, CorruptRow) as fault:
            self.world.stop(seat, fault)
            return
        if machine.node.desk.state is not state and not turn.deposed:
            self.world.note(seat.node, "installs", f"a snapshot of {machine.node.desk.state.applied}")
            self.world.checks.installed(seat, before)
        if turn.deposed:
            self.world.operators.glance(seat)
        self.world.checks.model(seat, always=turn.deposed or turn.writes.checkpoint is not None)
        for to, word in words:
            if type(word) is Vote and word.granted and not word.pre:
                self.world.checks.voted(seat, word, to)
            self.world.checks.said(seat, word, to)
            if to in self.world.seats:
                self.world.send(seat, self.world.seats[to], word, broadcast=False)
            if type(word) is Vote and word.granted and not word.pre:
                self.world.voted(seat)
            if seat.machine is None or self._crashes(seat, "with some words out"):
                return
        if machine.has_more:
            self.call(seat)
        self._set_alarm(seat, machine.wait_ms(self.world.now_ms + seat.offset_ms))

    def _crashes(self, seat: Seat, why: str) -> bool:
        if self.world.crash_chance and self.world.random.random() < self.world.crash_chance:
            self.world.crash(seat, why)
            return True
        return False

    def _set_alarm(self, seat: Seat, wait_ms: int) -> None:
        at_ms = self.world.now_ms + max(wait_ms, 1)
        if at_ms != seat.alarm_ms:
            seat.alarm += 1
            seat.alarm_ms = at_ms
            self.world.at(at_ms, self._ring, seat, seat.alarm)
