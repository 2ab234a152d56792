"""Elections between cores that hear each other at once, as they come."""

from __future__ import annotations

from random import Random

import pytest

from penstock.peers.log import HardState
from penstock.peers.raft.core import Raft, Role, Timing
from penstock.peers.raft.tail import Tail
from penstock.peers.raft.words import Members, Word


def core(node: int) -> Raft:
    return Raft(node, HardState(0, 0), Tail(0, 0, lambda *_: ()), Members((1, 2, 3)), Timing(), Random(node), 0)


def says(raft: Raft, now_ms: int) -> list[tuple[int, Word]]:
    ready = raft.take(now_ms)
    early = [(node, word) for word in ready.early for node in (1, 2, 3) if node != raft.node]
    return early + ready.words


@pytest.mark.parametrize("pair", [(1, 2), (2, 3), (1, 3)])
def test_two_that_ask_at_the_same_moment_do_not_split_the_votes(pair: tuple[int, int]) -> None:
    cores = {node: core(node) for node in pair}  # the third is dead
    now_ms = 2000
    for raft in cores.values():
        raft.tick(now_ms)
        assert raft.role is Role.ASKING
    for _ in range(10):
        words = [word for raft in cores.values() for word in says(raft, now_ms)]
        for to, word in words:
            if to in cores:
                cores[to].step(word, now_ms)
    assert {raft.role for raft in cores.values()} == {Role.PRIMARY, Role.REPLICA}
    assert {raft.term for raft in cores.values()} == {1}


def test_one_who_asked_first_and_got_nowhere_stands_in_nobodys_way() -> None:
    lower, higher = core(1), core(2)
    lower.tick(2000)
    says(lower, 2000)  # all of it is lost
    later_ms = 2000 + lower.timing.heartbeat_ms
    higher.tick(later_ms)
    for to, word in says(higher, later_ms):
        if to == 1:
            lower.step(word, later_ms)
    for to, word in says(lower, later_ms):
        if to == 2:
            higher.step(word, later_ms)
    assert higher.role is Role.CANDIDATE
