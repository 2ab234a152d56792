"""Every refusal a user can meet, with its code on the wire and what to do about it."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from textwrap import indent
from typing import Any, ClassVar


class PenstockError(Exception):
    """The base of all errors of Penstock. `code` names it on the wire, `retryable` says if trying again can help,
    `hint` says what would be right (may be empty)."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        return type(self).__name__

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class AlreadyExists(PenstockError):
    """The name is taken, or the id of a job; `job` is the id (QUEUE/OFFSET) of the job that has it."""

    def __init__(self, message: str, hint: str = "", job: str | None = None) -> None:
        super().__init__(message, hint)
        self.job = job


class NotFound(PenstockError):
    """No such queue, topic, group or job."""


class InvalidArgument(PenstockError):
    """An argument is missing, of a wrong type or out of range."""


class QueueFull(PenstockError):
    """The queue's max_messages or max_bytes is reached."""

    retryable = True


class TooLarge(PenstockError):
    """A batch is larger than the daemon takes."""


class LeaseLost(PenstockError):
    """The lease has ended: the message was given back, and perhaps to somebody else."""


class NotPrimary(PenstockError):
    """This node is a replica; `endpoint` is where the primary listens, if that is known."""

    retryable = True

    def __init__(self, message: str, hint: str = "", endpoint: str | None = None) -> None:
        super().__init__(message, hint)
        self.endpoint = endpoint


class NoQuorum(PenstockError):
    """Fewer than a quorum of nodes are alive: nothing can be acknowledged."""

    retryable = True


class StorageFull(PenstockError):
    """Disk or map are nearly full: publishing is refused, acks and deletes pass."""

    retryable = True


class SessionExpired(PenstockError):
    """The session has ended (nothing was heard of it for too long) or never was."""


class Unauthenticated(PenstockError):
    """Who you are could not be established."""


class PermissionDenied(PenstockError):
    """Your role does not allow this."""


class Timeout(PenstockError):
    """The time that was given ran out first."""

    retryable = True


class ProtocolError(PenstockError):
    """The bytes or their order are not the protocol of docs/protocol.md."""


class JobFailed(PenstockError):
    """The job ran and failed for good. `traceback` is its text, `rank` the MPI rank it failed on (None: unknown)."""

    def __init__(self, message: str, hint: str = "", traceback: str = "", rank: int | None = None) -> None:
        super().__init__(message, hint)
        self.traceback = traceback
        self.rank = rank
        if traceback:
            self.add_note(indent(traceback.rstrip(), "    "))  # Python shows it below its own, pytest and notebooks too


class JobCancelled(PenstockError):
    """The job was cancelled before it ended."""


class Closed(PenstockError):
    """The client, or the daemon it spoke to, was closed."""

    retryable = True


SHOWN_MAX = 80  # characters of a wrong value that an error repeats

ERRORS: dict[str, type[PenstockError]] = {
    kind.__name__: kind
    for kind in (
        AlreadyExists, NotFound, InvalidArgument, QueueFull, TooLarge, LeaseLost, NotPrimary, NoQuorum, StorageFull,
        SessionExpired, Unauthenticated, PermissionDenied, Timeout, ProtocolError, JobFailed, JobCancelled, Closed,
    )
}  # fmt: skip


class _Short(reprlib.Repr):
    """Python's repr recurses, and so fails on what is nested deeply, and writes out what is long in full."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = SHOWN_MAX

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value[:SHOWN_MAX])

    def repr_ExtType(self, value: tuple[int, bytes], level: int) -> str:
        return f"extension type {value[0]}"


_SHORT = _Short()


def shown(value: object) -> str:
    """What somebody sent, in the message of an error: short, whatever it is."""
    return _SHORT.repr(value)[:SHOWN_MAX]


def to_body(error: PenstockError) -> dict[str, Any]:
    """The body of an error reply."""
    body: dict[str, Any] = {"message": error.message, "hint": error.hint, "retryable": error.retryable}
    if isinstance(error, NotPrimary) and error.endpoint is not None:
        body["endpoint"] = error.endpoint
    if isinstance(error, AlreadyExists) and error.job is not None:
        body["job"] = error.job
    return body


def from_body(code: str, body: Mapping[str, Any]) -> PenstockError:
    """The error that a reply of status `code` stands for."""
    message, hint = str(body.get("message", code)), str(body.get("hint", ""))
    kind = ERRORS.get(code)
    if kind is None:
        return ProtocolError(f"the daemon answered with an unknown code {code!r}: {message}", hint)
    if kind is NotPrimary:
        return NotPrimary(message, hint, body.get("endpoint"))
    if kind is AlreadyExists:
        return AlreadyExists(message, hint, body.get("job"))
    return kind(message, hint)
