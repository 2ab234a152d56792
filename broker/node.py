"""One node, one turn at a time: what was heard goes in, what must be durable and what is then said comes out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, Protocol

from ..peers import messages as m
from ..peers import wire
from ..peers.errors import (
    Closed,
    InvalidArgument,
    NotFound,
    PenstockError,
    ProtocolError,
    SessionExpired,
    StorageFull,
)  # fmt: skip
from ..peers.log import Entry, HardState, Log
from . import checkpoint, reads
from . import requests as ask
from .delivery import pieces_of
from .extents import Reader
from .groups import Piece
from .model import Model
from .parking import Parked, Parking
from .recent import Recent
from .sessions import WINDOW, Answer, Session, refusal
from .upkeep import Upkeep

Frames = list[bytes]
WAIT_MAX_MS = 3_600_000
PULL_BYTES = 4 << 20
ACK_ROOM_BYTES = 4096  # what a command without a payload may take; such commands pass even when storage is full


class Disk(Reader, Protocol):
    """What the node may ask of the disk: never to write."""

    def payload(self, index: int) -> bytes: ...

    def room_bytes(self) -> int: ...

    def usage(self) -> dict[str, Any]: ...


class Turn(NamedTuple):
    """First all of `writes` becomes durable, then `messages` leave: (route, frames)."""

    writes: checkpoint.Writes
    messages: list[tuple[bytes, Frames]]


@dataclass
class Limits:
    """[limits] and [storage], as far as they concern a node. Sizes in bytes, times in ms."""

    max_message: int = 64 << 20
    max_batch: int = 100_000
    session_timeout_ms: int = 60_000
    parked: int = 64
    in_flight_max: int = 200_000
    lease_max_ms: int = 12 * 3_600_000
    cache_bytes: int = 32 << 20
    checkpoint_entries: int = 8192
    checkpoint_bytes: int = 64 << 20


@dataclass
class Counters:
    """What happened since the start."""

    heard: int = 0
    turns: int = 0
    appended: int = 0
    delivered: int = 0
    acked: int = 0
    refused: int = 0
    bad_frames: int = 0
    commits: int = 0
    dropped_replies: int = 0


@dataclass
class Connection:
    """A client's DEALER, by its routing id."""

    session: int
    heard_ms: int


@dataclass
class _Making:
    """What the turn in progress has come to so far."""

    entries: list[Entry] = field(default_factory=list)
    messages: list[tuple[bytes, Frames]] = field(default_factory=list)
    room_bytes: int | None = None


