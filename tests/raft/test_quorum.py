"""Majorities against a count of every case."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from penstock.peers.raft import quorum

voters_and = st.lists(st.integers(1, 9), min_size=1, max_size=7, unique=True)


@given(voters_and, st.dictionaries(st.integers(1, 12), st.integers(0, 6)))
def test_reached_is_the_highest_number_that_every_member_of_some_majority_has(
    voters: list[int], numbers: dict[int, int]
) -> None:
    majorities = list(combinations(voters, quorum.size(voters)))
    assert quorum.reached(voters, numbers) == max(min(numbers.get(v, 0) for v in majority) for majority in majorities)


@given(voters_and, st.dictionaries(st.integers(1, 12), st.booleans()))
def test_a_vote_is_decided_when_no_missing_vote_can_change_it(voters: list[int], votes: dict[int, bool]) -> None:
    open_votes = sum(1 for voter in voters if voter not in votes)
    yes = sum(1 for voter in voters if votes.get(voter))
    outcomes = {yes + more >= quorum.size(voters) for more in range(open_votes + 1)}
    assert quorum.decided(voters, votes) == (outcomes.pop() if len(outcomes) == 1 else None)


@given(voters_and)
def test_two_majorities_meet_also_when_one_voter_was_added_or_removed(voters: list[int]) -> None:
    for other in ([*voters, 10], voters[1:]):
        if other:
            assert quorum.size(voters) + quorum.size(other) > len({*voters, *other})


def test_nobody_is_no_majority() -> None:
    assert quorum.reached((), {1: 5}) == 0
