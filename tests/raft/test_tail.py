"""The log as consensus sees it, against a plain list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.peers.log import Entry
from penstock.peers.messages import Noop, SetMembers
from penstock.peers.raft.tail import LOGGED_BYTES, Tail, Violation


def entry(index: int, term: int, payload: bytes = b"") -> Entry:
    return Entry(index, term, 0, 0, 0, Noop(), payload)


class Straw:
    """A tail, the disk below it, and the list that both should be."""

    def __init__(self, cache_bytes: int) -> None:
        self.disk: dict[int, Entry] = {}
        self.list: list[Entry] = []
        self.floor = 0
        self.tail = Tail(0, 0, self.read, cache_bytes)

    def read(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        return [self.disk[index] for index in range(first, last + 1)]

    def write(self) -> None:
        truncate_from, entries = self.tail.take_fresh()
        if truncate_from is not None:
            self.disk = {index: held for index, held in self.disk.items() if index < truncate_from}
        for new in entries:
            assert new.index not in self.disk
            self.disk[new.index] = new
        self.tail.stable = self.tail.last


moves = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 5), st.integers(0, 2)),
        st.tuples(st.just("truncate"), st.integers(0, 10), st.just(0)),
        st.tuples(st.just("commit"), st.integers(0, 10), st.just(0)),
        st.tuples(st.just("write"), st.just(0), st.just(0)),
        st.tuples(st.just("floor"), st.integers(0, 10), st.just(0)),
        st.tuples(st.just("restart"), st.integers(0, 3), st.just(0)),
    ),
    max_size=40,
)


@given(moves, st.sampled_from((0, 1500, 1 << 20)))
def test_the_tail_is_a_list_with_a_floor_whatever_is_cached(
    moves: list[tuple[str, int, int]], cache_bytes: int
) -> None:
    straw = Straw(cache_bytes)
    tail, term = straw.tail, 1
    for move, count, rise in moves:
        held = tail.last
        match move:
            case "append":
                term += rise
                new = [entry(held + 1 + at, term, b"%d" % at) for at in range(count)]
                tail.append(new)
                straw.list += new
            case "truncate" if held - count > tail.commit:
                tail.truncate(held - count)
                del straw.list[held - count - 1 :]
            case "commit":
                tail.commit = tail.applied = max(tail.commit, held - count)
            case "write":
                straw.write()
                tail.trim()
            case "floor" if tail.commit - count > tail.floor and tail.commit - count <= tail.stable:
                tail.raise_floor(tail.commit - count)
            case "restart" if count == 3:
                straw.write()
                tail.restart(held + 5, term)
                straw.list += [entry(held + 1 + at, term) for at in range(5)]
                straw.disk = {}
        assert_alike(tail, straw.list)
    straw.write()
    assert [straw.disk[index] for index in range(tail.floor + 1, tail.last + 1)] == straw.list[tail.floor :]


def assert_alike(tail: Tail, plain: list[Entry]) -> None:
    assert tail.last == len(plain)
    for index in range(tail.floor, tail.last + 1):
        assert tail.term_at(index) == (plain[index - 1].term if index else 0)
    assert tail.term_at(tail.floor - 1) is None
    assert tail.term_at(tail.last + 1) is None
    for first in range(tail.floor + 1, tail.last + 1):
        found = tail.entries(first, 900)
        assert found
        assert found == plain[first - 1 : first - 1 + len(found)]


def test_rule_3_an_entry_at_or_below_commit_is_never_truncated() -> None:
    tail = Tail(0, 0, lambda first, last, bytes_max: [])
    tail.append([entry(1, 1), entry(2, 1)])
    tail.commit = 1
    tail.truncate(2)
    with pytest.raises(Violation, match="entry 1 is committed"):
        tail.truncate(1)


def test_what_was_truncated_before_it_was_written_is_not_asked_from_the_disk() -> None:
    tail = Tail(0, 0, lambda first, last, bytes_max: [])
    tail.append([entry(1, 1), entry(2, 1)])
    tail.truncate(2)
    assert tail.take_fresh() == (None, [entry(1, 1)])


def test_a_recalled_change_of_members_is_remembered() -> None:
    change = entry(2, 1)._replace(command=SetMembers((1, 2), ()))
    tail = Tail(0, 0, lambda first, last, bytes_max: [])
    tail.recall([entry(1, 1), change])
    assert tail.changes == [change]
    assert tail.stable == 2


def test_the_bytes_behind_an_index_follow_appends_truncations_and_the_floor() -> None:
    tail = Tail(0, 0, lambda first, last, bytes_max: [])
    assert tail.bytes_after(0) == 0
    tail.append(entry(index, 1, b"x" * 100 * index) for index in range(1, 6))
    each = [LOGGED_BYTES + 100 * index for index in range(1, 6)]
    assert [tail.bytes_after(index) for index in range(7)] == [*(sum(each[at:]) for at in range(6)), 0]
    tail.truncate(4)
    assert tail.bytes_after(1) == sum(each[1:3])
    tail.append([entry(4, 2, b"")])
    tail.commit = tail.applied = 2
    tail.raise_floor(2)
    assert tail.bytes_after(2) == tail.bytes_after(0) == each[2] + LOGGED_BYTES
    assert tail.bytes_after(3) == LOGGED_BYTES
    tail.restart(9, 3)
    assert tail.bytes_after(3) == 0
