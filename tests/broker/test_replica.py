"""A node of three, turn by turn: what it applies when, and what it tells clients who need the primary."""

from random import Random
from typing import Any

import msgpack
import pytest

from penstock.broker import cluster
from penstock.broker.cluster import cluster_info
from penstock.broker.desk import Limits
from penstock.broker.events import TYPES
from penstock.broker.model import Model
from penstock.broker.node import FLOOR_STEP, Node, Turn
from penstock.broker.outbox import Message
from penstock.broker.requests import Proposal
from penstock.broker.trim import KEPT_ENTRIES
from penstock.peers import wire
from penstock.peers.errors import InvalidArgument
from penstock.peers.log import Entry, HardState
from penstock.peers.messages import Address, Create, Noop, Pause, SetMembers
from penstock.peers.raft.core import APPLY_BYTES, Raft, Timing
from penstock.peers.raft.tail import Tail
from penstock.peers.raft.words import Append, Appended, Members, Vote
from penstock.testing.memory import MemoryDisk

ADDRESSES = {node: Address(f"ipc://c{node}", f"ipc://l{node}", f"ipc://p{node}") for node in (1, 2, 3)}


class Replica:
    """Node 1 of three. `turn` makes durable what it says, and begins anew from there when it was deposed."""

    def __init__(self, **limits: int) -> None:
        self.disk = MemoryDisk()
        self.now_ms = 0
        self.said: list[Message] = []
        tail = Tail(0, 0, self.disk.entries)
        raft = Raft(1, HardState(0, 0), tail, Members((1, 2, 3)), Timing(), Random(1), 0)
        about = {"node": 1, "cluster": "test", "primary": "ipc://c1", "started_ms": 0}
        self.node = Node(Model(self.disk), raft, self.disk, Random(2), Limits(**limits), about, 0, ADDRESSES)
        self.node.begin(0)

    def turn(self, *words: Any, **more: Any) -> Turn:
        turn = self.node.turn(self.now_ms, more.pop("heard", ()), (), words, **more)
        self.disk.commit(turn.writes)
        self.said += turn.messages
        if turn.deposed:
            self.node.reset(Model(self.disk), self.now_ms)
        return turn

    def told(self, **more: Any) -> wire.Reply:
        """What a client is told that wants to say hello."""
        hello = (b"client", _frames("hello", 0, {"version": 1, "client": "test"}))
        ((_, frames),) = self.turn(heard=[hello], **more).messages
        return wire.parse_reply(frames)

    def elect(self) -> None:
        """It becomes the primary of term 1; all have its first entry."""
        self.now_ms = self.node.raft.next_ms()
        self.turn()
        for pre in (True, False):
            self.turn(Vote(1, 2, True, pre))
        assert self.node.raft.is_primary
        self.node.durable()
        self.turn(Appended(1, 2, 1, 1), Appended(1, 3, 1, 1))

    def ask(self, op: str, sequence: int = -1) -> wire.Reply:
        """A client that only reads asks this; the answer, that comes in a later turn."""
        self.turn(heard=[(b"reader", _frames("hello", 0, {"version": 1, "client": "test", "read_only": True}))])
        self.turn(heard=[(b"reader", _frames(op, sequence, {}))])
        while self.node.wait_ms(self.now_ms) == 0:
            if messages := self.turn().messages:
                ((_, frames),) = messages
                return wire.parse_reply(frames)
        raise AssertionError("it has no answer")


def _frames(op: str, sequence: int, args: dict[str, Any]) -> list[bytes]:
    return [b"PS1", msgpack.packb([op, sequence, args])]


def heartbeat(sender: int = 2, round: int = 1) -> Append:
    return Append(1, sender, 0, 0, (), 0, round, 0, False)


