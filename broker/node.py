"""One node, one turn at a time: what was heard goes in, what must be durable and what is then said comes out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from ..peers import messages as m
from ..peers import wire
from ..peers.errors import PenstockError, ProtocolError, shown
from ..peers.log import HardState, Log
from . import checkpoint, reads
from . import requests as ask
from .desk import Desk, Disk, Frames, Limits
from .greeting import Greeter
from .model import Model
from .sessions import Answer, Session
from .upkeep import Upkeep
from .waiting import Waiting

OPS = sorted([*ask.COUNTED, *reads.READS, *reads.WAITING_READS, "hello", "pull", "ping", "bye", "status"])
Make = Callable[[ask.Args, bytes | None, ask.Bounds], ask.Proposal]


class Turn(NamedTuple):
    """First all of `writes` becomes durable, then `messages` leave: (route, frames)."""

    writes: checkpoint.Writes
    messages: list[tuple[bytes, Frames]]


class Node:
    """A cluster of one: the primary of its own log. `about` is what hello and status tell of it."""

    def __init__(
        self, model: Model, log: Log, disk: Disk, random: Random, limits: Limits, about: dict[str, Any], now_ms: int
    ) -> None:
        self.about = about
        self.desk = Desk(model, log, disk, limits, now_ms)
        self.upkeep = Upkeep(model.state, now_ms)
        self.greeter = Greeter(self.desk, self.upkeep, random, about)
        self.bounds = _bounds(limits)
        self.waiting = Waiting(self.desk, self.bounds)
        self.counters = self.desk.counters

    def change_limits(self, limits: Limits) -> None:
        """From the next turn on."""
        self.desk.limits = limits
        self.desk.recent.size_max = limits.cache_bytes
        self.bounds = self.waiting.bounds = _bounds(limits)

    # -- a turn -------------------------------------------------------------------------------------------------------

    def begin_term(self, node: int, now_ms: int) -> Turn:
        """The first turn: win the election among one, and begin the term with an empty entry."""
        self.desk.begin(now_ms)
        hard = self.desk.log.campaign(node)
        self.desk.propose(0, 0, m.Noop())
        return self._end_turn(hard)

    def turn(self, now_ms: int, heard: Sequence[tuple[bytes, Frames]], lost: Sequence[bytes] = ()) -> Turn:
        """Carry out everything heard. Nothing it says may leave before its writes are durable.

        `lost`: routes on which something of the last turn could not be said.
        """
        desk = self.desk
        desk.begin(now_ms)
        if lost:
            self.waiting.take_back(lost)
        self.waiting.begin()
        self.counters.turns += 1
        self.counters.heard += len(heard)
        for route, frames in heard:
            self._hear(route, frames)
        for command in self.upkeep.due(desk.now_ms, desk.limits.session_timeout_ms):
            desk.propose(0, 0, command)
            if isinstance(command, m.EndSession):
                self._end_session(command.session)
        self.waiting.wake()
        self.waiting.time_out()
        return self._end_turn()

    def wait_ms(self, now_ms: int) -> int:
        """How long the node may sleep if nothing is heard."""
        due_ms = self.upkeep.next_due_ms()
        deadline_ms = self.waiting.next_deadline_ms()
        return max(0, (due_ms if deadline_ms is None else min(due_ms, deadline_ms)) - now_ms)

    def close(self, now_ms: int) -> Turn:
        """The last turn: parked requests are answered, and the model goes to disk, so that the next start is quick."""
        self.desk.begin(now_ms)
        self.waiting.close()
        return self._end_turn(last=True)

    def _end_turn(self, hard: HardState | None = None, last: bool = False) -> Turn:
        desk, limits = self.desk, self.desk.limits
        self.upkeep.note(desk.entries)
        taken = None
        room_bytes = 0 if desk.full else desk.room_bytes
        most = limits.checkpoint_entries, limits.checkpoint_bytes
        if self.upkeep.checkpoint_due(desk.now_ms, *most, room_bytes, last):
            # The very last thing of a turn: from here on the model reads from disk what this writes.
            taken = checkpoint.take(desk.model)
        return Turn(checkpoint.Writes(desk.entries, hard, taken), desk.messages)

    # -- what clients say ---------------------------------------------------------------------------------------------

    def _hear(self, route: bytes, frames: Frames) -> None:
        sequence = 0
        try:
            request = wire.parse_request(frames)
            sequence = request.sequence
            if request.op == "hello":
                self.greeter.hello(route, request)
            else:
                self._request(route, self.greeter.session_of(route, request.op), request)
        except PenstockError as fault:
            if isinstance(fault, ProtocolError):
                self.counters.bad_frames += 1
            self.desk.refuse(route, sequence, fault)

    def _request(self, route: bytes, session: Session, request: wire.Request) -> None:
        op, sequence = request.op, request.sequence
        make = ask.COUNTED.get(op)
        if make is not None:
            if sequence <= 0:
                raise ProtocolError(
                    f"{op} changes state, and its sequence is {sequence}", "count it: positive sequences"
                )
            known = session.recall(sequence)
            self.desk.answer(route, sequence, known or self._counted(session, request, make))
        elif op == "bye":
            if self.greeter.bye(route, session, sequence):
                self._end_session(session.id)
        else:
            self._uncounted(route, session, request)

    def _counted(self, session: Session, request: wire.Request, make: Make) -> Answer:
        """Propose what is asked for. A refusal is proposed too: it uses up the sequence, so that no gap follows."""
        try:
            command, payload = make(request.args, request.payload, self.bounds)
            if type(command) is m.Append:  # only this: results and acks let go of what fills the disk
                self.desk.take_room(len(payload))
        except PenstockError as fault:
            command, payload = m.Refuse(fault.code, fault.message, fault.hint), b""
        answer = self.desk.propose(session.id, request.sequence, command, payload)
        if answer.status != "ok":
            self.counters.refused += 1
        elif type(command) is m.Append:
            self.counters.appended += command.count
        elif type(command) is m.Ack or type(command) is m.Complete:
            self.counters.acked += sum([count for _, count in command.ranges])
        return answer

    def _uncounted(self, route: bytes, session: Session, request: wire.Request) -> None:
        desk, op, sequence, args = self.desk, request.op, request.sequence, request.args
        if sequence > 0:  # a simple client numbers everything: then this counts, too
            gap = session.recall(sequence) if sequence > session.last + 1 else None
            if gap is not None:
                desk.answer(route, sequence, gap)
                return
            if sequence == session.last + 1:
                desk.propose(session.id, sequence, m.Count())
        if op == "pull":
            self.waiting.pull(route, session, sequence, args)
        elif op in reads.READS:
            found = reads.READS[op](desk.state, args, desk.now_ms, desk.payload)
            desk.reply(route, sequence, found.body, found.payload)
        elif op in reads.WAITING_READS:
            self.waiting.read(route, session, sequence, op, args)
        elif op == "ping":
            desk.reply(route, sequence, {"now_ms": desk.now_ms})
        elif op == "status":
            desk.reply(route, sequence, self._status())
        else:
            raise ProtocolError(f"unknown op {shown(op)}", f"ops are {', '.join(OPS)}")

    def _end_session(self, session_id: int) -> None:
        self.greeter.forget(session_id)
        self.waiting.end_session(session_id)

    def _status(self) -> dict[str, Any]:
        desk, state = self.desk, self.desk.state
        kinds = [queue.kind for queue in state.queues.values()]
        return {
            **self.about, "storage": desk.disk.usage(), "role": "primary", "term": desk.log.hard.term,
            "applied": state.applied, "now_ms": desk.now_ms, "uptime_ms": desk.now_ms - self.about["started_ms"],
            "sessions": len(state.sessions), "queues": kinds.count("queue"), "topics": kinds.count("topic"),
            "parked": len(self.waiting), "counters": dict(vars(self.counters)),
        }  # fmt: skip


def _bounds(limits: Limits) -> ask.Bounds:
    return ask.Bounds(limits.max_message, limits.max_batch, limits.lease_max_ms)
