"""One node, one turn at a time: what was heard goes in, what must be durable and what is then said comes out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from ..peers import messages as m
from ..peers import wire
from ..peers.errors import NoQuorum, NotPrimary, PenstockError, ProtocolError, shown
from ..peers.raft.core import APPLY_BYTES, Raft
from ..peers.raft.words import Word
from . import checkpoint, cluster, reads
from . import requests as ask
from .desk import Counters, Desk, Disk, Frames, Limits
from .greeting import Greeter
from .model import Model
from .outbox import Message, Outbox
from .pace import Pace
from .sessions import Answer, Session
from .upkeep import Upkeep
from .waiting import Waiting

OPS = sorted(
    [
        *ask.COUNTED, *reads.READS, *reads.WAITING_READS, "hello", "pull", "ping", "bye", "status", "cluster",
        "cluster_add", "cluster_remove", "cluster_transfer", "crash",
    ]
)  # fmt: skip
WAIT_MAX_MS = 60_000
READERS_MAX = 10_000
FLOOR_STEP = 50_000  # entries that a checkpoint deletes, at most
UNCOMMITTED_MAX = 4_000  # entries; then clients are not heard until the majority has caught up
Make = Callable[[ask.Args, bytes | None, ask.Bounds], ask.Proposal]


class Turn(NamedTuple):
    """In this order: `early` may leave at once, `writes` becomes durable, then `words` and `messages` leave."""

    early: list[Word]  # to all nodes, by broadcast
    writes: checkpoint.Writes
    words: list[tuple[int, Word]]  # to one node each
    messages: list[Message]  # to clients: (route, frames)
    snapshots: list[int]  # nodes that lack what is no longer in the log
    crash: bool  # a drill: end the process as kill -9 would
    deposed: bool  # the model ran ahead of the log: `reset` it from disk after the writes


class Node:
    """One of the cluster, or all of it. `about`: what hello and status tell; `addresses`: those in the configuration.

    The primary applies its proposals at once and keeps what it says of them in the outbox until a majority holds them.
    A replica applies what is committed, and sends clients to the primary.
    """

    def __init__(
        self,
        model: Model,
        raft: Raft,
        disk: Disk,
        random: Random,
        limits: Limits,
        about: dict[str, Any],
        now_ms: int,
        addresses: Mapping[int, tuple[str, str, str]] | None = None,
    ) -> None:
        self.about = about
        self.raft = raft
        self.random = random
        self.addresses = dict(addresses or {})
        self.counters = Counters()
        self.connected: set[int] = set()  # nodes to which the channel stands
        self._readers: dict[bytes, None] = {}  # connections without a session, that only read, and only here
        self._crash = False
        self._successor = 0  # to whom the office goes with the next turn
        self._skew_ms = 0  # how much the clock of the log is ahead of ours
        self._heard_primary_ms = now_ms
        self.pace = Pace(raft.tail.floor, raft.tail.last - model.state.applied, now_ms)
        self.floor_max = 1 << 62  # entries above this are kept, for a node that is sent a snapshot
        self.outbox = Outbox()
        self._office = 0  # the term in which the model is a primary's; 0: it is a replica's
        self._settling = False  # a checkpoint is due, and waits until everything that was proposed is committed
        self._furnish(model, disk, limits, now_ms)

    def _furnish(self, model: Model, disk: Disk, limits: Limits, now_ms: int) -> None:
        if not model.state.addresses:  # until the first change of members they are those of the configuration
            model.state.addresses = dict(self.addresses)
        self.bounds = _bounds(limits)
        self._makes: dict[str, Make] = {
            **ask.COUNTED,
            "cluster_add": lambda args, payload, bounds: cluster.add(self.raft, self.desk.state, args),
            "cluster_remove": lambda args, payload, bounds: cluster.remove(self.raft, self.desk.state, args),
        }
        self.desk = Desk(model, self.raft, disk, limits, self.counters, now_ms)
        self.upkeep = Upkeep(model.state, now_ms)
        self.greeter = Greeter(self.desk, self.upkeep, self.random, self.about)
        self.waiting = Waiting(self.desk, self.bounds)

    def reset(self, model: Model, now_ms: int) -> None:
        """Begin anew with a model of what is committed; the log goes on."""
        tail = self.raft.tail
        tail.applied = model.state.applied
        self.pace = Pace(tail.floor, tail.last - tail.applied, now_ms)
        self._furnish(model, self.desk.disk, self.desk.limits, now_ms)

    def change_limits(self, limits: Limits) -> None:
        """From the next turn on."""
        self.desk.limits = limits
        self.raft.tail.cache_bytes = limits.cache_bytes
        self.bounds = self.waiting.bounds = _bounds(limits)

    @property
    def is_crowded(self) -> bool:
        """Whether clients are better not heard for now: too much waits for the majority, or nothing may be proposed."""
        if self._settling or self._successor or self.raft.transferee:
            return True
        # Only a primary adds to it: one that was deposed with so much has to tell clients where to go.
        return bool(self._office) and self.raft.tail.last - self.raft.tail.commit > UNCOMMITTED_MAX

    # -- a turn -------------------------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> Turn:
        """The first turn. A cluster of one need not wait for an election."""
        if self.raft.is_alone:
            self.raft.stand(now_ms)
        return self.turn(now_ms, ())

    def turn(
        self,
        now_ms: int,
        heard: Sequence[Message],
        lost: Sequence[bytes] = (),
        words: Sequence[Word] = (),
        broken: Sequence[int] = (),
        drained: bool = True,
    ) -> Turn:
        """Carry out everything heard. Nothing it says may leave before its writes are durable.

        `lost`: routes on which something of the last turn could not be said. `words`: what other nodes say. `broken`:
        nodes to which the connection broke. `drained`: nothing that was heard was left behind.
        """
        self.counters.turns += 1
        self.counters.heard += len(heard)
        for word in words:
            self.raft.step(word, now_ms)
            if word.sender == self.raft.primary:
                self._heard_primary_ms = now_ms
        for node in broken:
            self.raft.lost(node, now_ms)
        if drained or self.raft.is_primary:  # after a pause of ours, what waits in the sockets is no silence of others
            self.raft.tick(now_ms)
        self.desk.begin(now_ms + self._skew_ms)
        if self._office and (self._office != self.raft.term or not self.raft.is_primary):
            return self._step_down(now_ms, heard)
        if self.raft.is_primary:
            self._preside(now_ms, heard, lost)
        else:
            for route, frames in heard:
                self._turn_away(route, frames)
        return self._end_turn(now_ms)

    def _preside(self, now_ms: int, heard: Sequence[Message], lost: Sequence[bytes]) -> None:
        if not self._office:
            self._take_office(now_ms)
        desk = self.desk
        if self._successor and not self.raft.transferee:
            self.raft.transfer(self._successor, now_ms)
            self._successor = 0
        if self.raft.transferee:
            return
        if lost:
            self.waiting.take_back(lost)
        self.waiting.begin()
        for route, frames in heard:
            self._hear(route, frames)
        if self.raft.is_settled and not self._settling:  # before, nobody knows what is committed: no lease may end
            if self.raft.members.learners and (promotion := cluster.promotion(self.raft, desk.state)) is not None:
                desk.propose(0, 0, promotion)
            for command in self.upkeep.due(desk.now_ms, desk.limits.session_timeout_ms):
                desk.propose(0, 0, command)
                if isinstance(command, m.EndSession):
                    self._end_session(command.session)
        self.waiting.wake()
        self.waiting.time_out()
        self.upkeep.take_timers()
        if desk.messages and not self.raft.is_alone:
            self.raft.ask_round()  # what is read must be the word of the primary of now

    def _take_office(self, now_ms: int) -> None:
        """Newly elected: the model takes in the whole log. All of it will be committed with our first entry."""
        state, tail = self.desk.state, self.raft.tail
        while state.applied < tail.last:
            for entry in tail.entries(state.applied + 1, APPLY_BYTES):
                self.desk.model.apply(entry)
        self._forget_effects()
        # Our clock may be behind that of the last primary: stamps go on from the last one, and never stand still.
        self._skew_ms = max(0, state.stamp_ms - now_ms)
        self._furnish(self.desk.model, self.desk.disk, self.desk.limits, now_ms + self._skew_ms)
        self.desk.begin(now_ms + self._skew_ms)
        self._office = self.raft.term

    def _step_down(self, now_ms: int, heard: Sequence[Message]) -> Turn:
        """Deposed. What was said and not sent may never become true: those who wait for it ask the next primary."""
        self._office, self._settling, self._skew_ms, self._successor = 0, False, 0, 0
        unsent = [(route, wire.parse_reply(frames).sequence) for route, frames in self.outbox.discard()]
        for route, sequence in unsent + self.waiting.drain():
            self.desk.refuse(route, sequence, self._elsewhere())
        for route, frames in heard:
            self._turn_away(route, frames)
        return self._end_turn(now_ms, deposed=True)

    def wait_ms(self, now_ms: int) -> int:
        """How long the node may sleep if nothing is heard."""
        due_ms = self.raft.next_ms()
        if self._office:
            due_ms = min(due_ms, self.upkeep.next_due_ms() - self._skew_ms)
            deadline_ms = self.waiting.next_deadline_ms()
            if deadline_ms is not None:
                due_ms = min(due_ms, deadline_ms - self._skew_ms)
        return max(0, min(due_ms - now_ms, WAIT_MAX_MS))

    def durable(self) -> list[Message]:
        """The writes of the last turn are on disk. Returns what that sets free to be sent to clients."""
        if self.raft.is_alone or not self._office:
            return []
        self.raft.stable(self.raft.tail.last)
        return self.outbox.release(self.raft.tail.commit, self.raft.confirmed_round)

    def close(self, now_ms: int) -> Turn:
        """The last turn: parked requests are answered, and the model goes to disk, so that the next start is quick."""
        self.desk.begin(now_ms + self._skew_ms)
        self.waiting.close()
        return self._end_turn(now_ms, last=True)

    def _end_turn(self, now_ms: int, deposed: bool = False, last: bool = False) -> Turn:
        desk, limits, raft, state = self.desk, self.desk.limits, self.raft, self.desk.state
        ready = raft.take(now_ms, state.applied if self._office else None)
        if not deposed:
            for entry in ready.committed:
                if entry.index > state.applied:
                    desk.model.apply(entry)
            if not self._office:
                self._forget_effects()
        self.pace.note(ready.entries, now_ms)
        taken = None
        room_bytes = 0 if desk.full else desk.room_bytes
        most = limits.checkpoint_entries, limits.checkpoint_bytes
        wanted = last or self.pace.is_due(now_ms, *most, room_bytes)
        settled = state.applied <= raft.tail.commit
        self._settling = bool(wanted and not settled and self._office)
        if wanted and settled and not deposed:
            # The very last thing of a turn: from here on the model reads from disk what this writes.
            taken = checkpoint.take(desk.model, self._consensus())
            self.pace.done(now_ms)
        messages = desk.messages
        if self._office:
            self.outbox.put(raft.tail.last, raft.round, messages)
            messages = self.outbox.release(raft.tail.commit, raft.confirmed_round)
        writes = checkpoint.Writes(ready.truncate_from, ready.entries, ready.hard, taken)
        return Turn(ready.early, writes, ready.words, messages, ready.snapshots, self._crash, deposed)

    def _consensus(self) -> checkpoint.Consensus:
        """What stays known of the log up to the new floor, which is about to go."""
        tail = self.raft.tail
        floor = self.desk.state.applied if self.raft.is_alone else self.pace.floor(self.desk.state.applied)
        # Not all at once: every entry that goes is looked at, and the turn must end before the next heartbeat is due.
        floor = max(tail.floor, min(floor, self.floor_max, tail.floor + FLOOR_STEP))
        tail.raise_floor(floor)
        term = self.raft.tail.term_at(floor)
        assert term is not None, floor
        upto = [at for at in self.raft.history if at[0] <= floor]
        above = [at for at in self.raft.history if floor < at[0] <= self.desk.state.applied]
        return checkpoint.Consensus(floor, term, upto[-1:] + above)

    def _forget_effects(self) -> None:
        state = self.desk.state
        state.woken.clear()
        state.ended.clear()
        state.timers.clear()

    # -- what clients say when we are not the primary -----------------------------------------------------------------

    def _turn_away(self, route: bytes, frames: Frames) -> None:
        sequence = 0
        try:
            request = wire.parse_request(frames)
            sequence = request.sequence
            if not self._is_local(route, request):
                raise self._elsewhere()
            self._answer_locally(route, request)
        except PenstockError as fault:
            self.desk.refuse(route, sequence, fault)

    def _is_local(self, route: bytes, request: wire.Request) -> bool:
        if request.op == "hello" and request.args.get("read_only") is True:
            if len(self._readers) >= READERS_MAX:
                self._readers.pop(next(iter(self._readers)))
            self._readers[route] = None
        return route in self._readers

    def _answer_locally(self, route: bytes, request: wire.Request) -> None:
        """Reads of a connection that asked for no more than what this node knows."""
        desk, op, sequence = self.desk, request.op, request.sequence
        lag_ms = 0 if self._office else max(0, desk.now_ms - self._heard_primary_ms)
        fresh = {"applied": desk.state.applied, "lag_ms": lag_ms}
        if op == "hello":
            desk.reply(route, sequence, self.greeter.welcome(None) | fresh)
        elif op in reads.READS:
            found = reads.READS[op](desk.state, request.args, desk.now_ms, desk.payload)
            desk.reply(route, sequence, {**found.body, **fresh}, found.payload)
        elif op in ("ping", "status", "cluster", "crash"):
            self._tell(route, sequence, op, fresh)
        else:
            raise ProtocolError(f"{shown(op)} on a connection that is read_only", "say hello without read_only")

    def _tell(self, route: bytes, sequence: int, op: str, more: dict[str, Any]) -> None:
        desk = self.desk
        if op == "ping":
            body: dict[str, Any] = {"now_ms": desk.now_ms}
        elif op == "status":
            body = self._status()
        elif op == "crash":
            self._crash, body = True, {}
        else:
            body = cluster.cluster_info(self.raft, desk.state, self.connected, desk.now_ms)
        desk.reply(route, sequence, body | more)

    def _client_of(self, node: int) -> str | None:
        known = self.desk.state.addresses.get(node)
        return known[0] if known is not None else None

    def _elsewhere(self) -> PenstockError:
        primary = self.raft.primary
        if primary and primary != self.raft.node:
            return NotPrimary(f"node {self.raft.node} is a replica", "ask the primary", self._client_of(primary))
        return NoQuorum("no primary is known: too few nodes are alive, or they are electing one", "try again")

    # -- what clients say ---------------------------------------------------------------------------------------------

    def _hear(self, route: bytes, frames: Frames) -> None:
        sequence = 0
        try:
            request = wire.parse_request(frames)
            sequence = request.sequence
            if self._is_local(route, request):
                self._answer_locally(route, request)
            elif request.op == "hello":
                self.greeter.hello(route, request)
            else:
                self._request(route, self.greeter.session_of(route, request.op), request)
        except PenstockError as fault:
            if isinstance(fault, ProtocolError):
                self.counters.bad_frames += 1
            self.desk.refuse(route, sequence, fault)

    def _request(self, route: bytes, session: Session, request: wire.Request) -> None:
        op, sequence = request.op, request.sequence
        make = self._makes.get(op)
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
        elif op in ("ping", "status", "cluster", "crash"):
            self._tell(route, sequence, op, {})
        elif op == "cluster_transfer":
            self._successor = cluster.check_transfer(self.raft, args)
            desk.reply(route, sequence, {})
        else:
            raise ProtocolError(f"unknown op {shown(op)}", f"ops are {', '.join(OPS)}")

    def _end_session(self, session_id: int) -> None:
        self.greeter.forget(session_id)
        self.waiting.end_session(session_id)

    def _status(self) -> dict[str, Any]:
        desk, state = self.desk, self.desk.state
        kinds = [queue.kind for queue in state.queues.values()]
        return {
            **self.about, "storage": desk.disk.usage(), "role": self.raft.role.value, "term": self.raft.term,
            "applied": state.applied, "now_ms": desk.now_ms, "uptime_ms": desk.now_ms - self.about["started_ms"],
            "sessions": len(state.sessions), "queues": kinds.count("queue"), "topics": kinds.count("topic"),
            "parked": len(self.waiting), "counters": dict(vars(self.counters)),
        }  # fmt: skip


def _bounds(limits: Limits) -> ask.Bounds:
    return ask.Bounds(limits.max_message, limits.max_batch, limits.lease_max_ms)
