"""Pools: run one here, start one as a process of its own, or as a command: `python -m penstock.compute.pool`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..client import Client, connect
from ..peers.errors import InvalidArgument, PenstockError
from ..peers.errors import Timeout as TimedOut
from ..peers.logs import log_to_stderr
from ..peers.units import Duration, duration_ms
from .launch import command_of
from .memory import keep_freed_memory
from .no_mpi import mpi_left_alone
from .orphans import die_with_parent, started_ticks
from .registry import PoolState, StateFile, own_folder, pool_status, read_state, wait_until
from .runner import CANCEL_GRACE_S
from .source import BrokerSource
from .supervisor import Supervisor, WorldPlan, listen_to_signals
from .task import tasks_of_queue

log = logging.getLogger("penstock")


@dataclass(frozen=True)
class PoolConfig:
    """A pool: where its jobs are, the module of its tasks, how many MPI ranks, and how these are started.

    endpoint: of the daemon; those of all nodes of a cluster, so that the pool follows its primary.
    launcher: command template, known are {bin} (the folder of mpiexec), {ranks} and {python}; default
    "{bin}/mpiexec -n {ranks}". lease: how long a job is ours without a word from us (renewed while it runs). grace_s:
    how long a stop waits for jobs that run. cancel_grace_s: how long a job may run on after it was cancelled; then it
    is killed. state_dir: where `pool_status` looks (default: a folder of this user).
    env: added to the environment of the ranks.
    """

    endpoint: str | tuple[str, ...]
    queue: str
    tasks: str
    ranks: int = 2
    launcher: str | None = None
    lease: Duration = "30s"
    grace_s: float = 10.0
    cancel_grace_s: float = CANCEL_GRACE_S
    state_dir: Path | None = None
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (self.endpoint,) if isinstance(self.endpoint, str) else self.endpoint

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise InvalidArgument(f"ranks is {self.ranks}", "give a number from 1 on")
        for name, seconds in (("grace", self.grace_s), ("cancel_grace", self.cancel_grace_s)):
            if seconds < 0:
                raise InvalidArgument(f"{name} is {seconds:g} s", "give 0 or more seconds")
        duration_ms(self.lease, "lease")


def run_pool(config: PoolConfig) -> int:
    """Run a pool here until SIGTERM or SIGINT: 0 then, 1 if its world could not live (why is on stderr).

    Main thread only. Raises InvalidArgument or NotFound before anything is started: a tasks module that cannot be
    imported, no task for the queue, a task wider than the pool, no mpiexec; and what `connect` raises without a daemon.
    """
    plan = plan_of(config)
    log_to_stderr("info", f"pool {config.name or config.queue}")
    keep_freed_memory()
    state_file = StateFile(config.state_dir, os.getpid())
    pool_status(config.state_dir)  # clears away what killed pools have left
    name = f"pool {config.name or config.queue} on {socket.gethostname()}:{os.getpid()}"
    with connect(list(config.endpoints), name=name) as client:
        _need_queue(client, config.queue, plan)
        source = BrokerSource(client, config.queue, config.lease)
        supervisor = Supervisor(plan, source, first_state(config), state_file.write, config.grace_s)
        listen_to_signals(supervisor)
        try:
            error = supervisor.run()
        finally:
            signal.set_wakeup_fd(-1)
            state_file.remove()
    if error:
        log.error("%s", error)
    return 1 if error else 0


def plan_of(config: PoolConfig) -> WorldPlan:
    """The plan of a pool's worlds. Raises as `run_pool` does."""
    with mpi_left_alone():
        tasks = tasks_of_queue(config.tasks, config.queue)
    for task in tasks.values():
        if isinstance(task.ranks, int) and task.ranks > config.ranks:
            raise InvalidArgument(
                f"task {task.name!r} needs {task.ranks} ranks, the pool has {config.ranks}",
                f"give it {task.ranks} ranks",
            )
    command = command_of(config.launcher, config.ranks)
    return WorldPlan(
        command, config.queue, config.tasks, tasks, config.ranks, config.env, config.endpoints, config.cancel_grace_s
    )


def first_state(config: PoolConfig) -> PoolState:
    pid = os.getpid()
    return PoolState(
        pid=pid,
        pid_started=started_ticks(pid) or 0,
        name=config.name or config.queue,
        queue=config.queue,
        ranks=config.ranks,
        tasks=config.tasks,
        endpoint=" ".join(config.endpoints),
        phase="starting",
        started_ms=time.time_ns() // 1_000_000,
    )


