"""When a schedule falls due: cron lines in a time zone, and intervals.

It reads the time zones of this machine, which may differ from those of another one. So only the primary asks it, and
what it answers goes into the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from ..peers.errors import InvalidArgument, shown
from .schedules import Timing

EVERY_MIN_MS = 1_000
EVERY_MAX_MS = 10 * 365 * 86_400_000
ALIASES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
FIELDS = {
    "second": "second: 0 to 59",
    "minute": "minute: 0 to 59",
    "hour": "hour: 0 to 23",
    "day-of-month": "day of the month: 1 to 31, L (the last one) or LW (the last weekday)",
    "month": "month: 1 to 12 or JAN to DEC",
    "day-of-week": "day of the week: 0 to 7 (0 and 7 are Sunday) or SUN to SAT, 5L (the last Friday), MON#1",
}
HOW = "write minute hour day-of-month month day-of-week, such as '30 2 * * MON-FRI' or '*/15 * * * *', or @daily"


class Calendar:
    """Answers in ms since 1970. Raises InvalidArgument for what is no cron line, and for unknown time zones."""

    def next_ms(self, timing: Timing, after_ms: int) -> int | None:
        """The first due time behind `after_ms`. None: there is none within 50 years."""
        if timing.cron is None:
            periods = max(0, (after_ms - timing.first_ms) // timing.every_ms + 1)
            return timing.first_ms + periods * timing.every_ms
        for at_ms in _times(timing.cron, timing.tz, after_ms):
            # When clocks are set back, a time that was there already comes anew.
            if at_ms > after_ms:
                return at_ms
        return None

    def latest_ms(self, timing: Timing, due_ms: int, now_ms: int) -> int:
        """The last due time up to `now_ms`; `due_ms` is one. Its cost does not grow with how many lie between."""
        if timing.cron is None:
            return now_ms - (now_ms - timing.first_ms) % timing.every_ms
        latest_ms, low_s, high_s = due_ms, due_ms // 1000, now_ms // 1000
        while low_s < high_s:
            middle_s = (low_s + high_s) // 2
            next_ms = self.next_ms(timing, middle_s * 1000)
            if next_ms is not None and next_ms <= now_ms:
                latest_ms, low_s = next_ms, max(middle_s + 1, next_ms // 1000)
            else:
                high_s = middle_s
        return latest_ms

    def first_ms(self, timing: Timing, now_ms: int) -> int:
        """When a new schedule falls due for the first time. Raises InvalidArgument if it never does."""
        if timing.cron is None:
            return now_ms + timing.every_ms
        next_ms = self.next_ms(timing, now_ms)
        if next_ms is None:
            raise _never(timing.cron)
        return next_ms


def _times(cron: str, zone: str, after_ms: int) -> Iterator[int]:
    begin = datetime.fromtimestamp(after_ms // 1000, _zone(zone))
    line = ALIASES.get(cron, cron)
    try:
        times = CronSim(line, begin)
    except CronSimError as fault:
        raise _refusal(cron, line, str(fault)) from fault
    for time in times:
        yield int(time.timestamp()) * 1000


def _zone(zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as fault:
        raise InvalidArgument(
            f"tz is {shown(zone)}, which is no time zone that this node knows", 'give one such as "Europe/Berlin"'
        ) from fault


def _refusal(cron: str, line: str, why: str) -> InvalidArgument:
    """Says which field is wrong, and what would be right."""
    fields = line.split()
    if len(fields) not in (5, 6):
        return InvalidArgument(f"cron is {shown(cron)}, which has {len(fields)} fields: five are right", HOW)
    field = why.removeprefix("Bad ")
    at = list(FIELDS).index(field) - 6 + len(fields)
    if field == "day-of-month" and _is_sound([*fields[: at + 1], "*", fields[at + 2]]):
        return _never(cron)
    return InvalidArgument(f"cron is {shown(cron)}: its {field} is {shown(fields[at])}", f"{FIELDS[field]}; {HOW}")


def _is_sound(fields: list[str]) -> bool:
    """Is only the month to blame, which has no such day?"""
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1))
    except CronSimError:
        return False
    return True


def _never(cron: str) -> InvalidArgument:
    return InvalidArgument(f"cron is {shown(cron)}, which never comes", "name a day that its months have")
