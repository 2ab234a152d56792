"""Rule 10: what follows from time alone counts for the primary that saw it; a new one gives everyone time anew."""

from penstock.broker.model import Model
from penstock.peers import messages as m
from penstock.peers import wire
from penstock.peers.log import Entry
from penstock.peers.raft.words import Append, Appended, Vote
from penstock.testing.memory import MemoryDisk

from .test_replica import Replica

LEASE_MS = 5_000
PAYLOAD = wire.pack_payload([b"x"])


def log(*commands: m.Command, stamp_ms: int = 1_000, term: int = 1) -> list[Entry]:
    """An entry for each, of session 1, behind the one that opens it."""
    entries = [Entry(1, term, stamp_ms, 0, 0, m.OpenSession("s", "test", 0), b"")]
    for command in commands:
        payload = PAYLOAD if isinstance(command, m.Append) else b""
        entries.append(Entry(len(entries) + 1, term, stamp_ms, 1, 0, command, payload))
    return entries


LEASED = log(
    m.Create("jobs", "queue", {}),
    m.Append("jobs", 1, len(PAYLOAD), True),
    m.Pull("jobs", "", -1, 1, 1 << 20, LEASE_MS),
)
END_MS = LEASED[-1].stamp_ms + LEASE_MS


def leased_model() -> Model:
    model = Model(MemoryDisk())
    for entry in LEASED:
        model.apply(entry)
    assert [lease.ends_ms for lease in model.state.leases.values()] == [END_MS]
    return model


def expire(model: Model, ends_ms: int, stamp_ms: int) -> bool:
    """Whether the lease is over after that."""
    (lease,) = model.state.leases
    model.apply(Entry(model.state.applied + 1, 1, stamp_ms, 0, 0, m.Expire(lease, ends_ms), b""))
    return not model.state.leases


def test_rule_10_the_end_of_a_lease_is_the_end_that_its_proposer_saw() -> None:
    assert expire(leased_model(), END_MS, END_MS)
    assert not expire(leased_model(), END_MS - 1, END_MS)
    assert not expire(leased_model(), END_MS, END_MS - 1)


def test_rule_10_a_lease_that_was_extended_meanwhile_does_not_end() -> None:
    model = leased_model()
    (lease,) = model.state.leases
    extend = m.Extend((lease,), LEASE_MS)
    model.apply(Entry(model.state.applied + 1, 1, END_MS - 1, 1, 0, extend, b""))
    assert not expire(model, END_MS, END_MS)
    assert expire(model, END_MS - 1 + LEASE_MS, END_MS - 1 + LEASE_MS)


def ends(replica: Replica) -> list[tuple[int, int]]:
    """(index, term) of the ends of leases in its log."""
    return [(it.index, it.term) for it in replica.disk.replay() if isinstance(it.command, m.Expire)]


def follower() -> Replica:
    """It has a lease in its log, from a primary that has gone since."""
    replica = Replica()
    replica.turn(Append(1, 2, 0, 0, tuple(LEASED), len(LEASED), 1, len(LEASED), False))
    assert len(replica.node.desk.state.leases) == 1
    return replica


def elect(replica: Replica, term: int) -> None:
    replica.now_ms = replica.node.raft.next_ms() + 60_000
    replica.turn()
    for pre in (True, False):
        replica.turn(Vote(term, 2, True, pre))
    assert replica.node.raft.is_primary
    replica.node.durable()


def agreed(replica: Replica, ms: int = 0) -> None:
    """Time passes, while another node has everything."""
    end_ms = replica.now_ms + ms
    while True:
        raft = replica.node.raft
        replica.turn(Appended(raft.term, 2, raft.tail.last, raft.round))
        replica.node.durable()
        if replica.now_ms >= end_ms:
            return
        replica.now_ms = min(end_ms, replica.now_ms + 100)


def test_rule_10_a_new_primary_ends_no_lease_before_its_own_entry_is_committed() -> None:
    replica = follower()
    elect(replica, 2)
    for _ in range(8):
        replica.now_ms += 100
        replica.turn(Appended(2, 2, len(LEASED), replica.node.raft.round))  # it lives, and lacks the entry
    assert not replica.node.raft.is_settled
    assert ends(replica) == []


def test_rule_10_a_new_primary_gives_leases_the_time_that_was_left_of_them_anew() -> None:
    """Its own clock is far ahead, and nobody could renew while there was no primary."""
    replica = follower()
    elect(replica, 2)
    agreed(replica)
    assert replica.node.raft.is_settled
    agreed(replica, LEASE_MS - 1_000)
    assert ends(replica) == []
    agreed(replica, 2_000)
    ((index, term),) = ends(replica)
    assert (index > len(LEASED), term) == (True, 2)
    assert replica.node.desk.state.leases == {}


def test_rule_10_what_a_deposed_primary_saw_of_time_goes_with_its_term() -> None:
    replica = follower()
    elect(replica, 2)
    agreed(replica)
    committed = replica.node.raft.tail.commit
    while not ends(replica):
        replica.now_ms += 100
        replica.turn(Appended(2, 2, committed, replica.node.raft.round))
        replica.node.durable()
    assert [term for _, term in ends(replica)] == [2]  # proposed, and nobody else has it
    assert replica.node.desk.state.leases == {}
    noop = Entry(committed + 1, 3, 0, 0, 0, m.Noop(2), b"")
    turn = replica.turn(Append(3, 2, committed, 2, (noop,), committed + 1, 1, committed + 1, False))
    assert turn.deposed
    replica.node.reset(Model(replica.disk), replica.now_ms)
    replica.turn(Append(3, 2, committed + 1, 3, (), committed + 1, 2, committed + 1, False))
    assert ends(replica) == []
    assert len(replica.node.desk.state.leases) == 1
