"""The headers that the daemon adds to messages: dead letters, results as messages, jobs of schedules, what is lost."""

from __future__ import annotations

from typing import Any

OFFSET, JOB = "penstock-offset", "penstock-job"
SCHEDULE, DUE = "penstock-schedule", "penstock-due"
LOST = "penstock-lost"


def note_that_stays(note: dict[str, Any] | None) -> dict[str, Any]:
    """The headers that a job keeps wherever it goes: which schedule made it, and for which due time."""
    return {name: note[name] for name in (SCHEDULE, DUE) if name in note} if note is not None else {}


def note_at(note: dict[str, Any], by: int) -> dict[str, Any]:
    """The headers of the message that lies `by` behind the one for which they were written."""
    if not by:
        return note
    found = dict(note)
    if OFFSET in note:
        found[OFFSET] += by
    if JOB in note:
        queue, _, offset = note[JOB].rpartition("/")
        found[JOB] = f"{queue}/{int(offset) + by}"
    return found
