"""Everything there is to say about one job, and what became of it, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..peers.wire import unpack_payload
from .endings import holder_of
from .extents import Extent, Outcome
from .groups import Lease
from .jobs import Jobs
from .notes import ERROR_MAX, Note
from .queues import Queue
from .retries import DEAD
from .state import State

RESERVED = "penstock-"
BODY_MAX = 64 << 10  # bytes: more than this is for who pulls or peeks
AFTER, KEY, TASK, LIMIT = "penstock-after", "penstock-key", "penstock-task", "penstock-time-limit-ms"


def describe_job(
    state: State, queue: Queue, offset: int, now_ms: int, payload: Callable[[int], bytes]
) -> dict[str, Any]:
    """All that is known: what says nothing is nil, 0 or empty."""
    info: dict[str, Any] = {
        "offset": offset, "status": "unknown", "attempt": 0, "failures": 0, "reason": "", "retried_as": None,
        "submitted_ms": 0, "started_ms": 0, "ended_ms": 0, "owner": "", "due_ms": None, "progress": None, "text": "",
        "lines": [], "dropped": 0, "error": None, "parents": [], "key": None, "task": None, "time_limit_ms": None,
        "own_id": None, "priority": 0, "headers": {}, "size": None, "body": None,
    }  # fmt: skip
    jobs = Jobs(state, queue, now_ms)
    info |= jobs.describe(offset)
    if info["status"] == "unknown":
        return info | {"history": []}
    note = queue.notes.at(offset)
    if note is not None:
        info |= {"lines": list(note.lines), "dropped": note.dropped, "error": note.error or None}
        if note.progress is not None:
            info |= {"progress": note.progress[0], "text": note.progress[1]}
        if note.failures and info["status"] == "failed":
            last = note.failures[-1]
            info |= {"reason": last.reason, "owner": last.owner, "started_ms": last.started_ms}
    outcome = queue.outcomes.at(offset)
    if outcome is not None:
        info |= _ended(outcome, payload)
    elif info["status"] != "expired":
        info |= _alive(state, queue, jobs, offset)
    place = _place(queue, offset) or _place_of_letter(state, queue, offset, info.get("dead_offset"))
    if place is not None:
        info |= _message(*place, payload)
    return info | {"history": _history(info, note)}


def _ended(outcome: Outcome, payload: Callable[[int], bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "submitted_ms": outcome.submitted_ms, "started_ms": outcome.started_ms, "ended_ms": outcome.stamp_ms,
        "owner": outcome.owner,
    }  # fmt: skip
    if outcome.status == "dead" and outcome.start >= 0:
        error = unpack_payload(payload(outcome.home))[0][outcome.start]
        found["error"] = error if len(error) <= ERROR_MAX else None
    return found


def _alive(state: State, queue: Queue, jobs: Jobs, offset: int) -> dict[str, Any]:
    found: dict[str, Any] = {"submitted_ms": queue.extents.at(offset).stamp_ms}
    lease = lease_of(state, queue, offset)
    if lease is not None:
        holder = holder_of(state, lease)
        return found | {"started_ms": holder.since_ms, "owner": holder.owner}
    due_ms = jobs.due_ms(offset)
    return found | ({"due_ms": due_ms} if due_ms is not None else {})


def lease_of(state: State, queue: Queue, offset: int) -> Lease | None:
    """The lease that a message is under."""
    for lease in state.leases.values():
        if lease.queue_id == queue.id and any(span.first <= offset < span.end for span in lease.spans):
            return lease
    return None


def _place(queue: Queue, offset: int) -> tuple[Extent, int] | None:
    """Where a message lies, and as which of the bodies there, as long as it is kept."""
    if not queue.dropped <= offset < queue.next or queue.holes.end_at(offset) is not None:
        return None
    extent = queue.extents.at(offset)
    return extent, extent.start + offset - extent.first


def _place_of_letter(state: State, queue: Queue, offset: int, dead_offset: int | None) -> tuple[Extent, int] | None:
    """The same, of a message that is among the dead letters."""
    letters = state.queues.get(queue.name if queue.name.endswith(DEAD) else queue.name + DEAD)
    place = _place(letters, dead_offset) if letters is not None and dead_offset is not None else None
    if place is None:
        return None
    extent, at = place
    note = extent.note or {}
    is_it = note.get("penstock-queue") == queue.name and note["penstock-offset"] + at - extent.start == offset
    return place if is_it else None


def _message(extent: Extent, at: int, payload: Callable[[int], bytes]) -> dict[str, Any]:
    """What the message itself says of the job."""
    bodies, headers = unpack_payload(payload(extent.home))
    header = (headers[at] if headers is not None else None) or {}
    properties = extent.properties or {}
    ids = properties.get("ids", ())
    return {
        "parents": list(header.get(AFTER) or []), "key": header.get(KEY), "task": header.get(TASK),
        "time_limit_ms": header.get(LIMIT), "priority": properties.get("priority", 0),
        "own_id": ids[at] if len(ids) == extent.total else None,
        "headers": {name: value for name, value in header.items() if not str(name).startswith(RESERVED)},
        "size": len(bodies[at]), "body": bodies[at] if len(bodies[at]) <= BODY_MAX else None,
    }  # fmt: skip


def _history(info: dict[str, Any], note: Note | None) -> list[dict[str, Any]]:
    """What happened to it, in order: `what` is submitted, leased, nacked, rejected, expired, or how it ended."""
    history: list[dict[str, Any]] = []
    if info["submitted_ms"]:
        history.append({"at_ms": info["submitted_ms"], "what": "submitted"})
    for failure in note.failures if note is not None else ():
        tried = {"attempt": failure.attempt, "by": failure.owner}
        history.append({"at_ms": failure.started_ms, "what": "leased", **tried})
        history.append({"at_ms": failure.at_ms, "what": failure.how, **tried, "reason": failure.reason})
    known = note is not None and note.failures and note.failures[-1].attempt == info["attempt"]
    if info["started_ms"] and not known:
        leased = {"attempt": info["attempt"], "by": info["owner"]}
        history.append({"at_ms": info["started_ms"], "what": "leased", **leased})
    if info["ended_ms"]:
        reason = {"reason": info["reason"]} if info["reason"] else {}
        history.append({"at_ms": info["ended_ms"], "what": info["status"], **reason})
    return history
