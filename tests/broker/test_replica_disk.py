"""A node that follows: what it is told by words of others, and what it writes."""

from __future__ import annotations

from random import Random

from kit.memory import MemoryDisk

from penstock.broker.desk import Limits
from penstock.broker.model import Model
from penstock.broker.node import Node, Turn
from penstock.peers.log import Entry, HardState
from penstock.peers.messages import Count
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.tail import ENTRY_BYTES, Tail
from penstock.peers.raft.words import Append, Members


class Replica:
    """Node 1 of three, which hears a primary."""

    def __init__(self, cache_bytes: int = 1 << 20) -> None:
        self.disk = MemoryDisk()
        self.tail = Tail(0, 0, self.disk.entries, cache_bytes)
        raft = Raft(1, HardState(0, 0), self.tail, Members((1, 2, 3)), Timing(), Random(1), 0)
        about = {"node": 1, "cluster": "test", "primary": "inproc://test", "started_ms": 0}
        self.node = Node(Model(self.disk), raft, self.disk, Random(1), Limits(), about, 0)

    def hear(self, term: int, prev: tuple[int, int], indexes: range, commit: int) -> Turn:
        entries = tuple(Entry(index, term, index, 0, 0, Count(), b"") for index in indexes)
        turn = self.node.turn(10, (), words=[Append(term, 2, *prev, entries, commit, 1, indexes[-1], False)])
        self.disk.commit(turn.writes)
        self.node.durable()
        return turn


def test_rule_3_what_a_replica_has_written_goes_from_its_disk_when_another_primary_has_something_else_there() -> None:
    replica = Replica()
    replica.hear(1, (0, 0), range(1, 6), commit=2)
    assert replica.hear(2, (2, 1), range(3, 5), commit=3).writes.truncate_from == 3
    assert [(entry.index, entry.term) for entry in replica.disk.replay()] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_a_replica_does_not_keep_in_memory_what_is_written_and_applied() -> None:
    replica = Replica(cache_bytes=10 * ENTRY_BYTES)
    for index in range(1, 101):
        replica.hear(1, (index - 1, int(index > 1)), range(index, index + 1), commit=index)
    assert replica.tail.recent(85) is None
    assert replica.tail.recent(100) is not None
