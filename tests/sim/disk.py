"""A disk that keeps what was synced and loses a turn that was not: all of it or nothing, as one transaction does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from penstock.peers.log import Entry, HardState
from penstock.peers.raft.words import Members


class Snapshot(NamedTuple):
    """Everything up to `index`, as a node sends it to one that lacks entries which are gone."""

    index: int
    index_term: int
    members: Members
    state: tuple[Entry, ...]


class Writes(NamedTuple):
    """What one turn writes: first the snapshot that came, then the rest in this order, and at the end a checkpoint."""

    snapshot: Snapshot | None
    hard: HardState | None
    truncate_from: int | None
    entries: Sequence[Entry]
    checkpoint: tuple[int, Members] | None


class Disk:
    """Hard state, a checkpoint of the model (here: the list of what was applied) and the log behind it."""

    def __init__(self, members: Members) -> None:
        self.hard = HardState(0, 0)
        self.members = members  # as of the checkpoint
        self.base: list[Entry] = []  # the model at the checkpoint
        self.base_term = 0
        self.log: list[Entry] = []

    @property
    def floor(self) -> int:
        return len(self.base)

    @property
    def last(self) -> int:
        return len(self.base) + len(self.log)

    def term_at(self, index: int) -> int | None:
        """The term of an entry that is held, applied ones included."""
        if not 0 < index <= self.last:
            return 0 if index == 0 else None
        at = index - len(self.base) - 1
        return self.log[at].term if at >= 0 else self.base[index - 1].term

    def read(self, first: int, last: int, bytes_max: int) -> Sequence[Entry]:
        """Entries of a stretch above the checkpoint; few at a time, as a real disk is asked."""
        at = first - self.floor - 1
        assert at >= 0, (first, self.floor)
        return self.log[at : last - self.floor]

    def commit(self, writes: Writes) -> None:
        """One transaction."""
        if writes.snapshot is not None:
            self.base, self.log = list(writes.snapshot.state), []
            self.base_term, self.members = writes.snapshot.index_term, writes.snapshot.members
        if writes.hard is not None:
            assert writes.hard.term >= self.hard.term, (writes.hard, self.hard)
            self.hard = writes.hard
        if writes.truncate_from is not None:
            assert writes.truncate_from > self.floor, (writes.truncate_from, self.floor)
            del self.log[writes.truncate_from - self.floor - 1 :]
        for entry in writes.entries:
            assert entry.index == self.last + 1, (entry.index, self.last)
            self.log.append(entry)
        if writes.checkpoint is not None:
            index, self.members = writes.checkpoint
            count = index - self.floor
            self.base += self.log[:count]
            del self.log[:count]
            self.base_term = self.base[-1].term if self.base else 0

    def snapshot(self) -> Snapshot:
        return Snapshot(self.floor, self.base_term, self.members, tuple(self.base))
