"""What the tests of the pool share: a queue in memory, a pool on it in a thread, and a real daemon with real pools."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.private import PrivateDaemon
from penstock.client import Client, connect
from penstock.compute.notes import Notes
from penstock.compute.pool import PoolConfig, PoolProcess, first_state, plan_of, spawn_pool
from penstock.compute.registry import PoolState
from penstock.compute.runner import Counters
from penstock.compute.source import Terms
from penstock.compute.supervisor import Supervisor
from penstock.compute.words import Words
from penstock.peers.values import pack, unpack

HERE = str(Path(__file__).parent)
LIMIT_S = 30.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "mpi: needs mpi4py and an mpiexec; skipped without")
    if HERE not in sys.path:
        sys.path.append(HERE)  # ranks import `sample_tasks` by its name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = why_no_mpi()
    for item in items:
        if missing and item.get_closest_marker("mpi") is not None:
            item.add_marker(pytest.mark.skip(reason=missing))


def why_no_mpi() -> str:
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed: pip install 'penstock[mpi]'"
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    return "" if beside or shutil.which("mpiexec") else "there is no mpiexec: pip install 'penstock[mpi]'"


def eventually(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}"
        time.sleep(0.01)
    return value


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    return eventually


@dataclass
class Leased:
    """A message of the queue in memory."""

    number: int
    task: str
    body: bytes


class MemorySource:
    """A queue in memory. `outcomes`: by number, ("done", result), ("failed", error) or ("rejected", error)."""

    result_max = 2**20

    def __init__(self, jobs: Sequence[tuple[str, Any]]) -> None:
        self._ready = deque(Leased(number, task, pack(args)) for number, (task, args) in enumerate(jobs))
        self._changed = threading.Condition()
        self._confirmed = 0
        self.jobs = len(jobs)
        self.outcomes: dict[int, tuple[str, Any]] = {}
        self.released: list[int] = []
        self.taken: list[int] = []
        self.told: dict[int, list[Words]] = {}
        self._leased: dict[int, Leased] = {}
        self._cancelled: list[Leased] = []

    def take(self, count: int, timeout_s: float) -> list[Leased]:
        with self._changed:
            self._changed.wait_for(lambda: self._ready, timeout=timeout_s)
            leased = [self._ready.popleft() for _ in range(min(count, len(self._ready)))]
        self.taken += [each.number for each in leased]
        self._leased |= {each.number: each for each in leased}
        return leased

    def terms_of(self, message: Leased) -> Terms:
        return Terms(message.task, None)

    def notes_of(self, messages: Sequence[Leased]) -> Notes:
        return Notes([(message.number, 1, 1) for message in messages])

    def on_cancelled(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def cancelled(self) -> list[Leased]:
        found, self._cancelled = self._cancelled, []
        return found

    def cancel(self, number: int) -> None:
        """Of a job that was taken."""
        self._cancelled.append(self._leased[number])
        self._wake()

    def tell(self, message: Leased, words: Words) -> None:
        self.told.setdefault(message.number, []).append(words)

    def complete(self, messages: Sequence[Leased], results: Sequence[bytes]) -> None:
        for message, result in zip(messages, results, strict=True):
            self._end(message, "done", result)
        self._confirmed += len(messages)

    def fail(self, messages: Sequence[Leased], errors: Sequence[bytes]) -> None:
        for message, error in zip(messages, errors, strict=True):
            self._end(message, "failed", error)

    def reject(self, message: Leased, reason: str, error: bytes) -> None:
        self._end(message, "rejected", error)

    def release(self, messages: Sequence[Leased]) -> None:
        with self._changed:
            self.released += [each.number for each in messages]
            self._ready.extend(messages)
            self._changed.notify()

    def confirm(self, timeout_s: float = 0.0) -> int:
        done, self._confirmed = self._confirmed, 0
        return done

    def open(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def _end(self, message: Leased, how: str, data: bytes) -> None:
        assert message.number not in self.outcomes, f"job {message.number} ended twice"
        self.outcomes[message.number] = (how, unpack(data))


@dataclass
class Run:
    """A pool in a thread on a queue in memory."""

    source: MemorySource
    supervisor: Supervisor
    states: list[PoolState] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    thread: threading.Thread | None = None

    @property
    def outcomes(self) -> dict[int, tuple[str, Any]]:
        return self.source.outcomes

    @property
    def state(self) -> PoolState:
        return self.states[-1]

    @property
    def counters(self) -> Counters:
        """What the runner has counted, before it is written down."""
        return self.supervisor._runner.counters

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        assert self.thread is not None
        return eventually(lambda: condition() or not self.thread.is_alive(), what)

    def stop(self) -> Run:
        assert self.thread is not None
        self.supervisor.stop()
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive(), "the pool does not stop"
        return self

    def finish(self) -> Run:
        """Wait until every job has ended, then stop."""
        self.until(lambda: len(self.outcomes) == self.source.jobs, "all jobs to end")
        return self.stop()


Start = Callable[..., Run]


@pytest.fixture
def start() -> Iterator[Start]:
    """start(jobs, ranks=2, grace_s=10, ...): a pool on these jobs, [(task, arguments), ...]."""
    runs: list[Run] = []

    def begin(jobs: Sequence[tuple[str, Any]], ranks: int = 2, grace_s: float = 10.0, **config: Any) -> Run:
        settings = PoolConfig(**{"endpoint": "", "queue": "work", "tasks": "sample_tasks", "ranks": ranks} | config)
        source = MemorySource(jobs)
        states: list[PoolState] = []
        supervisor = Supervisor(plan_of(settings), source, first_state(settings), states.append, grace_s)
        run = Run(source, supervisor, states)
        run.thread = threading.Thread(target=lambda: run.errors.append(supervisor.run()))
        runs.append(run)
        run.thread.start()
        return run

    yield begin
    for run in runs:
        assert run.thread is not None
        run.supervisor.stop()
        run.supervisor.stop()  # at once
        run.thread.join(LIMIT_S)


@pytest.fixture(scope="session")
def daemon() -> Iterator[PrivateDaemon]:
    with PrivateDaemon() as private:
        yield private


@pytest.fixture
def client(daemon: PrivateDaemon) -> Iterator[Client]:
    with connect(daemon.endpoint) as connected:
        yield connected


Spawn = Callable[..., PoolProcess]


@pytest.fixture
def spawn(daemon: PrivateDaemon, tmp_path: Path) -> Iterator[Spawn]:
    """spawn(queue=..., tasks=..., ranks=...): a pool in a process of its own on the test's daemon."""
    pools: list[PoolProcess] = []

    def begin(**config: Any) -> PoolProcess:
        settings = {"endpoint": daemon.endpoint, "queue": "work", "tasks": "sample_tasks", "state_dir": tmp_path}
        settings |= {"env": {"PYTHONPATH": HERE}} | config
        pool = spawn_pool(PoolConfig(**settings), log=tmp_path / "pool.log")
        pools.append(pool)
        return pool

    yield begin
    for pool in pools:
        pool.stop()