class Node:
    """A cluster of one: the primary of its own log. `about` is what hello and status tell of it."""

    def __init__(
        self, model: Model, log: Log, disk: Disk, random: Random, limits: Limits, about: dict[str, Any], now_ms: int
    ) -> None:
        self.model = model
        self.state = model.state
        self.log = log
        self.disk = disk
        self.random = random
        self.about = about
        self.limits = limits
        self.bounds = ask.Bounds(limits.max_message, limits.max_batch, limits.lease_max_ms)
        self.counters = Counters()
        self.connections: dict[bytes, Connection] = {}
        self.pulls = Parking()
        self.waits = Parking()
        self.recent = Recent(limits.cache_bytes)
        self.now_ms = now_ms
        self._turn = _Making()
        self._hard: HardState | None = None
        self.upkeep = Upkeep(self.state, now_ms)

    def change_limits(self, limits: Limits) -> None:
        """SIGHUP: from the next turn on."""
        self.limits = limits
        self.bounds = ask.Bounds(limits.max_message, limits.max_batch, limits.lease_max_ms)
        self.recent.size_max = limits.cache_bytes

    # -- a turn -------------------------------------------------------------------------------------------------------

    def begin_term(self, node: int, now_ms: int) -> Turn:
        """The first turn: win the election among one, and begin the term with an empty entry."""
        self.now_ms = max(now_ms, self.log.last_stamp_ms)
        entry = self.log.campaign(node, self.now_ms)
        self._hard = self.log.hard
        self._turn.entries.append(entry)
        self.model.apply(entry)
        return self._end_turn()

    def turn(self, now_ms: int, heard: Sequence[tuple[bytes, Frames]]) -> Turn:
        """Carry out everything heard. Nothing it says may leave before its writes are durable."""
        self.now_ms = max(now_ms, self.log.last_stamp_ms)
        self.counters.turns += 1
        self.counters.heard += len(heard)
        self.recent.trim()
        for route, frames in heard:
            self._hear(route, frames)
        for command in self.upkeep.due(self.now_ms, self.limits.session_timeout_ms):
            self._propose(0, 0, command, b"")
            if isinstance(command, m.EndSession):
                self._end_session(command.session)
        for parked in [*self.pulls.due(self.now_ms), *self.waits.due(self.now_ms)]:
            self._answer_nothing(parked)
        self._wake()
        return self._end_turn()

    def wait_ms(self, now_ms: int) -> int:
        """How long the node may sleep if nothing is heard."""
        due = [self.upkeep.next_due_ms()]
        due += [at for at in (self.pulls.next_deadline_ms(), self.waits.next_deadline_ms()) if at is not None]
        return max(0, min(due) - now_ms)

    def close(self, now_ms: int) -> Turn:
        """The last turn: parked requests are answered, and the model goes to disk, so that the next start is quick."""
        self.now_ms = max(now_ms, self.log.last_stamp_ms)
        for parked in [*self.pulls.drain(), *self.waits.drain()]:
            if parked.op == "pull":
                self._answer_nothing(parked)
            else:
                self._refuse(parked.route, parked.sequence, Closed("the daemon is stopping", "ask again"))
        return self._end_turn(last=True)

    def _end_turn(self, last: bool = False) -> Turn:
        made, self._turn = self._turn, _Making()
        hard, self._hard = self._hard, None
        self.upkeep.note(made.entries)
        taken = None
        if self.upkeep.checkpoint_due(self.now_ms, self.limits.checkpoint_entries, self.limits.checkpoint_bytes, last):
            # The very last thing of a turn: from here on the model reads from disk what this writes.
            taken = checkpoint.take(self.model)
        return Turn(checkpoint.Writes(made.entries, hard, taken), made.messages)

    # -- what clients say ---------------------------------------------------------------------------------------------

    def _hear(self, route: bytes, frames: Frames) -> None:
        sequence = 0
        try:
            request = wire.parse_request(frames)
            sequence = request.sequence
            if request.op == "hello":
                self._hello(route, request)
                return
            connection = self.connections.get(route)
            if connection is None:
                raise ProtocolError(f"{request.op!r:.40} before hello", "say hello first")
            session = self.state.sessions.get(connection.session)
            if session is None:
                raise SessionExpired("the session has ended", "say hello without a session, to open a new one")
            connection.heard_ms = self.now_ms
            self.upkeep.heard[session.id] = self.now_ms
            self._request(route, session, request)
        except PenstockError as fault:
            if isinstance(fault, ProtocolError):
                self.counters.bad_frames += 1
            self._refuse(route, sequence, fault)

    def _request(self, route: bytes, session: Session, request: wire.Request) -> None:
        op, sequence = request.op, request.sequence
        make = ask.COUNTED.get(op)
        if make is not None:
            if sequence <= 0:
                raise ProtocolError(
                    f"{op} changes state, and its sequence is {sequence}", "count it: positive sequences"
                )
            known = session.recall(sequence)
            self._say(route, sequence, known if known is not None else self._counted(session, request, make))
            return
        if sequence > 0 and op != "bye":
            known = session.recall(sequence)
            if known is None:
                self._propose(session.id, sequence, m.Count(), b"")
            elif sequence > session.last:
                self._say(route, sequence, known)
                return
        if op == "pull":
            self._pull(route, session, sequence, request.args)
        elif op in reads.READS:
            found = reads.READS[op](self.state, request.args, self.now_ms, self._payload)
            assert found is not None, op
            self._turn.messages.append((route, wire.reply(sequence, "ok", found.body, found.payload)))
        elif op in reads.WAITING_READS:
            self._wait(route, session, sequence, op, request.args)
        elif op == "ping":
            self._turn.messages.append((route, wire.reply(sequence, "ok", {"now_ms": self.now_ms})))
        elif op == "status":
            self._turn.messages.append((route, wire.reply(sequence, "ok", self._status())))
        elif op == "bye":
            self._bye(route, session, sequence)
        else:
            known_ops = sorted(
                [*ask.COUNTED, *reads.READS, *reads.WAITING_READS, "hello", "pull", "ping", "bye", "status"]
            )
            raise ProtocolError(f"unknown op {op!r:.40}", f"ops are {', '.join(known_ops)}")

    def _counted(
        self,
        session: Session,
        request: wire.Request,
        make: Callable[[ask.Args, bytes | None, ask.Bounds], ask.Proposal],
    ) -> Answer:
        """Propose what is asked for. A refusal is proposed too: it uses up the sequence, so that no gap follows."""
        try:
            command, payload = make(request.args, request.payload, self.bounds)
            if payload:
                self._take_room(command, len(payload))
        except PenstockError as fault:
            command, payload = m.Refuse(fault.code, fault.message, fault.hint), b""
        answer = self._propose(session.id, request.sequence, command, payload)
        if answer.status != "ok":
            self.counters.refused += 1
        elif type(command) is m.Append:
            self.counters.appended += command.count
        elif type(command) is m.Ack or type(command) is m.Complete:
            self.counters.acked += sum([count for _, count in command.ranges])
        return answer

    def _take_room(self, command: m.Command, size: int) -> None:
        if type(command) is not m.Append:
            return  # results and errors let go of messages; refusing them would keep a full disk full
        turn = self._turn
        if turn.room_bytes is None:
            turn.room_bytes = self.disk.room_bytes()
        if size + ACK_ROOM_BYTES > turn.room_bytes:
            raise StorageFull(
                "the storage is 90 % full: nothing is published until there is room again",
                "consume, purge or delete messages, or give a larger [storage] map_size or disk",
            )
        turn.room_bytes -= size + ACK_ROOM_BYTES

    def _propose(self, session: int, sequence: int, command: m.Command, payload: bytes) -> Answer:
        """Into the log and, this node being the quorum, at once into the model: nothing leaves before the commit."""
        entry = self.log.append(self.now_ms, session, sequence, command, payload)
        self._turn.entries.append(entry)
        if payload:
            self.recent.put(entry.index, payload)
        return self.model.apply(entry)

    # -- sessions -----------------------------------------------------------------------------------------------------

    def _hello(self, route: bytes, request: wire.Request) -> None:
        args, sequence = request.args, request.sequence
        version = args.get("version")
        if version != wire.VERSION:
            raise ProtocolError(
                f"version is {version!r:.40}; this daemon speaks {wire.VERSION}", "use a client that fits"
            )
        token = args.get("session")
        if token is None:
            client = ask.text(args, "client", 1000, "")
            secret = f"{self.random.getrandbits(64):016x}"
            answer = self._propose(0, 0, m.OpenSession(secret, client, max(0, sequence)), b"")
            session = self.state.sessions[self.log.last_index]
            assert answer.body["session"] == session.token
        else:
            session = self._resume(token)
            if sequence > 0 and session.recall(sequence) is None:
                self._propose(session.id, sequence, m.Count(), b"")
        self.connections[route] = Connection(session.id, self.now_ms)
        self.upkeep.heard[session.id] = self.now_ms
        body = {
            "session": session.token, "last": session.last, "node": self.about["node"],
            "cluster": self.about["cluster"], "primary": self.about["primary"],
            "limits": {
                "max_message": self.limits.max_message, "max_batch": self.limits.max_batch, "window": WINDOW,
                "session_timeout_ms": self.limits.session_timeout_ms, "parked": self.limits.parked,
            },
        }  # fmt: skip
        self._turn.messages.append((route, wire.reply(sequence, "ok", body)))

    def _resume(self, token: object) -> Session:
        if type(token) is not str:
            raise InvalidArgument(f"session is {token!r:.80}", "give the text that an earlier hello was answered with")
        front, _, secret = token.partition("-")
        session = self.state.sessions.get(int(front, 16)) if front.isalnum() and _is_hex(front) else None
        if session is None or session.secret != secret:
            raise SessionExpired("there is no such session, or it has ended", "say hello without a session")
        return session

    def _bye(self, route: bytes, session: Session, sequence: int) -> None:
        if sequence <= 0:
            raise ProtocolError(f"bye changes state, and its sequence is {sequence}", "count it: positive sequences")
        known = session.recall(sequence)
        if known is None:
            known = self._propose(session.id, sequence, m.EndSession(session.id, False), b"")
            self._end_session(session.id)
            self.connections.pop(route, None)
        self._say(route, sequence, known)

    def _end_session(self, session_id: int) -> None:
        self.upkeep.heard.pop(session_id, None)
        self.pulls.end_session(session_id)
        self.waits.end_session(session_id)
        for route in [route for route, connection in self.connections.items() if connection.session == session_id]:
            del self.connections[route]

    # -- pulls and waits ----------------------------------------------------------------------------------------------

    def _pull(self, route: bytes, session: Session, sequence: int, args: dict[str, Any]) -> None:
        queue = self.state.queue(ask.name_of(args, "queue"))
        group = self.state.group(queue, ask.name_of(args, "group", ""))
        args = {
            "messages": ask.integer(args, "messages", 1, 10**9),
            "size_max": ask.integer(args, "bytes", 1, 2**40, PULL_BYTES),
            "lease_ms": ask.lease_ms(args, self.bounds, 30_000),
            "wait_ms": ask.integer(args, "wait_ms", 0, WAIT_MAX_MS, 0),
        }
        self.pulls.remove(session.id, sequence)  # its former self, if it is asked again
        lease_id = session.leases.get(sequence)
        if lease_id is not None:  # asked again: the delivery was lost on the way
            lease = self.state.leases[lease_id]
            self._deliver(route, sequence, lease.id, lease.ends_ms, pieces_of(self.state, lease))
            return
        key = (queue.name, group.name)
        parked = Parked(key, "pull", route, session.id, sequence, args, self.now_ms + args["wait_ms"])
        if not self.pulls.first(key) and self._try_pull(parked):
            return
        if args["wait_ms"] == 0:
            self._answer_nothing(parked)
        else:
            self._park(self.pulls, parked)

    def _park(self, parking: Parking, parked: Parked) -> None:
        if self.pulls.count(parked.session) + self.waits.count(parked.session) >= self.limits.parked:
            raise InvalidArgument(
                f"this session has {self.limits.parked} waiting requests already", "wait for their answers first"
            )
        parking.add(parked)

    def _try_pull(self, parked: Parked) -> bool:
        """Grant and deliver, if anything is ready."""
        queue_name, group_name = parked.key
        queue = self.state.queue(queue_name)
        group = self.state.group(queue, group_name)
        room = self.limits.in_flight_max - group.leased
        if queue.paused or room <= 0 or not group.has_ready(queue.next, self.now_ms):
            return False
        args = parked.args
        command = m.Pull(
            queue_name, group_name, parked.sequence, min(args["messages"], room), args["size_max"], args["lease_ms"]
        )
        # The session's sequence is not counted here: a pull is known by the lease it was given.
        answer = self._propose(parked.session, 0, command, b"").body
        if answer["lease"] is None:
            return False
        self._deliver(parked.route, parked.sequence, answer["lease"], answer["ends_ms"], answer["pieces"])
        return True

    def _deliver(self, route: bytes, sequence: int, lease: int, ends_ms: int, pieces: list[Piece]) -> None:
        ranges, payload = reads.delivery(pieces, self._payload)
        self.counters.delivered += sum([some[1] for some in ranges])
        body = {"lease": lease, "ends_ms": ends_ms, "ranges": ranges}
        self._turn.messages.append((route, wire.reply(sequence, "ok", body, payload)))

    def _wait(self, route: bytes, session: Session, sequence: int, op: str, args: dict[str, Any]) -> None:
        wait_ms = ask.integer(args, "wait_ms", 0, WAIT_MAX_MS, 0)
        parked = Parked((ask.name_of(args, "queue"),), op, route, session.id, sequence, args, self.now_ms + wait_ms)
        if self._try_read(parked):
            return
        if wait_ms == 0:
            self._answer_nothing(parked)
        else:
            self._park(self.waits, parked)

    def _try_read(self, parked: Parked) -> bool:
        found = reads.WAITING_READS[parked.op](self.state, parked.args, self.now_ms, self._payload)
        if found is None:
            return False
        self._turn.messages.append((parked.route, wire.reply(parked.sequence, "ok", found.body, found.payload)))
        return True

    def _wake(self) -> None:
        """Those who wait for what this turn brought. Grants are proposed here, so they share the turn's commit."""
        while self.state.woken:
            key, _ = self.state.woken.popitem()
            while (parked := self.pulls.first(key)) is not None:
                try:
                    served = self._try_pull(parked)
                except NotFound as fault:  # the queue or the group was deleted
                    self._refuse(parked.route, parked.sequence, fault)
                    served = True
                if not served:
                    break
                self.pulls.remove(parked.session, parked.sequence)
        for name in self.state.ended:
            for parked in self.waits.all((name,)):
                try:
                    served = self._try_read(parked)
                except PenstockError as fault:
                    self._refuse(parked.route, parked.sequence, fault)
                    served = True
                if served:
                    self.waits.remove(parked.session, parked.sequence)
        self.state.ended.clear()

    def _answer_nothing(self, parked: Parked) -> None:
        if parked.op == "pull":
            body: Mapping[str, Any] = {"lease": None, "ends_ms": 0, "ranges": []}
        else:
            body = reads.nothing_yet(parked.op, parked.args, self.state, self.now_ms)
        self._turn.messages.append((parked.route, wire.reply(parked.sequence, "ok", body)))

    # -- small parts --------------------------------------------------------------------------------------------------

    def _payload(self, index: int) -> bytes:
        """The payload of a log entry: from memory if it is a recent one, else from disk."""
        return self.recent.get(index) or self.disk.payload(index)

    def _say(self, route: bytes, sequence: int, answer: Answer) -> None:
        self._turn.messages.append((route, wire.reply(sequence, answer.status, answer.body)))

    def _refuse(self, route: bytes, sequence: int, fault: PenstockError) -> None:
        self.counters.refused += 1
        self._say(route, sequence, refusal(fault))

    def _status(self) -> dict[str, Any]:
        kinds = [queue.kind for queue in self.state.queues.values()]
        return {
            **self.about, "storage": self.disk.usage(), "role": "primary", "term": self.log.hard.term,
            "applied": self.state.applied,
            "now_ms": self.now_ms, "uptime_ms": self.now_ms - self.about["started_ms"],
            "sessions": len(self.state.sessions), "queues": kinds.count("queue"), "topics": kinds.count("topic"),
            "parked": len(self.pulls) + len(self.waits), "counters": dict(vars(self.counters)),
        }  # fmt: skip


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text) and len(text) <= 16
