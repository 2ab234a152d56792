"""The start: from what the disk knows to the model as of the last checkpoint, and the log behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

from ..peers.log import Entry, HardState
from ..peers.messages import SetMembers
from ..peers.raft.core import Raft, Timing
from ..peers.raft.tail import Tail
from ..peers.raft.words import Members
from . import checkpoint
from .damage import Damage, Log
from .extents import Reader
from .model import Model
from .store import Recovered


class Disk(Reader, Log, Protocol):
    """What is read of a disk at start."""

    def replay(self, after: int | None = None) -> Iterable[Entry]:
        """The entries behind `after`, in order. Raises CorruptEntry."""

    def entries(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Some entries from `first` on. Raises CorruptEntry."""


class Start(NamedTuple):
    """What a node begins with. `history`: the members by the log; `stamp_ms`: its last stamp, time goes on from it."""

    model: Model
    hard: HardState
    tail: Tail
    history: list[tuple[int, Members]]
    stamp_ms: int

    def raft(self, node: int, timing: Timing, random: Random, now_ms: int) -> Raft:
        """The node's part in the consensus, which goes on where it was."""
        raft = Raft(node, self.hard, self.tail, self.history[-1][1], timing, random, now_ms)
        raft.history = self.history
        return raft


def recover(disk: Disk, found: Recovered, first: Members, cache_bytes: int, folder: Path | None) -> Start:
    """The log is taken in when it is known how far it is committed. `first`: the members, if the log names none.

    `folder`: where damage is noted, in a cluster; None: nobody else has the log. Raises CorruptEntry, CorruptRow.
    """
    model = model_of(disk, found)
    known = checkpoint.Consensus(0, 0, [(0, first)])
    if found.consensus is not None:
        known = checkpoint.unpack_consensus(found.consensus)
    tail = Tail(known.floor, known.term, disk.entries, cache_bytes)
    seen = _Seen(disk.replay, known.history)
    if folder is not None:
        tail = Damage(folder, disk).recall(tail, seen.replay, model.state.applied)
    else:
        tail.recall(seen.replay(tail.floor))
    tail.commit = tail.applied = model.state.applied
    return Start(model, found.hard, tail, known.history, max(seen.stamp_ms, model.state.stamp_ms))


def model_of(disk: Reader, found: Recovered) -> Model:
    """The model as of the last checkpoint."""
    model = Model(disk)
    checkpoint.restore(model, found.meta, found.queues, found.sessions)
    return model


def first_members(nodes: Iterable[int], me: int, joins: bool) -> Members:
    """Of a log without any change of members: those of the configuration. One who joins later does not vote yet."""
    voters = tuple(sorted(nodes)) or (me,)
    return Members(tuple(node for node in voters if node != me), (me,)) if joins else Members(voters)


class _Seen:
    """Notes what the entries tell on their way: changes of members, and how late it was."""

    def __init__(self, read: Callable[[int], Iterable[Entry]], history: list[tuple[int, Members]]) -> None:
        self.stamp_ms = 0
        self._read = read
        self._history = history

    def replay(self, after: int) -> Iterator[Entry]:
        for entry in self._read(after):
            if isinstance(entry.command, SetMembers) and entry.index > self._history[-1][0]:
                self._history.append((entry.index, Members(entry.command.voters, entry.command.learners)))
            self.stamp_ms = max(self.stamp_ms, entry.stamp_ms)
            yield entry
