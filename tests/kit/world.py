"""A node without sockets: a clock that is turned by hand, clients that are routing ids, and a disk of one's choice."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from penstock.broker import checkpoint
from penstock.broker.desk import Limits
from penstock.broker.model import Model
from penstock.broker.node import Node, Turn
from penstock.broker.store import Store
from penstock.peers import wire
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.tail import Tail
from penstock.peers.raft.words import Members
from penstock.testing.memory import MemoryDisk

START_MS = 1_000_000


class Reply(wire.Reply):
    """What came back. `messages`: of a delivery, offset -> body."""

    @property
    def ok(self) -> dict[str, Any]:
        assert self.status == "ok", (self.status, self.body)
        return self.body

    @property
    def bodies(self) -> list[bytes]:
        return [] if self.payload is None else wire.unpack_payload(self.payload)[0]

    @property
    def headers(self) -> wire.Headers:
        return None if self.payload is None else wire.unpack_payload(self.payload)[1]

    @property
    def offsets(self) -> list[int]:
        return [offset for first, count, *_ in self.body["ranges"] for offset in range(first, first + count)]


class Client:
    """One session. Counted requests are numbered by themselves; others get falling negative numbers."""

    def __init__(self, world: World, name: str, session: str | None = None) -> None:
        self.world = world
        self.route = name.encode()
        self.sequence = 0
        self.other = 0
        args = {"version": 1, "client": name} | ({} if session is None else {"session": session})
        hello = self.call("hello", 0, args).ok
        self.session: str = hello["session"]
        self.sequence = hello["last"]

    def number(self, op: str) -> int:
        if op in COUNTED:
            self.sequence += 1
            return self.sequence
        self.other -= 1
        return self.other

    def call(self, op: str, sequence: int, args: dict[str, Any], payload: bytes | None = None) -> Reply:
        """One request in a turn of its own; its reply, which must come in that turn."""
        replies = [reply for reply in self.say(op, sequence, args, payload) if reply.sequence == sequence]
        assert len(replies) == 1, f"{len(replies)} replies to {op}"
        return replies[0]

    def say(self, op: str, sequence: int, args: dict[str, Any], payload: bytes | None = None) -> list[Reply]:
        """One request in a turn of its own; whatever came for this client."""
        self.world.turn([(self.route, wire.request(op, sequence, args, payload))])
        return self.heard()

    def heard(self) -> list[Reply]:
        """What came since one looked last."""
        return self.world.replies.pop(self.route, [])

    def do(self, op: str, payload: bytes | None = None, **args: Any) -> Reply:
        return self.call(op, self.number(op), args, payload)

    def ask(self, op: str, **args: Any) -> int:
        """A request whose reply may come later; its sequence."""
        sequence = self.number(op)
        self.world.turn([(self.route, wire.request(op, sequence, args))])
        return sequence

    def append(self, queue: str, *bodies: bytes, headers: wire.Headers = None) -> Reply:
        return self.do("append", wire.pack_payload(bodies, headers), queue=queue, count=len(bodies))

    def pull(self, queue: str, messages: int = 1, **args: Any) -> Reply:
        return self.do("pull", queue=queue, messages=messages, **args)


COUNTED = {
    "append", "ack", "complete", "nack", "reject", "release", "extend", "create", "configure", "delete", "purge",
    "pause", "resume", "group_create", "group_seek", "group_delete", "group_retry", "job_cancel", "job_retry", "bye",
    "job_retry_dead", "move", "job_progress", "job_log", "job_forget", "call",
    "cluster_add", "cluster_remove", "schedule_add", "schedule_remove", "schedule_pause", "schedule_resume",
    "schedule_run",
}  # fmt: skip


class World:
    """The daemon's loop, with time and frames given by hand. `reopen`: how a restart gets at the disk."""

    def __init__(
        self,
        disk: MemoryDisk | Store | None = None,
        limits: Limits | None = None,
        reopen: Callable[[], Any] | None = None,
    ) -> None:
        self.now_ms = START_MS
        self.limits = limits or Limits()
        self.disk: Any = MemoryDisk() if disk is None else disk
        self.reopen = reopen or (lambda: self.disk)
        self.replies: dict[bytes, list[Reply]] = {}
        self.random = Random(1)
        self.node = self.start()

    def start(self) -> Node:
        """As the daemon does it: the checkpoint, the log behind it, a term of one's own."""
        model = Model(self.disk)
        if isinstance(self.disk, Store):
            found = self.disk.recover()
            hard, rows, known = found.hard, (found.meta, found.queues, found.sessions), found.consensus
        else:
            hard, rows, known = self.disk.hard, self.disk.rows(), self.disk.consensus
        checkpoint.restore(model, *rows)
        floor, term, _ = (0, 0, []) if known is None else checkpoint.unpack_consensus(known)
        tail = Tail(floor, term, self.disk.entries)
        tail.recall(self.disk.replay())
        tail.commit = tail.applied = model.state.applied
        raft = Raft(1, hard, tail, Members((1,)), Timing(), Random(2), self.now_ms)
        about = {"node": 1, "cluster": "test", "primary": "inproc://test", "started_ms": self.now_ms}
        node = Node(model, raft, self.disk, self.random, self.limits, about, self.now_ms)
        self._carry_out(node.begin(self.now_ms))
        return node

    def restart(self, clean: bool) -> None:
        """Clean: as after SIGTERM. Otherwise as after kill -9: nothing is said and nothing is saved."""
        if clean:
            self._carry_out(self.node.close(self.now_ms))
        self.disk = self.reopen()
        self.node = self.start()

    def turn(self, heard: list[tuple[bytes, list[bytes]]] | None = None) -> Turn:
        turn = self.node.turn(self.now_ms, heard or [])
        self._carry_out(turn)
        return turn

    def _carry_out(self, turn: Turn) -> None:
        self.disk.commit(turn.writes)
        for route, frames in turn.messages:
            self.replies.setdefault(route, []).append(Reply(*wire.parse_reply(frames)))

    def advance(self, ms: int) -> None:
        """Time passes; the node gets its turns when it asked for them."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            step_ms = self.node.wait_ms(self.now_ms)
            self.now_ms = min(end_ms, self.now_ms + max(step_ms, 0 if self.node.desk.state.unswept else 1))
            self.turn()

    def digest(self) -> str:
        return checkpoint.digest(self.node.desk.model)
