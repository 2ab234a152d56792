"""Why a job failed, as it travels: msgpack {"type", "message", "traceback", "rank"}."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from ..peers import values
from ..peers.errors import InvalidArgument, JobFailed

REASON_MAX = 500
MESSAGE_MAX, TRACEBACK_MAX = 12_000, 48_000  # bytes that travel: the daemon keeps no error of more than 64 KiB


def pack_error(error: BaseException | Mapping[str, Any] | str) -> bytes:
    """The bytes of an exception, of a map with some of the four keys, or of a text. Raises InvalidArgument."""
    if isinstance(error, BaseException):
        text = "".join(traceback.format_exception(error))
        error = {"type": type(error).__name__, "message": words_of(error), "traceback": text}
    elif isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, Mapping):
        raise InvalidArgument(f"error is of type {type(error).__name__}", "give an exception, a map or a text")
    told = {"type": "", "message": "", "traceback": "", "rank": None, **error}
    for name, size in (("message", MESSAGE_MAX), ("traceback", TRACEBACK_MAX)):
        if isinstance(told[name], str):
            told[name] = shortened(told[name], size)
    return values.pack(told)


def words_of(error: BaseException) -> str:
    """What an exception says, also if it cannot."""
    try:
        return str(error)
    except Exception as fault:
        return f"its text cannot be had: {type(fault).__name__}"


def shortened(text: str, size: int) -> str:
    """As text that can travel: names of files may hold what is no UTF-8. Its beginning and its end, if it is long."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= size:
        return data.decode()
    half = size // 2
    first, last = (part.decode(errors="ignore") for part in (data[:half], data[-half:]))
    return f"{first}\n... {len(data) - 2 * half} bytes left out ...\n{last}"


def reason_of(error: BaseException | Mapping[str, Any] | str) -> str:
    """The error in a line: its type and message, at most REASON_MAX characters."""
    if isinstance(error, BaseException):
        error = {"type": type(error).__name__, "message": words_of(error)}
    elif isinstance(error, str):
        error = {"message": error}
    kind, message = str(error.get("type") or ""), str(error.get("message") or "")
    return shortened((f"{kind}: {message}" if kind and message else kind or message)[:REASON_MAX], 4 * REASON_MAX)


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
