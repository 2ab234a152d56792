"""The headers that the daemon adds to messages which come from elsewhere: dead letters, and results as messages."""

from __future__ import annotations

from typing import Any

OFFSET, JOB = "penstock-offset", "penstock-job"


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
