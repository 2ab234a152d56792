"""All that the daemon knows of one job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..peers import values
from ..peers.errors import NotFound, ProtocolError
from .ids import array_id


@dataclass(frozen=True, slots=True)
class JobStep:
    """One step of a job: at `at_ms` (since 1970) `what` happened: "submitted", "leased", "nacked", "rejected",
    "expired" (its lease), or how it ended. `by` is the owner of the lease, `attempt` its number, `reason` text."""

    at_ms: int
    what: str
    attempt: int | None = None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job. Times are milliseconds since 1970; None or empty is what there is not, or what is no longer known.

    `retried_as`: the id of the job as which a dead one was retried; `owner` has, or had, its latest lease; `due_ms`:
    not given before; `progress` (0 to 1) with its `text`, and the latest `lines` of its log (`dropped`: how many older
    ones are gone), are what its task told. `error`: the latest, with type, message, traceback, rank. `parents`: ids of
    the jobs that it waits, or waited, for. What it was submitted with is known as long as its message is kept, also
    among the dead letters: `key`, `headers`, `priority`, `own_id` (that it was given; dead letters have none) and
    `arguments` (the body, as bytes, if it is no value; None if it has more than 64 KiB, see `size`).
    """

    id: str
    status: str
    attempt: int
    failures: int
    reason: str | None
    retried_as: str | None
    submitted_ms: int | None
    started_ms: int | None
    ended_ms: int | None
    due_ms: int | None
    owner: str | None
    progress: float | None
    text: str | None
    lines: tuple[str, ...]
    dropped: int
    error: dict[str, Any] | None
    parents: tuple[str, ...]
    key: str | None
    task: str | None
    time_limit_ms: int | None
    own_id: str | None
    priority: int
    headers: dict[str, Any]
    size: int | None
    arguments: Any
    history: tuple[JobStep, ...]

    @classmethod
    def from_body(cls, queue: str, body: Mapping[str, Any]) -> JobDetails:
        """Raises NotFound if there never was such a job."""
        id = f"{queue}/{body['offset']}"
        if body["status"] == "unknown":
            raise NotFound(f"job {id} does not exist")
        plain = ("submitted_ms", "started_ms", "ended_ms", "reason", "retried_as", "owner", "text")
        return cls(
            id=id,
            status=body["status"],
            attempt=body["attempt"],
            failures=body["failures"],
            **{name: body[name] or None for name in plain},
            due_ms=body["due_ms"],
            progress=body["progress"],
            lines=tuple(_text(line) for line in body["lines"]),
            dropped=body["dropped"],
            error=_error(body["error"]),
            parents=tuple(array_id(parent, [(first, count)]) for parent, first, count in body["parents"]),
            key=body["key"],
            task=body["task"],
            time_limit_ms=body["time_limit_ms"],
            own_id=body["own_id"],
            priority=body["priority"],
            headers=dict(body["headers"]),
            size=body["size"],
            arguments=_arguments(body["body"]),
            history=tuple(JobStep(**step) for step in body["history"]),
        )


def _text(line: str | bytes) -> str:
    return line.decode(errors="replace") if isinstance(line, bytes) else line


def _arguments(data: bytes | None) -> Any:
    """The value in the body; the body itself, if it is one of a message that is no job."""
    try:
        return None if data is None else values.unpack(data)
    except ProtocolError:
        return data


def _error(data: bytes | None) -> dict[str, Any] | None:
    """The error as a map; one that some other client wrote may be anything."""
    value = values.unpack(data) if data else None
    return value if isinstance(value, dict) or value is None else {"message": str(value)}
