"""The scheduler: every job goes to one rank once, chunks get smaller towards the end, wide jobs are not starved."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock.compute.batch import AGEING_MS, CHUNK_MAX, FIRST_CHUNK, Assignment, Scheduler, Span, Traits

TASKS = {"map": Traits(), "all": Traits(width=2), "slow": Traits()}


def learned(ranks: int, seconds_each: float) -> Scheduler:
    """A scheduler that knows how long a job of "map" takes."""
    scheduler = Scheduler(ranks, TASKS)
    scheduler.add(99, "map", 1, 10, 0)
    (assignment,) = scheduler.assign(0)
    assert scheduler.ended(assignment.chunk, 1, seconds_each)
    return scheduler


def test_the_first_chunks_of_an_unknown_task_are_small() -> None:
    scheduler = Scheduler(2, TASKS)
    scheduler.add(1, "map", 10_000, 100, 0)
    assert [each.size for each in scheduler.assign(0)] == [FIRST_CHUNK, FIRST_CHUNK]


def test_chunks_are_shares_of_what_waits_and_shrink() -> None:
    scheduler = learned(2, 1e-6)
    scheduler.add(1, "map", 8_000, 8_000, 0)
    assert [each.size for each in scheduler.assign(0)] == [2000, 2000, 2000, 2000]
    scheduler = learned(2, 1e-4)
    scheduler.add(1, "map", 400, 400, 0)
    assert [each.size for each in scheduler.assign(0)] == [100, 75, 57, 42]


def test_a_chunk_takes_no_longer_than_its_time() -> None:
    scheduler = learned(2, 0.01)
    scheduler.add(1, "map", 1_000, 1_000, 0)
    assert {each.size for each in scheduler.assign(0)} == {5}


def test_a_chunk_is_no_larger_than_its_limits() -> None:
    scheduler = learned(1, 1e-9)
    scheduler.add(1, "map", 100_000, 100_000, 0)
    assert scheduler.assign(0)[0].size == CHUNK_MAX
    scheduler = learned(1, 1e-9)
    scheduler.add(1, "map", 100, 100 << 20, 0)
    assert scheduler.assign(0)[0].size == 8


def test_long_jobs_are_not_stacked_on_a_rank() -> None:
    scheduler = learned(2, 1.0)
    scheduler.add(1, "map", 10, 10, 0)
    assert [(each.ranks, each.size) for each in scheduler.assign(0)] == [((1,), 1), ((0,), 1)]


def test_two_chunks_of_short_jobs_are_in_flight_on_each_rank() -> None:
    scheduler = learned(3, 1e-3)
    scheduler.add(1, "map", 1000, 1000, 0)
    assert Counter(each.ranks for each in scheduler.assign(0)) == {(0,): 2, (1,): 2, (2,): 2}


def test_a_wide_job_takes_free_ranks_and_leaves_rank_0_free() -> None:
    scheduler = Scheduler(3, TASKS)
    scheduler.add(1, "all", 1, 10, 0)
    scheduler.add(2, "map", 2, 10, 0)
    wide, narrow = scheduler.assign(0)
    assert (wide.ranks, narrow.ranks) == ((1, 2), (0,))


def test_independent_jobs_pass_a_wide_one_that_has_to_wait() -> None:
    scheduler = learned(2, 1.0)
    scheduler.add(1, "map", 1, 10, 0)
    (first,) = scheduler.assign(0)
    scheduler.add(2, "all", 1, 10, 0)
    scheduler.add(3, "map", 1, 10, 0)
    assert [each.batch for each in scheduler.assign(1)] == [3]
    assert first.batch == 1


def test_an_aged_wide_job_holds_ranks_free_until_it_fits() -> None:
    scheduler = learned(2, 1.0)
    scheduler.add(1, "map", 1, 10, 0)
    (first,) = scheduler.assign(0)
    scheduler.add(2, "all", 1, 10, 0)
    scheduler.add(3, "map", 5, 10, 0)
    (second,) = scheduler.assign(1)
    assert scheduler.ended(second.chunk, 1, 1.0)
    assert scheduler.assign(1 + AGEING_MS) == []
    assert scheduler.ended(first.chunk, 1, 1.0)
    (wide,) = scheduler.assign(2 + AGEING_MS)
    assert (wide.batch, wide.ranks) == (2, (0, 1))


def test_a_chunk_may_end_in_parts() -> None:
    scheduler = Scheduler(1, TASKS)
    scheduler.add(1, "map", 6, 10, 0)
    (assignment,) = scheduler.assign(0)
    assert assignment.size == 3
    assert not scheduler.ended(assignment.chunk, 2, 0.2)
    assert scheduler.ended(assignment.chunk, 1, 0.1)


def test_what_has_not_begun_can_be_dropped() -> None:
    scheduler = Scheduler(1, TASKS)
    scheduler.add(1, "map", 10, 10, 0)
    scheduler.assign(0)
    assert scheduler.drop() == [Span(1, FIRST_CHUNK, 10 - FIRST_CHUNK)]
    assert scheduler.drop() == []


@given(
    ranks=st.integers(2, 5),
    batches=st.lists(st.tuples(st.sampled_from(["map", "slow", "all"]), st.integers(1, 60)), max_size=8),
    choices=st.randoms(use_true_random=False),
)
def test_every_job_is_given_out_once_and_ranks_are_never_overloaded(
    ranks: int, batches: list[tuple[str, int]], choices: object
) -> None:
    scheduler = Scheduler(ranks, TASKS)
    for number, (name, count) in enumerate(batches):
        scheduler.add(number, name, count, count, 0)
    given_out: Counter[tuple[int, int]] = Counter()
    running: list[Assignment] = []
    now_ms = 0
    while assigned := scheduler.assign(now_ms) or running:
        if assigned is not running:
            running.extend(assigned)
            for each in assigned:
                given_out.update((each.batch, each.first + place) for place in range(each.size))
        load = Counter(rank for each in running for rank in each.ranks)
        wide = {rank for each in running if len(each.ranks) > 1 for rank in each.ranks}
        assert all(count <= (1 if rank in wide else 2) for rank, count in load.items())
        ended = running.pop(choices.randrange(len(running)))  # type: ignore[attr-defined]
        assert scheduler.ended(ended.chunk, ended.size, ended.size * 1e-3)
        now_ms += 100
    assert given_out == {(number, place): 1 for number, (_, count) in enumerate(batches) for place in range(count)}
