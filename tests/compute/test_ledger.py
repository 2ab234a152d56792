"""The books of the runner: what is in hand, and how suspects are told apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.compute.ledger import Group, Ledger, Quarantine


def test_a_batch_is_settled_in_parts() -> None:
    ledger = Ledger()
    batch = ledger.enter(Group("t", ["a", "b", "c"]))
    assert ledger.settle(batch, 1, 2) == ["b", "c"]
    assert (ledger.in_hand, ledger.holds(batch, 0), ledger.holds(batch, 1)) == (1, True, False)
    assert ledger.settle(batch, 0, 1) == ["a"]
    assert (ledger.in_hand, ledger.holds(batch, 0)) == (0, False)


def test_a_suspect_is_taken_out_unless_it_has_ended() -> None:
    ledger = Ledger()
    batch = ledger.enter(Group("t", ["a", "b", "c"]))
    ledger.settle(batch, 0, 1)
    assert ledger.extract(batch, 0, 2) == Group("t", ["b"])
    assert ledger.extract(batch, 0, 2) is None
    assert ledger.extract(7, 0, 1) is None
    assert ledger.extract_all() == [Group("t", ["c"])]
    assert ledger.in_hand == 0


def test_batch_numbers_are_never_used_twice() -> None:
    ledger = Ledger()
    first = ledger.enter(Group("t", ["a"]))
    ledger.extract_all()
    assert ledger.enter(Group("t", ["a"])) != first


def test_suspects_run_one_group_at_a_time() -> None:
    quarantine = Quarantine()
    quarantine.admit([Group("t", ["a"]), Group("t", ["b"])])
    assert quarantine.next() == Group("t", ["a"])
    assert quarantine.next() is None
    quarantine.survived()
    assert quarantine.next() == Group("t", ["b"])
    assert quarantine
    quarantine.survived()
    assert not quarantine


@given(size=st.integers(1, 64), guilty=st.data())
def test_halving_finds_the_one_poison_job(size: int, guilty: st.DataObject) -> None:
    poison = guilty.draw(st.integers(0, size - 1))
    quarantine = Quarantine()
    quarantine.admit([Group("t", list(range(size)))])
    cleared: list[int] = []
    found = None
    while quarantine:
        group = quarantine.next()
        assert group is not None
        if poison in group.messages:
            found = quarantine.died([group])
            if found is not None:
                break
        else:
            cleared.extend(group.messages)
            quarantine.survived()
    cleared.extend(message for group in quarantine.drain() for message in group.messages)
    assert found == poison
    assert sorted(cleared) == [number for number in range(size) if number != poison]
