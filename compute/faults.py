"""What is told of a failed job: its type, its message, the traceback as text, the rank it ran on."""

from __future__ import annotations

import signal
import traceback
from pathlib import Path

from ..client.failures import MESSAGE_MAX, TRACEBACK_MAX, shortened, words_of
from ..peers.errors import PenstockError
from .frames import pack

_ENGINE = Path(__file__).parent


def fault_of(error: BaseException, rank: int) -> bytes:
    """The packed error of an exception. The frames between the engine and the task say nothing to the user."""
    trace = error.__traceback__
    while trace is not None and Path(trace.tb_frame.f_code.co_filename).parent == _ENGINE:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    said = words_of(error)
    message = said if isinstance(error, PenstockError) or said else repr(error)
    return pack_fault(type(error).__name__, message, rank, text)


def pack_fault(kind: str, message: str, rank: int | None, text: str = "") -> bytes:
    message = shortened(message, MESSAGE_MAX)
    trace = shortened(text or f"{kind}: {message}\n", TRACEBACK_MAX)
    return pack({"type": kind, "message": message, "traceback": trace, "rank": rank})


def died(how: str, rank: int | None) -> bytes:
    return pack_fault("WorkerDied", f"the process that ran this job {how}", rank)


def cancelled(rank: int) -> bytes:
    """What is told of a job that did not run, or not to its end, since it was cancelled."""
    return pack_fault("JobCancelled", "the job was cancelled", rank)


def words_of_status(status: int) -> str:
    """How a process ended, by its exit code (negative: a signal)."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
