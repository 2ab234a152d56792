"""How fast messages are given."""

from __future__ import annotations

import pytest

from penstock.broker.rate import Rate


@pytest.mark.parametrize("rate", [(1, 1_000), (100, 1_000), (10, 60_000), (5_000, 1_000), (1_000_000, 1_000)])
@pytest.mark.parametrize("step_ms", [1, 7, 250])
def test_over_time_as_many_are_given_as_the_rate_allows(rate: tuple[int, int], step_ms: int) -> None:
    messages, period_ms = rate
    allowed, given, now_ms = Rate(), 0, 1_000_000
    end_ms = now_ms + 20 * period_ms
    while now_ms < end_ms:
        some = allowed.allowance(rate, now_ms)
        allowed.take(rate, now_ms, some)
        given += some
        now_ms += step_ms
    burst = max(1, messages * 100 // period_ms)
    assert given <= 20 * messages + burst + 1
    # What is asked for too seldom is lost: no more than a burst is saved up.
    assert given >= 20 * min(messages, burst * period_ms // step_ms) * 0.9 - 1


def test_when_nothing_is_allowed_it_says_when_one_message_is() -> None:
    rate, allowed, now_ms = (10, 1_000), Rate(), 5_000
    allowed.take(rate, now_ms, allowed.allowance(rate, now_ms))
    assert allowed.allowance(rate, now_ms) == 0
    next_ms = allowed.next_ms(rate)
    assert allowed.allowance(rate, next_ms - 1) == 0
    assert allowed.allowance(rate, next_ms) == 1


def test_a_rate_that_was_idle_saves_up_no_more_than_a_burst() -> None:
    rate, allowed = (100, 1_000), Rate()
    assert allowed.allowance(rate, 10**9) == 10
