"""Majorities. Small enough to be checked against every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def size(voters: Sequence[int]) -> int:
    """How many make a majority."""
    return len(voters) // 2 + 1


def reached(voters: Sequence[int], numbers: Mapping[int, int]) -> int:
    """The highest number that a majority of the voters has reached; who is missing from `numbers` has reached 0."""
    if not voters:
        return 0
    ordered = sorted((numbers.get(voter, 0) for voter in voters), reverse=True)
    return ordered[size(voters) - 1]


def decided(voters: Sequence[int], votes: Mapping[int, bool]) -> bool | None:
    """True: a majority said yes. False: it cannot any more. None: open."""
    yes = sum(1 for voter in voters if votes.get(voter) is True)
    no = sum(1 for voter in voters if votes.get(voter) is False)
    if yes >= size(voters):
        return True
    return False if no > len(voters) - size(voters) else None
