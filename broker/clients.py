"""What clients say, and what they are told: by the primary, and by a replica. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..peers import messages as m
from ..peers import wire
from ..peers.errors import NoQuorum, NotPrimary, PenstockError, ProtocolError, shown
from ..peers.raft.core import Raft
from . import cluster, explain, job_requests, planning, reads
from . import requests as ask
from .desk import Desk, Frames
from .greeting import Greeter
from .planning import Planner
from .sessions import Answer, Session
from .state import State
from .trim import Asked, Trim
from .waiting import Waiting

OPS = sorted(
    {
        *ask.COUNTED, *job_requests.COUNTED, *planning.COUNTED, *reads.READS, *reads.WAITING_READS, "schedule_add",
        "hello", "pull", "watch", "ping", "bye", "status", "cluster", "cluster_add", "cluster_remove",
        "cluster_transfer", "crash", "snapshot", "job_explain",
    }
)  # fmt: skip
READERS_MAX = 10_000
OF_THIS_NODE = ("ping", "status", "cluster", "crash", "snapshot")  # every node answers these itself
Make = Callable[[ask.Args, bytes | None, ask.Bounds], ask.Proposal]
ChangeMembers = Callable[[Raft, State, cluster.Disks, ask.Args, int], ask.Proposal]


class Tools(NamedTuple):
    """What clients are served with, until the model begins anew."""

    desk: Desk
    greeter: Greeter
    waiting: Waiting
    planner: Planner


class Clients:
    """Those who are connected to this node. `about`: what status tells."""

    def __init__(self, raft: Raft, about: dict[str, Any], bounds: ask.Bounds, now_ms: int) -> None:
        self.raft = raft
        self.about = about
        self.bounds = bounds
        self.connected: set[int] = set()  # nodes to which the channel stands
        self.disks: cluster.Disks = {}  # on which disk each node was met
        self.heard_primary_ms = now_ms
        self.clock_ms = now_ms  # of this turn; that of the log may be ahead of it
        self.successor = 0  # to whom the office goes with the next turn: somebody asked for it
        self.crash = False  # somebody asked for this drill
        self.trim = Trim()
        self._readers: dict[bytes, None] = {}  # connections without a session, that only read, and only here
        self._makes: dict[str, Make] = {
            **ask.COUNTED,
            **job_requests.COUNTED,
            **planning.COUNTED,
            "schedule_add": lambda args, payload, bounds: self.planner.add(args, payload, bounds, self.desk.now_ms),
            "cluster_add": lambda args, payload, bounds: self._change_members(cluster.add, args),
            "cluster_remove": lambda args, payload, bounds: self._change_members(cluster.remove, args),
        }

    def furnish(self, tools: Tools) -> None:
        """Serve them with these from now on."""
        self.desk, self.greeter, self.waiting, self.planner = tools

    # -- at the primary -----------------------------------------------------------------------------------------------

    def hear(self, route: bytes, frames: Frames) -> None:
        """Do what is asked for, as the primary."""
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
                self.desk.counters.bad_frames += 1
            self.desk.refuse(route, sequence, fault)

    def _request(self, route: bytes, session: Session, request: wire.Request) -> None:
        op, sequence = request.op, request.sequence
        make = self._makes.get(op)
        if make is not None:
            if sequence <= 0:
                raise ProtocolError(
                    f"{op} changes state, and its sequence is {sequence}", "count it: positive sequences"
                )
            answer = session.recall(sequence) or self._counted(session, request, make)
            if op == "call" and session.has_job(sequence):
                self.waiting.call(route, session, sequence, request.args)
            else:
                self.desk.answer(route, sequence, answer)
        elif op == "bye":
            if self.greeter.bye(route, session, sequence):
                self.end_session(session.id)
        else:
            self._uncounted(route, session, request)

    def _counted(self, session: Session, request: wire.Request, make: Make) -> Answer:
        """Propose what is asked for. A refusal is proposed too: it uses up the sequence, so that no gap follows."""
        try:
            command, payload = make(request.args, request.payload, self.bounds)
            if fills(command):
                self.desk.take_room(len(payload))
        except PenstockError as fault:
            command, payload = m.Refuse(fault.code, fault.message, fault.hint), b""
        answer = self.desk.propose(session.id, request.sequence, command, payload)
        if answer.status != "ok":
            self.desk.counters.refused += 1
        elif type(command) is m.Append:
            self.desk.counters.appended += command.count
        elif type(command) is m.Call:
            self.desk.counters.appended += 1
        elif type(command) is m.Ack or type(command) is m.Complete:
            self.desk.counters.acked += sum([count for _, count in command.ranges])
        return answer

    def _change_members(self, change: ChangeMembers, args: ask.Args) -> ask.Proposal:
        return change(self.raft, self.desk.state, self.disks, args, self.clock_ms)

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
        elif op == "job_explain":
            queue, offset = ask.name_of(args, "queue"), ask.integer(args, "offset", 0, ask.OFFSET_MAX)
            seen = self.waiting.consumers(queue)
            desk.reply(route, sequence, {"reasons": explain.explain(desk.state, queue, offset, desk.now_ms, seen)})
        elif op == "watch":
            self.waiting.watch(route, session, sequence, args)
        elif op in OF_THIS_NODE:
            self._tell(route, sequence, op, {})
        elif op == "cluster_transfer":
            self.successor = cluster.check_transfer(self.raft, args)
            desk.reply(route, sequence, {})
        else:
            raise ProtocolError(f"unknown op {shown(op)}", f"ops are {', '.join(OPS)}")

    def end_session(self, session_id: int) -> None:
        """The session was ended by a command."""
        self.greeter.forget(session_id)
        self.waiting.end_session(session_id)

    def _status(self) -> dict[str, Any]:
        desk, state = self.desk, self.desk.state
        kinds = [queue.kind for queue in state.queues.values()]
        primary = self.about["primary"] if self.raft.is_primary else self._client_of(self.raft.primary)
        return {
            **self.about, "primary": primary, "role": self.raft.role.value, "term": self.raft.term,
            "storage": desk.disk.usage(), "applied": state.applied, "now_ms": desk.now_ms,
            "uptime_ms": desk.now_ms - self.about["started_ms"],
            "sessions": len(state.sessions), "queues": kinds.count("queue"), "topics": kinds.count("topic"),
            "parked": len(self.waiting), "counters": dict(vars(self.desk.counters)),
        }  # fmt: skip

    # -- at a replica, and wherever a local answer is enough ----------------------------------------------------------

    def turn_away(self, route: bytes, frames: Frames, shows: bool) -> bool:
        """Say where the primary is. What was meant for this node is answered, unless it `shows` nothing now: False."""
        sequence = 0
        try:
            request = wire.parse_request(frames)
            sequence = request.sequence
            if not self._is_local(route, request):
                raise self.elsewhere()
            if not shows:
                return False
            self._answer_locally(route, request)
        except PenstockError as fault:
            self.desk.refuse(route, sequence, fault)
        return True

    def _is_local(self, route: bytes, request: wire.Request) -> bool:
        if request.op == "hello" and request.args.get("read_only") is True:
            if len(self._readers) >= READERS_MAX:
                self._readers.pop(next(iter(self._readers)))
            self._readers[route] = None
        return route in self._readers

    def _answer_locally(self, route: bytes, request: wire.Request) -> None:
        """Reads of a connection that asked for no more than what this node knows."""
        desk, op, sequence = self.desk, request.op, request.sequence
        lag_ms = 0 if self.raft.is_primary else max(0, desk.now_ms - self.heard_primary_ms)
        fresh = {"applied": desk.state.applied, "lag_ms": lag_ms}
        if op == "hello":
            desk.reply(route, sequence, self.greeter.welcome(None) | fresh)
        elif op in reads.READS:
            found = reads.READS[op](desk.state, request.args, desk.now_ms, desk.payload)
            desk.reply(route, sequence, {**found.body, **fresh}, found.payload)
        elif op == "read":  # at once: a replica is not told when something comes
            args = reads.placed(desk.state, request.args)
            body, payload = reads.read(desk.state, args, desk.now_ms, desk.payload) or reads.Found(
                reads.nothing_yet(op, args, desk.state, desk.now_ms)
            )
            desk.reply(route, sequence, {**body, **fresh}, payload)
        elif op in OF_THIS_NODE:
            self._tell(route, sequence, op, fresh)
        else:
            raise ProtocolError(f"{shown(op)} on a connection that is read_only", "say hello without read_only")

    def _tell(self, route: bytes, sequence: int, op: str, more: dict[str, Any]) -> None:
        desk = self.desk
        if op == "snapshot":  # answered when it is on disk
            used_bytes = desk.disk.usage()["used_bytes"]
            self.trim.ask(Asked(route, sequence, desk.now_ms, used_bytes, self.raft.tail.floor))
            return
        if op == "ping":
            body: dict[str, Any] = {"now_ms": desk.now_ms}
        elif op == "status":
            body = self._status()
        elif op == "crash":
            self.crash, body = True, {}
        else:
            body = cluster.cluster_info(self.raft, desk.state, self.connected, self.clock_ms)
        desk.reply(route, sequence, body | more)

    def tell_trimmed(self) -> None:
        """Whose snapshot is on disk learns what it came to."""
        desk, floor = self.desk, self.raft.tail.floor
        for asked in self.trim.take_done():
            freed_bytes = max(0, asked.used_bytes - desk.disk.usage()["used_bytes"])
            body = {"node": self.raft.node, "applied": self.trim.applied, "floor": floor}
            body |= {"entries": floor - asked.floor, "freed_bytes": freed_bytes, "ms": desk.now_ms - asked.began_ms}
            desk.reply(asked.route, asked.sequence, body)

    def _client_of(self, node: int) -> str | None:
        known = self.raft.addresses.get(node) or self.desk.state.addresses.get(node)
        return known.client if known is not None else None

    def elsewhere(self) -> PenstockError:
        """What is told to who needs the primary, by a node that is none."""
        primary = self.raft.primary
        if primary and primary != self.raft.node:
            return NotPrimary(f"node {self.raft.node} is a replica", "ask the primary", self._client_of(primary))
        return NoQuorum("no primary is known: too few nodes are alive, or they are electing one", "try again")


def fills(command: m.Command) -> bool:
    """Is this refused when the storage is full? Results and acks are not: they let go of what fills the disk."""
    if isinstance(command, m.Complete):
        return bool(command.outputs)
    return isinstance(command, (m.Append, m.Call, m.LogLines, m.AddSchedule))
