"""RangeSet and the splitting of leases, against sets of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.groups import Group, Lease, Span
from penstock.broker.ranges import RangeSet

offsets = st.sets(st.integers(0, 40))
pairs = st.tuples(st.integers(0, 40), st.integers(1, 8))


def runs(members: set[int]) -> list[tuple[int, int]]:
    """The maximal runs of a set, as half-open ranges."""
    starts = sorted(member for member in members if member - 1 not in members)
    return [(start, next(end for end in range(start, 99) if end not in members)) for start in starts]


def shuffled(members: set[int], seed: int) -> RangeSet:
    """The same set, put together one by one in some order."""
    found = RangeSet()
    for member in sorted(members, key=lambda it: hash((it * 7919 + seed) % 1009)):
        found.add(member, member + 1)
    return found


@given(offsets, st.integers(0, 99))
def test_ranges_neither_overlap_nor_touch_in_whatever_order_they_came(members: set[int], seed: int) -> None:
    found = shuffled(members, seed)
    assert list(found) == runs(members)
    assert found.total == len(members)
    assert len(found) == len(runs(members))


@given(offsets, st.integers(0, 45))
def test_end_and_next_start_of_an_offset(members: set[int], offset: int) -> None:
    found = RangeSet(runs(members))
    inside = [end for start, end in runs(members) if start <= offset < end]
    assert found.end_at(offset) == (inside[0] if inside else None)
    assert found.next_start(offset) == min((start for start, _ in runs(members) if start >= offset), default=None)


@given(offsets, st.integers(0, 45))
def test_cutting_below_an_offset(members: set[int], offset: int) -> None:
    found = RangeSet(runs(members))
    found.cut_below(offset)
    left = {member for member in members if member >= offset}
    assert list(found) == runs(left)
    assert found.total == len(left)


@given(offsets, st.integers(0, 45), st.integers(0, 45))
def test_gaps_are_what_is_not_in_the_set(members: set[int], start: int, end: int) -> None:
    found = RangeSet(runs(members))
    assert list(found.gaps(start, end)) == runs(set(range(start, end)) - members)


@given(offsets)
def test_the_lowest_range_comes_out_first(members: set[int]) -> None:
    found = RangeSet(runs(members))
    assert [found.pop_first() for _ in range(len(found))] == runs(members)
    assert found.total == 0


@given(offsets, st.lists(pairs, min_size=1, max_size=4), st.integers(1, 3))
def test_a_lease_is_split_into_what_is_asked_and_what_is_left(
    held: set[int], ranges: list[tuple[int, int]], each: int
) -> None:
    """None if any of it is not held, or asked for twice. Every offset keeps its history."""
    spans = [
        Span(at, min(at + each, end), at % 5, at % 3) for start, end in runs(held) for at in range(start, end, each)
    ]
    lease = Lease(1, 1, Group("", 0), 1, -1, list(spans), 0, 0)
    history = {offset: (span.attempt, span.failures) for span in spans for offset in range(span.first, span.end)}
    wanted = [offset for first, count in ranges for offset in range(first, first + count)]
    parts = lease.split(tuple(ranges))
    assert lease.spans == spans, "splitting is a question, not a change"
    if len(set(wanted)) < len(wanted) or not set(wanted) <= held:
        assert parts is None
        return
    assert parts is not None
    taken, left = parts
    told = [(offset, span.attempt, span.failures) for span in taken for offset in range(span.first, span.end)]
    assert told == [(offset, *history[offset]) for offset in wanted], "in the order of the ranges"
    rest = [(offset, span.attempt, span.failures) for span in left for offset in range(span.first, span.end)]
    assert rest == [(offset, *history[offset]) for offset in sorted(held - set(wanted))]
