"""penstock job show: what is known of one job, for people and for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import output
from .options import Options

if TYPE_CHECKING:
    from ..client import Job, JobDetails

LINES = 20  # of the log: `penstock job log` prints all
BAR_WIDTH = 20
ARGUMENTS_MAX = 1000  # characters
STEP_COLUMNS = ("at", "what", "attempt", "by", "reason")
APART = ("history", "lines")  # told after the facts


def show_job(job: Job, options: Options) -> None:
    """One object with --json. Otherwise its facts, then `history` and the end of `log`, each line with that name."""
    details = job.describe()
    if options.json:
        output.say_json(details)
        return
    output.one(dict(_facts(details)), as_json=False)
    output.section("history", _steps(details), STEP_COLUMNS)
    earlier = details.dropped + len(details.lines[:-LINES])
    if earlier:
        output.note(f"{earlier} earlier lines: penstock job log {details.id}")
    output.section("log", ({"line": line} for line in details.lines[-LINES:]), ("line",))


def _facts(details: JobDetails) -> Iterator[tuple[str, Any]]:
    """What there is, times as people read them."""
    for name, value in output.jsonable(details).items():
        if name in APART or value in (None, [], {}) or (name in ("dropped", "priority") and not value):
            continue
        if name == "size" and details.arguments is not None:
            continue
        if name == "error":
            yield "error", f"{value.get('type', 'Error')}: {value.get('message', '')}"
        elif name.endswith("_ms") and name != "time_limit_ms":
            yield name.removesuffix("_ms"), _clock(value)
        elif name == "progress":
            yield "progress", f"{value:.0%}{_bar(value)}"
        elif name == "arguments":
            text = output.cell(value)
            yield name, text if len(text) <= ARGUMENTS_MAX else f"{text[:ARGUMENTS_MAX]}... (--json has all)"
        else:
            yield name, value


def _bar(fraction: float) -> str:
    """A bar behind the number, for people."""
    full = round(BAR_WIDTH * fraction)
    return f"  [{'#' * full}{'.' * (BAR_WIDTH - full)}]" if sys.stdout.isatty() else ""


def _steps(details: JobDetails) -> Iterator[dict[str, Any]]:
    for step in details.history:
        yield {**output.jsonable(step), "at": _clock(step.at_ms)}


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")
