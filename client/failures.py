"""Why a job failed, as it travels: msgpack {"type", "message", "traceback", "rank"}."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from ..peers import values
from ..peers.errors import InvalidArgument, JobFailed

REASON_MAX = 500


def pack_error(error: BaseException | Mapping[str, Any] | str) -> bytes:
    """The bytes of an exception, of a map with some of the four keys, or of a text. Raises InvalidArgument."""
    if isinstance(error, BaseException):
        text = "".join(traceback.format_exception(error))
        error = {"type": type(error).__name__, "message": str(error), "traceback": text}
    elif isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, Mapping):
        raise InvalidArgument(f"error is of type {type(error).__name__}", "give an exception, a map or a text")
    return values.pack({"type": "", "message": "", "traceback": "", "rank": None, **error})


def reason_of(error: BaseException | Mapping[str, Any] | str) -> str:
    """The error in a line: its type and message, at most REASON_MAX characters."""
    if isinstance(error, BaseException):
        error = {"type": type(error).__name__, "message": str(error)}
    elif isinstance(error, str):
        error = {"message": error}
    kind, message = str(error.get("type") or ""), str(error.get("message") or "")
    return (f"{kind}: {message}" if kind and message else kind or message)[:REASON_MAX]


def job_failed(job: str, data: bytes | None, reason: str | None) -> JobFailed:
    """The error that the outcome of a dead job stands for."""
    error = values.unpack(data) if data else None
    if not isinstance(error, Mapping):
        return JobFailed(f"job {job} failed: {reason or 'nobody said why'}")
    kind, message = str(error.get("type") or ""), str(error.get("message") or reason or "")
    rank = error.get("rank")
    where = f" on rank {rank}" if rank is not None else ""
    return JobFailed(
        f"job {job} failed{where}: {kind + ': ' if kind else ''}{message}",
        traceback=str(error.get("traceback") or ""),
        rank=rank if isinstance(rank, int) else None,
    )