class PoolProcess:
    """A pool in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], state_path: Path) -> None:
        self._process = process
        self._state_path = state_path

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def state(self) -> PoolState | None:
        """What it last wrote down, at most half a second ago; None before the first and after the last writing."""
        state = read_state(self._state_path)
        return state if state is not None and state.pid == self.pid and state.alive else None

    def wait_ready(self, timeout_s: float = 30.0) -> PoolState:
        """Wait until its ranks are ready for jobs. Raises Timeout, or PenstockError if it ended (why is in its log)."""
        found: list[PoolState] = []

        def ready() -> bool:
            if self.poll() is not None:
                raise PenstockError(f"the pool ended with status {self.poll()} before it was ready", "its log says why")
            state = self.state()
            if state is not None and state.phase == "ready":
                found.append(state)
            return bool(found)

        wait_until(ready, timeout_s, f"the pool (pid {self.pid}) to be ready")
        return found[0]

    def stop(self, timeout_s: float = 20.0) -> None:
        """End it cleanly: what runs is finished, within its grace. If that takes too long: kills it, raises Timeout."""
        if self.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as fault:
            self._process.kill()
            self._process.wait()
            raise TimedOut(f"the pool (pid {self.pid}) did not end within {timeout_s:g} s and was killed") from fault


def spawn_pool(config: PoolConfig, bound: bool = True, log: Path | None = None) -> PoolProcess:
    """Start a pool in a process of its own. bound: it ends together with this thread, in whatever way that ends.

    log: a file for what it prints (default: our stderr). Raises as `run_pool` does for what can be seen from here.
    """
    plan_of(config)
    words = [sys.executable, "-m", "penstock.compute.pool"]
    output = sys.stderr.fileno() if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [*words, *_arguments(config), *(["--parent", str(os.getpid())] if bound else [])],
            env={**os.environ, **config.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        if log is not None:
            os.close(output)
    return PoolProcess(process, own_folder(config.state_dir) / f"{process.pid}.json")


def _need_queue(client: Client, queue: str, plan: WorldPlan) -> None:
    """Make the queue if there is none, with the lowest max_failures that its tasks ask for."""
    wanted = [task.max_failures for task in plan.tasks.values() if task.max_failures is not None]
    if wanted:
        client.create_queue(queue, max_failures=min(wanted), exist_ok=True)
    else:
        client.create_queue(queue, exist_ok=True)


def _arguments(config: PoolConfig) -> list[str]:
    pairs = {
        "--queue": config.queue,
        "--tasks": config.tasks,
        "--ranks": config.ranks,
        "--launcher": config.launcher,
        "--lease": f"{duration_ms(config.lease)}ms",
        "--grace": config.grace_s,
        "--cancel-grace": config.cancel_grace_s,
        "--state-dir": config.state_dir,
        "--name": config.name or None,
    }
    options = [f"{name}={value}" for name, value in pairs.items() if value is not None]
    return [*(f"--endpoint={endpoint}" for endpoint in config.endpoints), *options]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m penstock.compute.pool", description="Run an MPI pool for a queue.")
    parser.add_argument("--endpoint", required=True, action="append", help="again for each node of a cluster")
    parser.add_argument("--queue", required=True)
    parser.add_argument("--tasks", required=True, help="the module of the tasks")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--launcher", help="command template that starts MPI")
    parser.add_argument("--lease", default="30s")
    parser.add_argument("--grace", default="10s", help="how long a stop waits for jobs that run")
    parser.add_argument("--cancel-grace", default="5s", help="how long a job that was cancelled may go on")
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--name", default="")
    parser.add_argument("--parent", type=int, help="the process to end with")
    given = parser.parse_args()
    if given.parent is not None:
        die_with_parent(given.parent)
    try:
        config = PoolConfig(
            endpoint=tuple(given.endpoint),
            queue=given.queue,
            tasks=given.tasks,
            ranks=given.ranks,
            launcher=given.launcher,
            lease=given.lease,
            grace_s=duration_ms(given.grace, "grace") / 1000,
            cancel_grace_s=duration_ms(given.cancel_grace, "cancel_grace") / 1000,
            state_dir=given.state_dir,
            name=given.name,
        )
        return run_pool(config)
    except PenstockError as fault:
        log.error("%s: %s", fault.code, fault)
        return 2


if __name__ == "__main__":
    sys.exit(main())
