"""A daemon and its pools as children of one process: pools are restarted, the daemon's end is the end."""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from ..broker.config import Pool
from ..compute.registry import pool_status
from .private import ENDPOINT_FILE, wait_endpoint
from .processes import spawn, stop

log = logging.getLogger("penstock")

BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # pauses before the next start of a pool that ended by itself
STEADY_S: Final = 60.0  # a pool that ran so long starts with the first pause again
POLL_S: Final = 0.25
LAUNCHERS: Final = {
    "auto": "",  # the pool's own choice
    "mpich": "{bin}/mpiexec -n {ranks}",
    # Root, more ranks than cores, and no network: what its own defaults refuse or are slow with.
    "openmpi": "{bin}/mpiexec --allow-run-as-root --map-by :OVERSUBSCRIBE --mca pml ob1 --mca btl self,sm -n {ranks}",
}


@dataclass(slots=True)
class _Child:
    task: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0

    def tend(self, now_s: float) -> None:
        """Start it when it is due; when it has ended, say so and make it due again."""
        if self.process is None:
            if now_s >= self.due_s:
                self.process, self.started_s = spawn(self.arguments), now_s
        elif self.process.poll() is not None:
            if now_s - self.started_s > STEADY_S:
                self.failures = 0
            pause_s = BACKOFF_S[min(self.failures, len(BACKOFF_S) - 1)]
            ended = f"the pool of {self.task} ended with exit code {self.process.returncode}"
            log.warning("%s; next start in %g s", ended, pause_s)
            self.process, self.due_s, self.failures = None, now_s + pause_s, self.failures + 1


def supervise(
    serve: Sequence[str],
    data: Path,
    pools: Sequence[Pool],
    others: Sequence[str] = (),
    ready: Callable[[str], None] | None = None,
) -> int:
    """Run `penstock SERVE...` and `pools` until SIGTERM, SIGINT or the daemon's end; the daemon's exit code.

    `others`: endpoints of the other nodes of its cluster, to which the pools turn when another one is the primary.
    `ready` is called once with the endpoint, when all pools are ready for jobs. The pools are stopped first: they
    still give their leases back. SIGHUP is handed on to the daemon.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    file = data / ENDPOINT_FILE
    file.unlink(missing_ok=True)
    daemon = spawn(serve)
    children: list[_Child] = []
    try:
        endpoint = wait_endpoint(file, daemon, patience_s=math.inf)  # a long log takes its time
        # Only now: until here a signal should end us at once, and our children with us.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
        signal.signal(signal.SIGHUP, lambda number, frame: daemon.send_signal(number))
        endpoints = [endpoint, *(other for other in others if other != endpoint)]
        children = [_Child(task, _start_arguments(pool, task, endpoints)) for pool in pools for task in pool.tasks]
        while not asked and daemon.poll() is None:
            for child in children:
                child.tend(time.monotonic())
            if ready is not None and _all_ready(children):
                ready(endpoint)
                ready = None
            time.sleep(POLL_S)
    finally:
        _stop_all([child.process for child in children if child.process is not None])
        code = stop(daemon)
    return code


def _all_ready(children: Sequence[_Child]) -> bool:
    working = {state.pid for state in pool_status() if state.phase == "ready"}
    return all(child.process is not None and child.process.pid in working for child in children)


def _stop_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        stop(process)


def _start_arguments(pool: Pool, task: str, endpoints: Sequence[str]) -> list[str]:
    arguments = ["pool", "start", "--tasks", task, "--ranks", str(pool.ranks)]
    arguments += [word for endpoint in endpoints for word in ("--endpoint", endpoint)]
    if pool.queue is not None:
        arguments += ["--queue", pool.queue]
    launcher = pool.launcher or LAUNCHERS[pool.mpi]
    if launcher:
        arguments += ["--launcher", launcher]
    return arguments
