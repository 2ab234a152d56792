"""Places in a topic, as one types them: earliest, latest, an offset, a time, or how long ago."""

from __future__ import annotations

from datetime import datetime
from time import time
from typing import TYPE_CHECKING, Final

import click

from ..peers.errors import InvalidArgument
from ..peers.units import duration_ms

if TYPE_CHECKING:
    from ..client.replay import Start, Stop

WORDS: Final[dict[str, Start]] = {"earliest": "earliest", "latest": "latest"}
STARTS = (*WORDS, "offset", "time")


# Functions, not classes, as click's types: see options.py.
def place(value: str) -> Start:
    """earliest, latest, an offset (42), a time (2026-11-22T10:00, local unless it says more), or so long ago (15m)."""
    return WORDS[value] if value in WORDS else stop(value)


def stop(value: str) -> Stop:
    """As `place`, without the words."""
    return int(value) if value.isdecimal() else moment(value)


def moment(value: str) -> float | datetime:
    """A time: 2026-11-22T10:00 (local unless it says more), so long ago (15m), or seconds since 1970."""
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        pass
    try:
        return time() - duration_ms(value) / 1000
    except InvalidArgument:
        raise click.BadParameter(
            f"{value!r} is no place (give an offset, a time such as 2026-11-22T10:00, or how long ago, such as 15m)"
        ) from None


def start_at(start: str, at: str | None) -> Start:
    """`--start` and `--at` together. Raises BadParameter."""
    if start in WORDS:
        if at is not None:
            raise click.BadParameter(
                f"--at {at} does not go with --start {start}: leave it out, or start at an offset or a time"
            )
        return WORDS[start]
    if at is None:
        raise click.BadParameter(f"--start {start} needs --at")
    if start == "time":
        return moment(at)
    if not at.isdecimal():
        raise click.BadParameter(f"--at {at} is no offset (give a number from 0 on)")
    return int(at)
