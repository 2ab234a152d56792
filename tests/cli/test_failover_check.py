"""What histories of a drill prove."""

import pytest

from penstock.cli.failover_check import Event, gaps, judge

SENT: list[Event] = [("confirmed", 1.0, 0, 2, 0), ("confirmed", 2.0, 2, 1, 2)]


def came(at_s: float, *seen: tuple[int, int, int]) -> Event:
    return ("delivered", at_s, list(seen))


def done(at_s: float, *numbers: int) -> list[Event]:
    return [("asked", at_s, list(numbers)), ("acked", at_s + 0.1, list(numbers))]


ALL = [came(3.0, (0, 0, 1), (1, 1, 1), (2, 2, 1)), *done(3.1, 0, 1, 2)]


def test_what_was_acknowledged_and_completed_is_neither_lost_nor_double() -> None:
    verdict = judge(SENT, ALL, [])
    assert (verdict.acknowledged, verdict.completed, verdict.lost, verdict.duplicates) == (3, 3, 0, 0)
    assert verdict.good


def test_what_was_acknowledged_and_never_came_is_lost() -> None:
    verdict = judge(SENT, [came(3.0, (0, 0, 1), (1, 1, 1)), *done(3.1, 0, 1)], [])
    assert verdict.lost == 1
    assert not verdict.good


def test_what_came_and_was_surely_not_completed_is_lost() -> None:
    denied: list[Event] = [came(3.0, (2, 2, 1)), ("asked", 3.1, [2]), ("denied", 3.2, [2])]
    assert judge(SENT[1:], denied, []).lost == 1


def test_what_came_again_and_was_completed_then_is_not_lost() -> None:
    denied: list[Event] = [came(3.0, (2, 2, 1)), ("asked", 3.1, [2]), ("denied", 3.2, [2])]
    verdict = judge(SENT[1:], [*denied, came(4.0, (2, 2, 2)), *done(4.1, 2)], [])
    assert (verdict.lost, verdict.duplicates) == (0, 0)


def test_an_unclear_completion_may_have_been_one() -> None:
    unclear: list[Event] = [came(3.0, (2, 2, 1)), ("asked", 3.1, [2]), ("unclear", 3.2, [2])]
    assert judge(SENT[1:], unclear, []).good


def test_what_comes_again_after_its_completion_is_a_duplicate() -> None:
    assert judge(SENT, [*ALL, came(5.0, (1, 1, 2))], []).duplicates == 1


def test_what_was_published_once_and_is_at_two_places_is_a_duplicate() -> None:
    assert judge(SENT, [*ALL, came(3.05, (1, 7, 1))], []).duplicates == 1


def test_a_gap_is_the_longest_pause_after_a_kill_and_before_the_next() -> None:
    assert gaps([0.0, 5.0, 6.0, 6.5, 10.0, 10.1], [5.5, 9.0]) == [1.0, 3.5]
    assert gaps([0.0, 1.0, 1.5, 8.0, 8.1], [1.2, 8.05]) == [6.5, pytest.approx(0.1)]


def test_without_a_confirmation_after_a_kill_there_is_no_gap_to_tell() -> None:
    with pytest.raises(ValueError, match="no publish was confirmed"):
        gaps([0.0, 1.0], [2.0])
