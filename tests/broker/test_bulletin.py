"""What the log of a node of a cluster tells: each change once, and each minute that nobody can be served."""

from collections.abc import Collection
from random import Random

import pytest

from penstock.broker.bulletin import SAY_MS, Bulletin
from penstock.peers.log import HardState
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.standing import Role
from penstock.peers.raft.tail import Tail
from penstock.peers.raft.words import Members

OTHERS = {2, 3}


class Reader:
    """Reads the log of node 1, whose consensus a test sets as it likes."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "penstock.cluster")
        self._caplog = caplog
        tail = Tail(0, 0, lambda first, last, bytes_max: [], 0)
        self.raft = Raft(1, HardState(0, 0), tail, Members((1, 2, 3)), Timing(), Random(1), 0)
        self._bulletin = Bulletin(self.raft, 0)

    def at(self, now_ms: int, connected: Collection[int] = (), awaited: Collection[int] = ()) -> list[str]:
        """The lines of this moment."""
        self._caplog.clear()
        self._bulletin.look(now_ms, connected, awaited)
        return [record.getMessage() for record in self._caplog.records]

    def of(self, primary: int, term: int, role: Role = Role.REPLICA) -> None:
        self.raft.primary, self.raft.term, self.raft.role = primary, term, role


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Reader:
    return Reader(caplog)


def test_the_log_tells_each_primary_once_and_how_long_there_was_none(log: Reader) -> None:
    log.at(0, OTHERS)
    log.of(2, 5)
    assert log.at(300, OTHERS) == ["node 2 is the primary of term 5, after 0.3 s without one"]
    assert log.at(400, OTHERS) == []
    log.of(2, 5, Role.ASKING)
    assert log.at(1000, OTHERS) == ["node 2 is the primary no more: an election follows"]
    log.of(1, 6, Role.PRIMARY)
    assert log.at(1050, OTHERS) == ["node 1, this node, is the primary of term 6, after 0.05 s without one"]


def test_the_log_tells_each_minute_that_there_is_no_primary_and_who_is_missed(log: Reader) -> None:
    log.of(1, 5, Role.PRIMARY)
    log.at(10, OTHERS)
    log.of(0, 5)
    assert log.at(1_000, {2}) == ["node 3 cannot be reached", "node 1 is the primary no more: an election follows"]
    assert log.at(3_999, {2}) == []
    missing = "s, and nothing can be acknowledged: cannot reach 3 of the voters 1, 2, 3"
    assert log.at(4_000, {2}) == [f"no primary since 3 {missing}"]
    assert log.at(4_000 + SAY_MS - 1, {2}) == []
    assert log.at(4_000 + SAY_MS, {2}) == [f"no primary since 63 {missing}"]


def test_the_log_tells_who_comes_and_goes_but_not_that_channels_are_yet_to_be_made(log: Reader) -> None:
    log.of(2, 1)
    assert log.at(0)[1:] == []
    assert log.at(10, {2}) == ["node 2 is connected"]
    assert log.at(3_000, {2}) == ["node 3 cannot be reached"]
    assert log.at(3_001, OTHERS) == ["node 3 is connected"]
    assert log.at(3_002, {3}) == ["node 2 cannot be reached"]


def test_the_log_tells_who_belongs_to_the_cluster_once_that_is_committed(log: Reader) -> None:
    log.of(2, 1)
    log.at(0, OTHERS)
    log.raft.history.append((7, Members((2, 3), (4,))))
    assert log.at(10, OTHERS) == []
    log.raft.tail.commit = 7
    assert log.at(20, {2, 3, 4}) == [
        "the members are: voters 2, 3, learners 4",
        "node 1 was removed from the cluster: stop it; its id is never used again",
        "node 4 is connected",
    ]


def test_the_log_tells_whom_a_new_cluster_waits_for(log: Reader) -> None:
    log.at(0, {2}, {3})
    assert log.at(3_000, {2}, {3}) == [
        "node 3 cannot be reached",
        "a new cluster waits for node 3 since 3 s: start all of them",
    ]


def test_the_log_of_a_node_that_joins_tells_what_it_waits_for(log: Reader) -> None:
    log.raft.history[-1] = (0, Members((2, 3)))
    log.at(0, OTHERS)
    assert log.at(3_000, OTHERS) == ["node 1 belongs to no cluster: it waits for `penstock cluster add 1`"]
