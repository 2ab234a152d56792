"""No process of a pool outlives the one that started it, however that one ended."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent (more exactly: the thread that started it) ends.

    `parent` is who it should be: if that one died before the request was made, this process ends at once.
    """
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() == 1 if parent is None else os.getppid() != parent:
        os._exit(1)


def started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it is gone. Pid and start name a process for good."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
