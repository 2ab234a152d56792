"""Messages under one lease."""

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from penstock.client.consumer import Consumer
from penstock.client.delivery import Delivery, runs_of
from penstock.client.message import Message
from penstock.peers import wire


class Onlooker:
    """As much of a consumer as a delivery needs."""

    queue = "q"
    MESSAGE = Message


def delivery(*ranges: tuple[int, int], lease: int = 1) -> Delivery:
    bodies = [b"%d" % (first + i) for first, count in ranges for i in range(count)]
    body: dict[str, Any] = {"lease": lease, "ranges": [(first, count, 1, 1000, 0) for first, count in ranges]}
    return Delivery(cast(Consumer, Onlooker()), body, wire.pack_payload(bodies))


some_ranges = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=5).map(
    lambda gaps: [(sum(gap + size for gap, size in gaps[:i]) + gap, size) for i, (gap, size) in enumerate(gaps)]
)


@given(some_ranges, st.data())
def test_offsets_of_a_run_are_those_of_its_messages(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    some = delivery(*ranges)
    end = data.draw(st.integers(1, len(some.messages)))
    first = data.draw(st.integers(0, end - 1))
    found = [start + i for start, count in some.offsets(first, end) for i in range(count)]
    assert found == [message.offset for message in some.messages[first:end]]
    assert found == [int(message.body) for message in some.messages[first:end]]


def test_messages_in_the_order_received_are_one_run_for_each_delivery() -> None:
    one, other = delivery((0, 5)), delivery((5, 3))
    assert runs_of(one.messages + other.messages) == [(one, 0, 5), (other, 0, 3)]


def test_a_part_of_a_delivery_is_one_run() -> None:
    one = delivery((0, 9))
    assert runs_of(one.messages[3:7]) == [(one, 3, 7)]


def test_messages_in_disorder_are_runs_of_neighbours() -> None:
    one = delivery((0, 6))
    a, b, c, d, e, f = one.messages
    assert runs_of([e, f, a, b, d, c]) == [(one, 4, 6), (one, 0, 2), (one, 3, 4), (one, 2, 3)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=20))
def test_runs_name_exactly_the_messages_given(picks: list[tuple[bool, int]]) -> None:
    deliveries = (delivery((0, 6)), delivery((10, 6)))
    messages = [deliveries[which].messages[index] for which, index in picks]
    runs = runs_of(messages)
    assert [run.messages[i] for run, first, end in runs for i in range(first, end)] == messages


def test_what_is_settled_is_settled_once() -> None:
    some = delivery((0, 6))
    assert some.settle(2, 4) == [(2, 4)]
    assert some.settle(0, 6) == [(0, 2), (4, 6)]
    assert some.settle(0, 6) == []


def test_messages_of_a_settled_delivery_can_still_be_named() -> None:
    some = delivery((0, 2))
    messages = some.messages
    some.settle(0, 2)
    assert some.messages == []
    assert runs_of(messages) == [(some, 0, 1), (some, 1, 2)]


def test_nothing_of_a_lost_delivery_can_be_settled() -> None:
    some = delivery((0, 2))
    some.lost_why = "its lease has ended"
    assert some.settle(0, 2) == []
    assert "lease has ended" in str(some.why_lost(0))
