"""The turn in progress: what it has logged and said so far. None of it is durable or sent before its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..peers import messages as m
from ..peers import wire
from ..peers.errors import PenstockError, StorageFull
from ..peers.raft.core import Raft
from .extents import Reader
from .model import Model
from .payloads import Payloads
from .sessions import Answer, refusal

Frames = list[bytes]
ROOM_MS = 100  # the disk is asked this often; in between, what is published is counted
ACK_ROOM_BYTES = 4096  # what a command without a payload may take; such commands pass even when storage is full


class Disk(Reader, Protocol):
    """What a node may ask of the disk: never to write."""

    def payload(self, index: int) -> bytes:
        """The payload of a log entry of an earlier turn. Raises CorruptEntry."""

    def room_bytes(self) -> int:
        """How much may still be published before storage counts as full."""

    def usage(self) -> dict[str, Any]:
        """For people: used_bytes, map_bytes, room_bytes, full."""


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
    commits: int = 0
    slow_commits: int = 0
    commit_max_ms: float = 0.0
    appended: int = 0
    delivered: int = 0
    acked: int = 0
    refused: int = 0
    bad_frames: int = 0
    dropped_replies: int = 0


class Desk:
    """Where the parts of a node work: they propose commands here, and lay down what is to be said."""

    def __init__(self, model: Model, raft: Raft, disk: Disk, limits: Limits, counters: Counters, now_ms: int) -> None:
        self.model = model
        self.state = model.state
        self.raft = raft
        self.disk = disk
        self.payload = Payloads(raft, disk.payload)
        self.limits = limits
        self.counters = counters
        self.now_ms = now_ms
        self.messages: list[tuple[bytes, Frames]] = []
        self.full = False  # a publish of this turn was refused
        self.room_bytes = 1 << 62  # for publishing, as far as is known
        self._room_ms = -ROOM_MS

    def begin(self, now_ms: int) -> None:
        """A new turn. Time never runs backwards, whatever the clock does."""
        self.now_ms = max(now_ms, self.state.stamp_ms)
        self.messages = []
        self.full = False

    def propose(self, session: int, sequence: int, command: m.Command, payload: bytes = b"") -> Answer:
        """Into the log and, ahead of the majority, into the model: what is said of it stays in until they have it, too.

        A primary that is deposed before that takes its model anew from what is committed.
        """
        return self.model.apply(self.raft.propose(self.now_ms, session, sequence, command, payload))

    def take_room(self, size: int) -> None:
        """Room for a publish of `size` bytes. Raises StorageFull."""
        size += ACK_ROOM_BYTES
        if size > self.room_bytes or self.now_ms >= self._room_ms + ROOM_MS:
            # Entries of this turn are not on disk yet.
            pending = sum([len(entry.payload) + ACK_ROOM_BYTES for entry in self.raft.tail.fresh])
            self.room_bytes, self._room_ms = self.disk.room_bytes() - pending, self.now_ms
        if size > self.room_bytes:
            self.full = True
            raise StorageFull(
                "the storage is 90 % full: nothing is published until there is room again",
                "consume, purge or delete messages, or give a larger [storage] map_size or disk",
            )
        self.room_bytes -= size

    # -- what is said -------------------------------------------------------------------------------------------------

    def reply(self, route: bytes, sequence: int, body: dict[str, Any], payload: bytes | None = None) -> None:
        self.messages.append((route, wire.reply(sequence, "ok", body, payload)))

    def answer(self, route: bytes, sequence: int, answer: Answer) -> None:
        self.messages.append((route, wire.reply(sequence, answer.status, answer.body)))

    def refuse(self, route: bytes, sequence: int, fault: PenstockError) -> None:
        self.counters.refused += 1
        self.answer(route, sequence, refusal(fault))
