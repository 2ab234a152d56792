"""penstock events."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

import click

from ..peers.errors import NoQuorum, Timeout
from . import output
from .exits import OK, SIGNALLED, stop_by_signal
from .options import Options, Verb

if TYPE_CHECKING:
    from ..client import Event, Watch

NOT_ALL_CAME = 6  # the exit code when the time ran out first
COLUMNS = ("cursor", "at", "type", "queue", "first", "count", "more")


@click.command(cls=Verb)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--after", default="now", show_default=True, help="Begin behind this cursor; `earliest`: all there is.")
@click.option("-n", "--number", default=0, type=click.IntRange(min=0), help="End after so many.  [default: never]")
@click.pass_obj
def events(options: Options, patterns: tuple[str, ...], after: str, number: int) -> int:
    """What happens, as it happens: queues, groups, jobs, schedules, sessions, members; only types that are like a
    PATTERN, if any is given, such as 'queue.*' or job.failed.

    A line for each: cursor, at, type, queue, first, count, more. Where events were lost, one of the type events.dropped
    says so. A daemon, or a primary, that goes away is waited for: without --timeout for ever. Exit code 6 if --timeout
    runs out before --number have come, or before any has.
    """
    came = 0
    deadline = math.inf if options.timeout is None else time.monotonic() + options.timeout
    with options.connect() as client:
        watch = client.watch(patterns or "*", after=after)
        signals = stop_by_signal(watch.stop)
        while not number or came < number:
            event = _receive(watch, deadline)
            if event is None:
                break
            _tell(event, options.json)
            came += 1
    if signals:
        return SIGNALLED + signals[0]
    return OK if came and came >= number else NOT_ALL_CAME


def _receive(watch: Watch, deadline: float) -> Event | None:
    """The next one. That nobody answers is said once, and waited through."""
    is_away = False
    while True:
        try:
            return watch.receive(None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
        except (NoQuorum, Timeout) as fault:
            if time.monotonic() >= deadline:
                raise
            if not is_away:
                output.note(f"{fault.message}; events go on once there is one")
            is_away = True


def _tell(event: Event, as_json: bool) -> None:
    """At once, and as a line also on a terminal: a table knows its columns' widths at its end."""
    row = output.jsonable(event)
    if as_json:
        output.say_json(row)
    else:
        row |= {"more": event.more or None, "first": event.first if event.count else None, "count": event.count or None}
        output.say("\t".join(output.cell(row[column]) for column in COLUMNS))
    sys.stdout.flush()
