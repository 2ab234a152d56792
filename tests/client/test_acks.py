"""What is said about messages, and what travels together."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.client.acks import GATHER_MAX, AckBatcher, Settlement, joined
from penstock.peers.errors import LeaseLost


def test_acks_of_one_lease_become_one_request_with_joined_ranges() -> None:
    acks = AckBatcher()
    for offset in (4, 2, 3, 9):
        acks.add("ack", 7, {}, [(offset, 1)])
    (settlement,) = acks.take()
    assert settlement.request_args() == {"lease": 7, "ranges": [(2, 3), (9, 1)]}


def test_results_stay_in_the_order_of_their_ranges() -> None:
    acks = AckBatcher()
    acks.add("complete", 7, {}, [(4, 1)], [b"four"])
    acks.add("complete", 7, {}, [(2, 2)], [b"two", b"three"])
    (settlement,) = acks.take()
    assert settlement.request_args()["ranges"] == [(4, 1), (2, 2)]
    assert settlement.bodies == [b"four", b"two", b"three"]


def test_leases_do_not_mix() -> None:
    acks = AckBatcher()
    acks.add("ack", 7, {}, [(1, 1)])
    acks.add("ack", 8, {}, [(2, 1)])
    assert [settlement.lease for settlement in acks.take()] == [7, 8]


def test_nacks_in_other_words_do_not_mix() -> None:
    acks = AckBatcher()
    acks.add("nack", 7, {"delay_ms": 1}, [(1, 1)])
    acks.add("nack", 7, {"delay_ms": 2}, [(2, 1)])
    assert len(acks.take()) == 2


def test_acks_gather_while_some_are_under_way() -> None:
    acks = AckBatcher()
    acks.add("ack", 7, {}, [(1, 1)])
    assert acks.due()
    acks.take()
    acks.add("ack", 7, {}, [(2, 1)])
    assert not acks.due()


def test_many_acks_do_not_wait() -> None:
    acks = AckBatcher()
    acks.add("ack", 7, {}, [(1, 1)])
    acks.take()
    acks.add("ack", 7, {}, [(2, GATHER_MAX)])
    assert acks.due()


def offsets(ranges: Any) -> list[int]:
    return [first + i for first, count in ranges for i in range(count)]


ranges = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), min_size=1, max_size=8)


@given(ranges)
def test_joining_keeps_every_message_in_its_place(given_ranges: list[tuple[int, int]]) -> None:
    assert offsets(joined(given_ranges)) == offsets(given_ranges)


@given(ranges.filter(lambda some: len(offsets(some)) > 1))
def test_halves_say_the_same_about_the_same_messages(given_ranges: list[tuple[int, int]]) -> None:
    bodies = [str(offset).encode() for offset in offsets(given_ranges)]
    whole = Settlement("complete", 7, {}, [])
    whole.add(given_ranges, bodies)
    first, second = whole.halves()
    assert offsets(first.ranges) + offsets(second.ranges) == offsets(given_ranges)
    assert (first.bodies or []) + (second.bodies or []) == bodies
    assert first.count > 0
    assert second.count > 0
    assert len(first.bodies or []) == first.count


def test_the_whole_ends_when_both_halves_have() -> None:
    whole = Settlement("ack", 7, {})
    whole.add([(1, 2)], None)
    first, second = whole.halves()
    error = LeaseLost("gone")
    first.end(error)
    assert not whole.done
    second.end(None)
    assert (whole.done, whole.error) == (True, error)
