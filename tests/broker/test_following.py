"""A node that follows: what it is told by words of others, and what it writes."""

from __future__ import annotations

from random import Random

import pytest
from sim.disk import Disk
from sim.machine import Config, Machine, address_of

from penstock.broker import node as broker_node
from penstock.broker.desk import Limits
from penstock.broker.model import Model
from penstock.broker.node import Node, Turn
from penstock.broker.outbox import Message
from penstock.peers import wire
from penstock.peers.log import Entry, HardState
from penstock.peers.messages import Count, SetMembers
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.tail import ENTRY_BYTES, Tail
from penstock.peers.raft.words import Append, Appended, Members, Vote
from penstock.testing.memory import MemoryDisk


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


def test_a_node_that_was_away_keeps_its_channels_to_those_of_its_configuration_whatever_its_old_log_says() -> None:
    """Else nobody could tell it that one who was gone by its log is the primary."""
    config = Config(1, {node: address_of(node) for node in (1, 2, 3)}, joins=False)
    machine = Machine(config, Disk(), Timing(), Random(1), 0)
    change = Entry(1, 1, 1, 0, 0, SetMembers((1, 3), (), tuple((n, *address_of(n)) for n in (1, 3, 4))), b"")
    machine.wires.heard.append(Append(1, 3, 0, 0, (change,), 1, 1, 1, False))
    machine.settle(machine.turn(10), 10)
    machine.settle(machine.turn(20), 20)
    assert machine.raft.members.voters == (1, 3)
    assert machine.wires.known >= {2, 3}


@pytest.mark.parametrize(("bound", "most"), [("UNCOMMITTED_MAX", 20), ("UNCOMMITTED_BYTES", 2_000)])
def test_rule_17_clients_are_not_heard_while_too_much_waits_for_the_majority(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(broker_node, bound, most)
    primary = Machine(
        Config(1, {node: address_of(node) for node in (1, 2, 3)}, joins=False), Disk(), Timing(), Random(1), 0
    )
    now_ms = 2_000
    for pre in (True, False):
        play(primary, now_ms)
        primary.wires.heard += [Vote(1, 2, True, pre), Vote(1, 3, True, pre)]
    play(primary, now_ms)
    for number in range(100):
        primary.clients.append((b"c%d" % number, wire.request("hello", 0, {"version": 1, "client": "c"})))
        play(primary, now_ms)
    assert primary.node.is_crowded
    last = primary.raft.tail.last
    assert last - primary.raft.tail.commit <= 40
    assert primary.clients
    primary.wires.heard.append(Appended(1, 2, last, primary.raft.round))
    play(primary, now_ms)
    assert not primary.node.is_crowded
    play(primary, now_ms)
    assert primary.raft.tail.last > last


def test_rule_7_the_id_of_a_node_that_was_removed_is_never_given_again() -> None:
    lone = Machine(Config(1, {1: address_of(1)}, joins=False), Disk(), Timing(), Random(1), 0)
    route, (client, listen, publish, *_) = b"operator", address_of(2)
    add = {"node": 2, "client": client, "listen": listen, "publish": publish}
    asks = [
        ("hello", 0, {"version": 1}),
        ("cluster_add", 1, add),
        ("cluster_remove", 2, {"node": 2}),
        ("cluster_add", 3, add),
    ]
    answers = []
    play(lone, 0)
    for ask in asks:
        lone.clients.append((route, wire.request(*ask)))
        answers += [wire.parse_reply(frames) for _, frames in play(lone, 10)]
    assert [answer.status for answer in answers] == ["ok", "ok", "ok", "InvalidArgument"]
    assert "never used again" in answers[-1].body["hint"]


def play(machine: Machine, now_ms: int) -> list[Message]:
    """One turn, all of it. What clients are told."""
    turn = machine.turn(now_ms)
    machine.publish(turn)
    machine.disk.commit(turn.writes)
    told = machine.written(turn)
    machine.settle(turn, now_ms)
    return told
