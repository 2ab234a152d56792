"""Durations and sizes as people write them."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.peers.errors import InvalidArgument
from penstock.peers.units import UNIT_BYTES, UNIT_MS, Duration, duration_ms, duration_text, rate_of, size_bytes


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        (0, 0), (1, 1_000), (0.25, 250), ("10s", 10_000), ("500ms", 500), ("1h30m", 5_400_000), ("1h 30m", 5_400_000),
        ("7d", 604_800_000), ("2w", 1_209_600_000), ("1.5s", 1_500), ("20", 20_000), ("0.5", 500),
        (timedelta(0), 0), (timedelta(days=1, microseconds=1_500), 86_400_002),
    ],
)  # fmt: skip
def test_durations(written: Duration, ms: int) -> None:
    assert duration_ms(written) == ms


@given(st.integers(0, 10**15 - 1))
def test_a_duration_in_words_is_the_same_one(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


@pytest.mark.parametrize(("ms", "text"), [(0, "0s"), (5_400_000, "1h30m"), (1_209_600_500, "14d500ms")])
def test_a_duration_in_words_is_short(ms: int, text: str) -> None:
    assert duration_text(ms) == text


@pytest.mark.parametrize(
    "written",
    [
        -1, "-1s", "", " ", "s", "1 fortnight", "10S", "1e3s", "1s2", None, True, float("nan"), float("inf"), 1e13,
        b"1s", timedelta(milliseconds=-1), timedelta.max, "9" * 20, "9" * 400 + "w", datetime(2030, 1, 1),
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_by_name(written: object) -> None:
    with pytest.raises(InvalidArgument, match=r"patience is .*, which is no duration"):
        duration_ms(written, "patience")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "size"),
    [(0, 0), (7, 7), ("7", 7), ("64MiB", 64 << 20), ("1GB", 10**9), ("1.5KiB", 1536), ("3 B", 3), ("2TiB", 2 << 40)],
)
def test_sizes(written: int | str, size: int) -> None:
    assert size_bytes(written) == size


@pytest.mark.parametrize("written", [-1, "-1", "", "MiB", "1 mib", "1.5", 1.5, None, True, "1PB", b"1"])
def test_what_is_no_size_is_refused_by_name(written: object) -> None:
    with pytest.raises(InvalidArgument, match=r"room is .*, which is no size"):
        size_bytes(written, "room")  # type: ignore[arg-type]


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNIT_MS)), st.integers(0, 10**6), st.sampled_from(sorted(UNIT_MS)))
def test_parts_of_a_duration_add_up(one: int, unit: str, two: int, other: str) -> None:
    assert duration_ms(f"{one}{unit}{two}{other}") == one * UNIT_MS[unit] + two * UNIT_MS[other]


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNIT_BYTES)))
def test_sizes_are_whole_multiples_of_their_unit(number: int, unit: str) -> None:
    assert size_bytes(f"{number}{unit}") == number * UNIT_BYTES[unit]


@pytest.mark.parametrize(
    ("written", "rate"),
    [("100/s", (100, 1000)), ("10/m", (10, 60_000)), ("3 / 10s", (3, 10_000)), ("1/1h30m", (1, 5_400_000))],
)
def test_rates(written: str, rate: tuple[int, int]) -> None:
    assert rate_of(written) == rate


@pytest.mark.parametrize("written", ["", "100", 100, None, "0/s", "-1/s", "1.5/s", "1/", "1/x", "1/0s", "/s", "1/s/s"])
def test_what_is_no_rate_is_refused_by_name(written: object) -> None:
    with pytest.raises(InvalidArgument, match=r"my rate is .*100/s"):
        rate_of(written, "my rate")  # type: ignore[arg-type]
