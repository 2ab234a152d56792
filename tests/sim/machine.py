"""The machine under test: the production core, a disk of straw, and a list as the model.

The world knows of a machine only `turn`, `written` and `next_ms`: whoever offers these can be put in its place.
"""

from __future__ import annotations

from random import Random
from types import ModuleType
from typing import Any, NamedTuple

from penstock.peers.log import Entry
from penstock.peers.messages import Noop, SetMembers
from penstock.peers.raft.words import Members, Word

from .disk import Disk, Snapshot, Writes


class Put(NamedTuple):
    """A client's write."""

    payload: bytes


class Read(NamedTuple):
    """A client's linearizable read."""

    number: int


class Change(NamedTuple):
    """The operator's: learn, promote or remove a node."""

    verb: str
    node: int


class Transfer(NamedTuple):
    to: int


class Lost(NamedTuple):
    """The connection to a node broke."""

    node: int


class Checkpoint(NamedTuple):
    """The log up to what is applied may go."""


class Turn(NamedTuple):
    """What came of one turn. `early` may leave at once, `writes` then become durable, and only then the rest leaves."""

    early: list[Word]
    writes: Writes
    words: list[tuple[int, Any]]
    applied: list[Entry]
    acked: list[Entry]  # the client may be told
    begun: list[int]  # reads that were taken in
    answered: list[int]  # reads that may be answered from the model as it is now


class Waiting(NamedTuple):
    """A read that waits to be answered."""

    number: int
    term: int
    round: int
    index: int


class Machine:
    """One life of a node, from start to crash."""

    def __init__(
        self, node: int, disk: Disk, raft: ModuleType, tails: ModuleType, random: Random, now_ms: int, cache_bytes: int
    ) -> None:
        tail = tails.Tail(disk.floor, disk.base_term, disk.read, cache_bytes)
        tail.recall(disk.log)
        self.disk = disk
        self.raft = raft.Raft(node, disk.hard, tail, disk.members, raft.Timing(), random, now_ms)
        self.model: list[Entry] = list(disk.base)
        self.pending: dict[int, tuple[int, bytes]] = {}
        self.reads: list[Waiting] = []
        self._snapshot: Snapshot | None = None
        self._checkpoint = False
        self._begun: list[int] = []
        self._last = tail.last

    def next_ms(self) -> int:
        return self.raft.next_ms()

    def turn(self, heard: list[Any], now_ms: int) -> Turn:
        """Take everything in, see what falls due, say what came of it."""
        self._snapshot, self._checkpoint, self._begun = None, False, []
        raft = self.raft
        asks = []
        for item in heard:
            kind = type(item)
            if kind is Lost:
                raft.lost(item.node, now_ms)
            elif kind is Snapshot:
                self._restore(item)
            elif kind is Checkpoint:
                self._checkpoint = True
            elif kind in (Put, Read, Change, Transfer):
                asks.append(item)
            else:
                raft.step(item, now_ms)
        raft.tick(now_ms)
        for item in asks:
            self._serve(item, now_ms)
        return self._end(now_ms)

    def written(self) -> bool:
        """The writes of the last turn are durable. Returns whether there is now more to do."""
        self.raft.stable(self._last)
        return bool(self.raft.tail.applied < self.raft.tail.commit)

    def _restore(self, snapshot: Snapshot) -> None:
        if self.raft.restored(snapshot.index, snapshot.index_term, snapshot.members):
            self.model = list(snapshot.state)
            self._snapshot = snapshot

    def _serve(self, item: Any, now_ms: int) -> None:
        raft = self.raft
        if not raft.is_primary:
            return
        if type(item) is Read:
            if raft.is_settled:
                self.reads.append(Waiting(item.number, raft.term, raft.ask_round(), raft.tail.commit))
                self._begun.append(item.number)
        elif type(item) is Transfer:
            if item.to in raft.members.voters and item.to != raft.node and not raft.transferee:
                raft.transfer(item.to, now_ms)
        elif raft.may_propose:
            if type(item) is Put:
                entry = raft.propose(now_ms, 0, 0, Noop(), item.payload)
                self.pending[entry.index] = (entry.term, item.payload)
            else:
                self._change(item, now_ms)

    def _change(self, change: Change, now_ms: int) -> None:
        voters, learners = ({*part} for part in self.raft.members)
        node = {change.node}
        if change.verb == "promote" and change.node not in learners:
            return
        voters, learners = voters - node, learners - node
        if change.verb == "learn":
            learners |= node
        elif change.verb == "promote":
            voters |= node
        members = Members(tuple(sorted(voters)), tuple(sorted(learners)))
        if members != self.raft.members and not self.raft.why_no_change(members):
            self.raft.propose(now_ms, 0, 0, SetMembers(*members))

    def _end(self, now_ms: int) -> Turn:
        raft = self.raft
        ready = raft.take(now_ms)
        self._last = raft.tail.last
        self.model += ready.committed
        presides, term = raft.is_primary, raft.term
        acked = []
        if self.pending:
            for entry in ready.committed:
                if (
                    self.pending.pop(entry.index, None) == (entry.term, entry.payload)
                    and presides
                    and entry.term == term
                ):
                    acked.append(entry)
            if not presides:
                self.pending.clear()
        answered = self._answered() if self.reads else []
        words: list[tuple[int, Any]] = list(ready.words)
        words += [(node, self.disk.snapshot()) for node in dict.fromkeys(ready.snapshots)]
        writes = Writes(self._snapshot, ready.hard, ready.truncate_from, ready.entries, self._take_checkpoint())
        return Turn(ready.early, writes, words, ready.committed, acked, self._begun, answered)

    def _answered(self) -> list[int]:
        raft = self.raft
        self.reads = [read for read in self.reads if raft.is_primary and raft.term == read.term]
        done = [r.number for r in self.reads if r.round <= raft.confirmed_round and r.index <= raft.tail.applied]
        self.reads = [read for read in self.reads if read.number not in done]
        return done

    def _take_checkpoint(self) -> tuple[int, Members] | None:
        tail = self.raft.tail
        index = tail.applied
        if not self._checkpoint or index <= tail.floor:
            return None
        tail.raise_floor(index)
        return index, [members for at, members in self.raft.history if at <= index][-1]
