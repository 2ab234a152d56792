"""When a schedule falls due: cron lines, time zones, the days on which clocks are set."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.cron import ALIASES, Calendar
from penstock.broker.schedules import Timing
from penstock.peers.errors import InvalidArgument

calendar = Calendar()


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def cron(line: str, tz: str = "UTC") -> Timing:
    return Timing(line, tz, 0, 0)


def times(timing: Timing, after: str, count: int) -> list[str]:
    """The next due times, in UTC."""
    found, at_ms = [], ms(after)
    for _ in range(count):
        next_ms = calendar.next_ms(timing, at_ms)
        assert next_ms is not None
        at_ms = next_ms
        found.append(datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%m-%d %H:%M"))
    return found


def test_a_line_of_five_fields() -> None:
    assert times(cron("30 2 * * MON-FRI"), "2026-01-02T12:00", 3) == ["01-05 02:30", "01-06 02:30", "01-07 02:30"]
    assert times(cron("*/20 * * * *"), "2026-01-01T00:00", 3) == ["01-01 00:20", "01-01 00:40", "01-01 01:00"]
    assert times(cron("0 0 L * *"), "2026-01-15T00:00", 3) == ["01-31 00:00", "02-28 00:00", "03-31 00:00"]


@pytest.mark.parametrize("alias", ALIASES)
def test_a_word_stands_for_a_line(alias: str) -> None:
    after_ms = ms("2026-01-01T12:34")
    assert calendar.next_ms(cron(alias), after_ms) == calendar.next_ms(cron(ALIASES[alias]), after_ms)


def test_a_line_is_read_in_its_time_zone() -> None:
    assert times(cron("0 2 * * *", "Europe/Berlin"), "2026-01-01T00:00", 1) == ["01-01 01:00"]
    assert times(cron("0 2 * * *", "America/New_York"), "2026-07-01T00:00", 1) == ["07-01 06:00"]


def test_a_time_that_is_skipped_when_clocks_are_set_forward_comes_as_soon_as_it_can() -> None:
    """In Berlin there is no 02:30 on 2026-03-29: it comes at 03:00, which is 01:00 in UTC."""
    found = times(cron("30 2 * * *", "Europe/Berlin"), "2026-03-27T12:00", 3)
    assert found == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]


def test_a_time_that_comes_twice_when_clocks_are_set_back_counts_once() -> None:
    """In Berlin it is 02:30 twice on 2026-10-25."""
    found = times(cron("30 2 * * *", "Europe/Berlin"), "2026-10-23T12:00", 3)
    assert found == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


def test_asked_within_the_hour_that_comes_twice_the_next_time_still_lies_ahead() -> None:
    for minute in range(0, 180, 7):
        after_ms = ms("2026-10-24T23:30") + minute * 60_000
        for line in ("50 2 * * *", "10 2 * * *", "0 3 * * *", "*/15 * * * *"):
            next_ms = calendar.next_ms(cron(line, "Europe/Berlin"), after_ms)
            assert next_ms is not None
            assert next_ms > after_ms


def test_what_runs_each_hour_runs_each_hour_whatever_clocks_do() -> None:
    found = times(cron("5 * * * *", "Europe/Berlin"), "2026-10-24T23:00", 4)
    assert found == ["10-24 23:05", "10-25 00:05", "10-25 01:05", "10-25 02:05"]


def test_an_interval_counts_from_its_beginning() -> None:
    timing = Timing(None, "UTC", 600, 1_000)
    assert [calendar.next_ms(timing, after) for after in (0, 999, 1_000, 1_599, 1_600)] == [
        1_000, 1_000, 1_600, 1_600, 2_200,
    ]  # fmt: skip
    assert calendar.latest_ms(timing, 1_000, 2_199) == 1_600


@given(
    st.sampled_from(["* * * * *", "30 2 * * *", "*/7 1-3 * * *", "0 0 * * MON", "* * 2 * * *", "0 12 1 */3 *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(0, 400 * 86_400),
    st.integers(0, 3 * 86_400),
)
def test_the_latest_due_time_is_what_counting_them_finds(line: str, tz: str, begin_s: int, span_s: int) -> None:
    timing = cron(line, tz)
    due_ms = calendar.next_ms(timing, ms("2026-01-01T00:00") + begin_s * 1000)
    assert due_ms is not None
    now_ms = due_ms + span_s * 1000 + 500
    latest_ms, next_ms, steps = due_ms, due_ms, 0
    while next_ms is not None and next_ms <= now_ms and steps < 500:
        latest_ms, steps = next_ms, steps + 1
        next_ms = calendar.next_ms(timing, next_ms)
    if steps < 500:
        assert calendar.latest_ms(timing, due_ms, now_ms) == latest_ms


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("61 * * * *", "its minute is '61'"),
        ("* 24 * * *", "its hour is '24'"),
        ("* * 32 * *", "its day-of-month is '32'"),
        ("* * * FOO *", "its month is 'FOO'"),
        ("* * * * 8", "its day-of-week is '8'"),
        ("99 * * * * *", "its second is '99'"),
        ("* * * *", "4 fields"),
        ("@sometimes", "1 fields"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("* * */20 * 1L", "never comes"),
    ],
)
def test_a_line_that_is_none_is_refused_and_its_fault_named(line: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        calendar.first_ms(cron(line), 0)


@given(st.lists(st.text("0123456789*/-,L#WMONSUNJANFEB?", max_size=6), min_size=4, max_size=7).map(" ".join))
def test_no_line_is_answered_with_anything_but_a_time_or_a_refusal(line: str) -> None:
    with suppress(InvalidArgument):
        assert calendar.first_ms(cron(line), ms("2026-01-01T00:00")) > ms("2026-01-01T00:00")


@pytest.mark.parametrize("tz", ["Berlin", "Europe", "../UTC", "/etc/localtime", "", "UTC\0", "x" * 300])
def test_an_unknown_time_zone_is_refused(tz: str) -> None:
    with pytest.raises(InvalidArgument, match="tz is"):
        calendar.first_ms(cron("0 2 * * *", tz), 0)
