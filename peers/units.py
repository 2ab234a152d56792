"""Durations, sizes and rates as people write them: "10s", "1h30m", "64MiB", "100/s"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from .errors import InvalidArgument, shown

Duration: TypeAlias = float | str | timedelta
SECONDS_MAX = 1e12  # of a duration: what is longer is a mistake, and far longer ones are no integers of the wire

RATE_MAX, RATE_PERIOD_MAX_MS = 10**9, 86_400_000

UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
UNIT_BYTES = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip

_UNITS_DOWN = ("d", "h", "m", "s", "ms")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)")
_RATE = re.compile(r"([1-9]\d*)\s*/\s*(\S+)")


def duration_ms(value: Duration, what: str = "duration") -> int:
    """Milliseconds of a number of seconds, of a text such as "10s", "5m", "1h30m", "7d", or of a timedelta. Never
    negative.

    Raises InvalidArgument, which names `what`.
    """
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds < SECONDS_MAX:
        raise InvalidArgument(
            f"{what} is {shown(value)}, which is no duration",
            'give seconds as a number, a text such as "500ms", "10s", "1h30m", "7d", or a timedelta',
        )
    return round(seconds * 1000)


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    if _DURATION.fullmatch(value.replace(" ", "")):
        return sum(float(n) * UNIT_MS[unit] for n, unit in _PART.findall(value)) / 1000
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None


def duration_text(ms: int) -> str:
    """A duration as people write it: "1h30m". `duration_ms` makes the same of it again."""
    parts = []
    for unit in _UNITS_DOWN:
        if amount := ms // UNIT_MS[unit]:
            parts.append(f"{amount}{unit}")
            ms -= amount * UNIT_MS[unit]
    return "".join(parts) or "0s"


def size_bytes(value: int | str, what: str = "size") -> int:
    """Bytes of an integer or of a text such as "64MiB". Raises InvalidArgument, which names `what`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        if match := _SIZE.fullmatch(value.strip()):
            return round(float(match[1]) * UNIT_BYTES[match[2]])
        if value.isdecimal():
            return int(value)
    raise InvalidArgument(
        f"{what} is {value!r}, which is no size", 'give bytes as an integer, or a text such as "64MiB" or "1GB"'
    )


def rate_of(value: str, what: str = "rate") -> tuple[int, int]:
    """How many in how many milliseconds, out of a text such as "100/s", "10/m" or "3/10s".

    Raises InvalidArgument, which names `what`.
    """
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        number, period = int(match[1]), match[2] if match[2][0].isdigit() else "1" + match[2]
        period_ms = duration_ms(period) if _DURATION.fullmatch(period) else 0
        if number <= RATE_MAX and 0 < period_ms <= RATE_PERIOD_MAX_MS:
            return number, period_ms
    raise InvalidArgument(
        f"{what} is {shown(value)}, which is no rate",
        f'give a text such as "100/s", "10/m" or "3/10s": at most {RATE_MAX} in at most a day',
    )
