"""penstock job log: the lines that a job has told, and those that it tells from now on."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from ..peers.errors import Timeout
from . import output
from .options import Options

if TYPE_CHECKING:
    from ..client import Job

LOOK_S = 0.5  # between two questions while it runs


def show_log(job: Job, count: int | None, follow: bool, options: Options) -> None:
    """The latest `count` lines (None: all that are kept), then, to `follow`, what comes until the job has ended.

    Raises Timeout if it has not ended within --timeout, NotFound.
    """
    from ..client.outcomes import ENDED

    deadline = None if options.timeout is None else monotonic() + options.timeout
    details = job.describe()
    told = details.dropped  # how many lines of it are gone, or were printed
    if count is not None:
        told = max(told, details.dropped + len(details.lines) - count)
    elif told:
        output.note(f"{told} older lines are gone")
    while True:
        if details.dropped > told:
            output.note(f"{details.dropped - told} lines came and went")
        for line in details.lines[max(0, told - details.dropped) :]:
            output.say_json({"line": line}) if options.json else output.say(line)
        told = details.dropped + len(details.lines)
        if not follow or details.status in ENDED:
            return
        if deadline is not None and monotonic() >= deadline:
            raise Timeout(f"job {job.id} is {details.status} and did not end within the given time", "wait longer")
        with suppress(Timeout):
            job.wait(timeout=LOOK_S)
        details = job.describe()