def test_a_replica_that_may_not_apply_everything_in_one_turn_asks_for_the_next_at_once() -> None:
    replica = Replica()
    entries = [Entry(index, 1, 0, 0, 0, Noop(), b"x" * (APPLY_BYTES // 2)) for index in range(1, 6)]
    replica.turn(Append(1, 2, 0, 0, tuple(entries), 5, 1, 5, False))
    assert replica.node.desk.state.applied < replica.node.raft.tail.commit == 5
    while replica.node.wait_ms(replica.now_ms) == 0:
        replica.turn()
    assert replica.node.desk.state.applied == 5


def test_a_primary_whose_own_fsync_is_the_last_to_count_makes_the_checkpoint_that_clients_wait_for_at_once() -> None:
    replica = Replica(checkpoint_entries=3)
    replica.elect()
    node = replica.node
    while not node.is_crowded:
        node.desk.propose(0, 0, Noop())
        replica.turn()
    last = node.raft.tail.last
    replica.turn(Appended(1, 2, last, node.raft.round))  # before our own is written
    node.durable()
    assert node.wait_ms(replica.now_ms) == 0
    assert replica.turn().writes.checkpoint is not None
    assert not node.is_crowded


def test_clients_are_not_sent_to_a_primary_whose_channel_broke() -> None:
    replica = Replica()
    replica.turn(heartbeat())
    assert replica.told().body["endpoint"] == "ipc://c2"
    told = replica.told(broken=[2])
    assert (told.status, told.body.get("endpoint")) == ("NoQuorum", None)
    replica.turn(heartbeat(round=2))  # it had only lost its connection
    assert replica.told().body["endpoint"] == "ipc://c2"


def test_a_primary_that_loses_the_channels_to_all_others_says_no_quorum_within_two_heartbeats() -> None:
    replica = Replica()
    replica.elect()
    replica.turn(broken=[2, 3])
    assert replica.node.raft.is_primary
    replica.now_ms += 2 * Timing().heartbeat_ms
    assert replica.told().status == "NoQuorum"


def test_a_primary_that_only_loses_connections_for_a_moment_goes_on() -> None:
    replica = Replica()
    replica.elect()
    replica.turn(broken=[2, 3])
    replica.now_ms += Timing().heartbeat_ms
    replica.turn(Appended(1, 3, 1, replica.node.raft.round))
    replica.now_ms += Timing().heartbeat_ms
    replica.turn()
    assert replica.node.raft.is_primary


@pytest.mark.parametrize("count", [10, KEPT_ENTRIES + 10, KEPT_ENTRIES + FLOOR_STEP + 10])
def test_a_snapshot_of_a_replica_is_a_checkpoint_of_all_it_has_and_cuts_its_log(count: int) -> None:
    replica = Replica()
    entries = [Entry(index, 1, 0, 0, 0, Noop(), b"x" * 10) for index in range(1, count + 1)]
    replica.turn(Append(1, 2, 0, 0, tuple(entries), count, 1, count, False))
    while replica.node.wait_ms(replica.now_ms) == 0:
        replica.turn()
    used_bytes = replica.disk.usage()["used_bytes"]
    told = replica.ask("snapshot")
    floor = max(0, count - KEPT_ENTRIES)
    assert (told.status, told.sequence) == ("ok", -1)
    freed_bytes = used_bytes - replica.disk.usage()["used_bytes"]
    wanted = {"node": 1, "applied": count, "floor": floor, "entries": floor, "freed_bytes": freed_bytes, "ms": 0}
    assert told.body == wanted
    assert (freed_bytes > 0) == (floor > 0)
    assert sorted(replica.disk.log) == list(range(floor + 1, count + 1))
    assert replica.ask("snapshot").body == wanted | {"entries": 0, "freed_bytes": 0}


def test_a_snapshot_of_a_primary_waits_until_all_it_has_is_committed() -> None:
    replica = Replica()
    replica.elect()
    node = replica.node
    node.desk.propose(0, 0, Noop())
    replica.turn(heard=[(b"reader", _frames("hello", 0, {"version": 1, "client": "test", "read_only": True}))])
    replica.turn(heard=[(b"reader", _frames("snapshot", -1, {}))])
    node.durable()
    assert node.wait_ms(replica.now_ms) > 0
    replica.turn(Appended(1, 3, node.raft.tail.last, node.raft.round))
    assert node.wait_ms(replica.now_ms) == 0
    replica.turn()
    replica.turn(Appended(1, 3, node.raft.tail.last, node.raft.round))
    told = [wire.parse_reply(frames) for _, frames in replica.said if wire.parse_reply(frames).sequence == -1]
    assert [reply.body["applied"] for reply in told] == [node.raft.tail.last]


def change(replica: Replica, change: Proposal) -> SetMembers:
    replica.node.desk.propose(0, 0, change.command)
    assert isinstance(change.command, SetMembers)
    return change.command


def rows_of(replica: Replica) -> list[tuple[Any, ...]]:
    """(node, match, lag, heard_ms) of all members, as the node tells them now."""
    info = cluster_info(replica.node.raft, replica.node.desk.state, set(), replica.now_ms)
    return [(row["node"], row["match"], row["lag"], row["heard_ms"]) for row in info["members"]]


def test_how_far_a_node_is_that_has_not_answered_since_the_election_is_not_known() -> None:
    replica = Replica()
    assert rows_of(replica) == [(node, None, None, None) for node in (1, 2, 3)], "a replica does not know"
    replica.elect()
    assert rows_of(replica) == [(1, 1, 0, 0), (2, 1, 0, 0), (3, 1, 0, 0)]
    replica.node.raft.peers[3].match = replica.node.raft.peers[3].round = 0
    assert rows_of(replica)[2] == (3, None, None, 0)


def test_when_a_node_was_heard_to_which_the_channel_broke_is_not_told_as_a_number() -> None:
    replica = Replica()
    replica.elect()
    replica.turn(broken=(3,))
    assert rows_of(replica)[2] == (3, 1, 0, None)


def test_nobody_joins_a_node_that_no_other_node_could_find() -> None:
    replica = Replica()
    replica.elect()
    raft, state = replica.node.raft, replica.node.desk.state
    state.addresses = {}
    where = {"client": "ipc://c4", "listen": "ipc://l4", "publish": "ipc://p4"}
    with pytest.raises(InvalidArgument, match="node 1 was started alone") as refused:
        cluster.add(raft, state, {}, {"node": 4, **where}, replica.now_ms)
    assert "[[cluster.peer]]" in refused.value.hint


def test_the_only_one_with_a_vote_is_not_removed() -> None:
    replica = Replica()
    replica.elect()
    raft, state = replica.node.raft, replica.node.desk.state
    raft.history.append((1, Members((1,), (2,))))
    with pytest.raises(InvalidArgument, match="node 1 is the only one with a vote"):
        cluster.remove(raft, state, {}, {"node": 1}, replica.now_ms)


def test_rule_7_a_change_of_members_tells_on_which_disk_each_of_them_is() -> None:
    replica = Replica()
    replica.elect()
    raft, state = replica.node.raft, replica.node.desk.state
    where = {"client": "ipc://c4", "listen": "ipc://l4", "publish": "ipc://p4"}
    disks = {1: 101, 2: 102, 3: 103, 4: 104}
    added = change(replica, cluster.add(raft, state, {1: 101, 2: 102, 3: 103}, {"node": 4, **where}, replica.now_ms))
    assert added.disks == ((1, 101), (2, 102), (3, 103))
    assert state.disks == {1: 101, 2: 102, 3: 103}
    replica.turn()
    replica.turn(*(Appended(1, node, raft.tail.last, raft.round) for node in (2, 3, 4)))
    assert cluster.promotion(raft, state, {1: 101, 2: 102, 3: 103}, replica.now_ms) is None, (
        "nobody knows where 4 would vote from"
    )
    promoted = cluster.promotion(raft, state, {**disks, 2: 999}, replica.now_ms)
    assert promoted is not None
    assert promoted.voters == (1, 2, 3, 4)
    assert promoted.disks == ((1, 101), (2, 102), (3, 103), (4, 104)), "what the log has said once stays"


def test_rule_6_a_member_leaves_only_if_a_majority_of_those_that_stay_is_alive() -> None:
    replica = Replica()
    replica.elect()
    raft, state = replica.node.raft, replica.node.desk.state
    replica.now_ms += raft.timing.election_ms
    replica.turn(Appended(1, 2, 1, raft.round))  # node 3 says nothing any more
    for node in (1, 2):
        with pytest.raises(InvalidArgument, match="nothing was heard of node 3 lately") as refused:
            cluster.remove(raft, state, {}, {"node": node}, replica.now_ms)
        assert "bring node 3 back, or remove the dead first" in refused.value.hint
    assert change(replica, cluster.remove(raft, state, {}, {"node": 3}, replica.now_ms)).voters == (1, 2)


def test_rule_6_a_learner_gets_its_vote_only_if_a_majority_is_alive_then() -> None:
    replica = Replica()
    replica.elect()
    raft, state = replica.node.raft, replica.node.desk.state
    disks = {node: 100 + node for node in (1, 2, 3, 4)}
    where = {"client": "ipc://c4", "listen": "ipc://l4", "publish": "ipc://p4"}
    change(replica, cluster.add(raft, state, disks, {"node": 4, **where}, replica.now_ms))
    replica.turn()
    replica.turn(*(Appended(1, node, raft.tail.last, raft.round) for node in (2, 3, 4)), broken=(3, 4))
    replica.turn()
    assert raft.members.voters == (1, 2, 3), "of four, two would be dead"
    replica.turn(Appended(1, 4, raft.tail.last, raft.round))
    assert raft.members.voters == (1, 2, 3, 4), "of four, one is dead"


def test_rule_19_a_node_that_joins_brings_a_key_where_nodes_have_keys_and_only_there() -> None:
    replica = Replica()
    replica.elect()
    raft, state = replica.node.raft, replica.node.desk.state
    args = {"node": 4, "client": "ipc://c4", "listen": "ipc://l4", "publish": "ipc://p4"}
    with pytest.raises(InvalidArgument, match="speak in the clear"):
        cluster.add(raft, state, {}, {**args, "public_key": "k" * 40}, replica.now_ms)
    for node, key in ((1, "a"), (2, "b"), (3, "c")):
        state.addresses[node] = state.addresses[node]._replace(key=key * 40)
    with pytest.raises(InvalidArgument, match="public_key is missing"):
        cluster.add(raft, state, {}, args, replica.now_ms)
    with pytest.raises(InvalidArgument, match="which is no key"):
        cluster.add(raft, state, {}, {**args, "public_key": "k" * 39}, replica.now_ms)
    with pytest.raises(InvalidArgument, match="that of another node"):
        cluster.add(raft, state, {}, {**args, "public_key": "a" * 40}, replica.now_ms)
    added = change(replica, cluster.add(raft, state, {}, {**args, "public_key": "k" * 40}, replica.now_ms))
    assert added.addresses[3] == (4, "ipc://c4", "ipc://l4", "ipc://p4", "k" * 40)
    assert state.addresses[4].key == raft.addresses[4].key == "k" * 40


def test_how_far_a_member_is_behind_is_told_in_entries_and_in_bytes() -> None:
    replica = Replica()
    replica.elect()
    node = replica.node
    for _ in range(3):
        node.desk.propose(0, 0, Noop(), b"x" * 1000)
    replica.turn()
    replica.turn(Appended(1, 2, 3, node.raft.round))
    members = cluster_info(node.raft, node.desk.state, set(), 0)["members"]
    assert [member["lag"] for member in members] == [0, 1, 3]
    assert members[0]["lag_bytes"] == 0
    assert 1000 < members[1]["lag_bytes"] < 1200
    assert 3000 < members[2]["lag_bytes"] < 3600


def test_what_a_deposed_primary_told_and_nobody_else_has_was_never_told() -> None:
    """A watch is told what a majority holds; the next primary tells its own from the same place on."""
    replica = Replica()
    replica.elect()
    node = replica.node
    sure = node.ring.last
    node.desk.propose(0, 0, Create("ghost", "queue", {}))
    replica.turn()
    assert node.ring.last > sure
    turn = replica.turn(Append(2, 2, 1, 1, (), 1, 1, 1, False))
    assert turn.deposed
    assert node.ring.last <= sure
    assert [it for it in node.ring.after((0, -1), TYPES, 100)[0] if it.queue == "ghost"] == []


def test_who_reads_locally_is_not_shown_what_a_deposed_primary_had_not_committed() -> None:
    replica = Replica()
    replica.elect()
    hello = (b"client", _frames("hello", 0, {"version": 1, "client": "test"}))
    reader = (b"reader", _frames("hello", 0, {"version": 1, "client": "test", "read_only": True}))
    replica.turn(heard=[hello])  # a session, which only this node knows of
    ahead = replica.node.desk.state.applied
    replica.said.clear()
    replica.turn(Append(2, 2, 1, 1, (), 1, 1, 1, False), heard=[reader])
    while replica.node.wait_ms(replica.now_ms) == 0:
        replica.turn()
    answers = {route: wire.parse_reply(frames) for route, frames in replica.said}
    assert answers[b"reader"].body["applied"] < ahead


def test_who_reads_locally_is_shown_nothing_older_than_before_when_a_primary_is_deposed() -> None:
    """Its model begins anew at the checkpoint, and takes in what is committed behind that turn by turn."""
    replica = Replica()
    replica.elect()
    reader = (b"reader", _frames("hello", 0, {"version": 1, "client": "test", "read_only": True}))
    body = b"x" * (APPLY_BYTES // 2)
    for _ in range(4):
        replica.node.desk.propose(0, 0, Noop(), body)
    replica.turn()
    replica.node.durable()
    replica.turn(Appended(1, 2, 5, 1))
    shown = replica.node.desk.state.applied
    replica.said.clear()
    replica.turn(Append(2, 2, 5, 1, (), 5, 1, 5, False), heard=[reader])
    while replica.node.wait_ms(replica.now_ms) == 0:
        replica.turn()
    ((_, frames),) = replica.said
    assert wire.parse_reply(frames).body["applied"] == shown


def test_a_replica_tells_the_same_events_as_its_primary() -> None:
    primary, replica = Replica(), Replica()
    primary.elect()
    for command in (Create("jobs", "queue", {}), Pause("jobs", True), Pause("jobs", False)):
        primary.node.desk.propose(0, 0, command)
    primary.turn()
    primary.node.durable()
    last = primary.node.raft.tail.last
    primary.turn(Appended(1, 2, last, primary.node.raft.round), Appended(1, 3, last, primary.node.raft.round))
    entries = primary.node.raft.tail.entries(1, 1 << 20)
    replica.turn(Append(1, 2, 0, 0, tuple(entries), last, 1, last, False))
    while replica.node.wait_ms(replica.now_ms) == 0:
        replica.turn()
    told = [node.ring.after((0, -1), TYPES, 100) for node in (primary.node, replica.node)]
    assert told[0] == told[1]
    assert [it.type for it in told[0][0]] == ["node.primary", "queue.created", "queue.paused", "queue.resumed"]
