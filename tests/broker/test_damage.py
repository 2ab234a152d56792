"""Damaged log entries: where the log begins behind them, who is asked for a copy, and what is taken as one."""

from pathlib import Path
from random import Random

import pytest

from penstock.broker.damage import Damage, note
from penstock.broker.repair import AGAIN_MS, Repair
from penstock.peers.log import CorruptEntry, Entry, HardState, decode, encode
from penstock.peers.messages import Noop
from penstock.peers.raft.core import Raft, Timing
from penstock.peers.raft.tail import Tail
from penstock.peers.raft.words import Members
from penstock.peers.repair_words import AskEntry, GivenEntry

LAST = 9


def sound(index: int) -> bytes:
    return encode(Entry(index, 1 + index // 5, 0, 0, 0, Noop(), b"body of %d" % index))


class Straw:
    """The entries of a disk, all of them sound at first."""

    def __init__(self, folder: Path) -> None:
        self.rows = {index: sound(index) for index in range(1, LAST + 1)}
        self.damage = Damage(folder, self)

    def raw_entry(self, index: int) -> bytes | None:
        return self.rows.get(index)

    def mend(self, index: int, raw: bytes) -> None:
        self.rows[index] = raw

    def spoil(self, *indexes: int) -> None:
        for index in indexes:
            self.rows[index] = self.rows[index][:-1] + b"?"

    def replay(self, after: int) -> list[Entry]:
        return [decode(index, self.rows.get(index, b"")) for index in range(after + 1, LAST + 1)]

    def recall(self, applied: int) -> Tail:
        return self.damage.recall(Tail(0, 0, lambda first, last, bytes_max: []), self.replay, applied)


@pytest.fixture
def disk(tmp_path: Path) -> Straw:
    return Straw(tmp_path)


def repair(disk: Straw, commit: int = LAST) -> Repair:
    tail = disk.recall(commit)
    tail.commit = commit
    raft = Raft(1, HardState(2, 0), tail, Members((1, 2, 3)), Timing(), Random(1), 0)
    return Repair(raft, disk.damage)


def test_a_sound_log_is_recalled_as_a_whole_and_nothing_is_wanted(disk: Straw) -> None:
    made = repair(disk)
    assert (made.raft.tail.floor, made.raft.tail.last) == (0, LAST)
    assert made.raft.may_lead
    assert made.next_words(0) == []


def test_the_log_begins_behind_what_was_damaged_after_it_was_applied(disk: Straw) -> None:
    disk.spoil(3, 4, 6)
    tail = disk.recall(applied=8)
    assert (tail.floor, tail.last, tail.term_at(7)) == (7, LAST, 2)
    assert disk.damage.damaged() == [3, 4, 6]


@pytest.mark.parametrize("spoilt", [8, 9])
def test_what_may_not_be_committed_or_is_the_last_that_was_applied_stops_the_node(disk: Straw, spoilt: int) -> None:
    disk.spoil(spoilt)
    with pytest.raises(CorruptEntry, match=f"entry {spoilt}"):
        disk.recall(applied=8)


def test_what_is_missing_stops_the_node(disk: Straw) -> None:
    del disk.rows[3]
    with pytest.raises(CorruptEntry, match="entry 3"):
        disk.recall(applied=8)


def test_a_note_outlives_the_process_until_the_entry_is_sound_or_gone(disk: Straw, tmp_path: Path) -> None:
    disk.spoil(2, 5)
    note(tmp_path, [5])
    note(tmp_path, [2])
    again = Damage(tmp_path, disk)
    assert again.damaged() == [2, 5]
    disk.mend(2, sound(2))
    assert again.damaged() == [5]
    del disk.rows[5]
    assert again.damaged() == []
    assert list(tmp_path.iterdir()) == []


def test_rule_24_who_lacks_an_entry_is_not_elected_asks_one_after_the_other_and_takes_a_sound_copy(
    disk: Straw,
) -> None:
    disk.spoil(3)
    made = repair(disk)
    raft = made.raft
    raft.tick(raft.next_ms())
    assert raft.take(0).words == []
    ask = AskEntry(2, 1, 3)
    assert made.next_words(0) == [(2, ask)]
    assert made.wait_ms(0) == AGAIN_MS
    assert made.next_words(AGAIN_MS - 1) == []
    assert made.next_words(AGAIN_MS) == [(3, ask)]
    made.hear([GivenEntry(2, 3, 3, disk.rows[3]), GivenEntry(2, 3, 4, sound(4)), GivenEntry(2, 3, 3, sound(4))])
    assert not raft.may_lead
    made.hear([GivenEntry(2, 2, 3, sound(3))])
    assert disk.rows[3] == sound(3)
    assert raft.may_lead
    assert made.next_words(2 * AGAIN_MS) == []


def test_rule_24_only_what_is_committed_and_sound_is_given(disk: Straw) -> None:
    made = repair(disk, commit=6)
    disk.spoil(2)
    made.hear([AskEntry(2, 3, index) for index in (1, 2, 6, 7, 100)])
    assert made.next_words(0) == [(3, GivenEntry(2, 1, index, sound(index))) for index in (1, 6)]
