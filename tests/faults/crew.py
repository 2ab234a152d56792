"""A daemon that is found at the same place after each restart, and clients in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import penstock
from faults.history import Event, Figures, Recorder, check, figures, for_groups, read
from faults.worker import JOBS, LOG, WORK, Setup
from penstock.cli.private import PrivateDaemon

ROUNDS = int(os.environ.get("PENSTOCK_ROUNDS", "3"))
SEED = int(os.environ.get("PENSTOCK_SEED", "1"))
LIMIT_S = 60.0
POLL_S = 0.005
PROGRESS_MAX = 200_000  # bytes of history between two faults
TESTS = Path(__file__).parent.parent


def until(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition, with a limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(POLL_S)


def daemon_at(folder: Path, settings: str = "", data: Path | None = None) -> PrivateDaemon:
    """A daemon, not yet started, whose endpoint stays the same."""
    daemon = PrivateDaemon(settings, folder, listen=f"ipc://{folder}/s")
    if data is not None:
        daemon.data = data
    return daemon


class Place(Protocol):
    """Where clients go: a daemon, or several that are one broker."""

    folder: Path

    @property
    def endpoint(self) -> str | list[str]: ...


Daemon = TypeVar("Daemon", bound=Place)


class Crew(Generic[Daemon]):
    """Worker processes on one daemon or cluster, with their histories in `folder`/history. Leaves no process behind."""

    def __init__(self, daemon: Daemon, seed: int = SEED) -> None:
        self.daemon = daemon
        self.seed = seed
        self.random = Random(f"{seed} crew")
        self.folder = daemon.folder / "history"
        self.folder.mkdir()
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._roles: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers.values():
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        if error is not None:
            print(f"PENSTOCK_SEED={self.seed} PENSTOCK_ROUNDS={ROUNDS}")  # noqa: T201 (shown when the test fails)

    def start(self, role: str, name: str, **more: float) -> int:
        """Start a worker; its pid."""
        setup = Setup(role, name, self.daemon.endpoint, str(self.folder), self.seed, **more)
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        with (self.folder / f"{name}.log").open("wb") as log:
            self._workers[name] = subprocess.Popen(
                [sys.executable, "-m", "faults.worker", setup.text()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": path},
            )  # fmt: skip
        self._roles[name] = role
        return self._workers[name].pid

    def members(self) -> list[tuple[str, str]]:
        """The workers there are: (role, name)."""
        return [(self._roles[name], name) for name in sorted(self._workers)]

    def alive(self) -> None:
        """No worker has ended by itself."""
        for name, worker in self._workers.items():
            assert worker.poll() is None, f"{name} ended with {worker.returncode}: {self.said(name)}"

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self, *names: str) -> None:
        """Ask these to end, and see that they end well."""
        until(lambda: all((self.folder / f"{name}.jsonl").exists() for name in names), f"{names} have begun")
        for name in names:
            self._workers[name].send_signal(signal.SIGTERM)
        for name in names:
            self.wait(name)

    def wait(self, name: str) -> None:
        """It ends by itself, and well."""
        worker = self._workers.pop(name)
        try:
            code = worker.wait(LIMIT_S)
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        assert code == 0, f"{name} ended with {code}: {self.said(name)}"

    def kill(self, name: str) -> None:
        worker = self._workers.pop(name)
        worker.kill()
        worker.wait()

    def size(self) -> int:
        """How much all have written down so far, in bytes."""
        return sum(path.stat().st_size for path in self.folder.glob("*.jsonl"))

    def history(self) -> list[Event]:
        return read(self.folder)

    def wrote(self, name: str, kind: str) -> bool:
        """Has this worker written down such an event?"""
        return any(event.actor == name and event.kind == kind for event in self.history())


def waiting(endpoint: str | list[str], *queues: str) -> int:
    """How many messages of these queues are not done."""
    with penstock.connect(endpoint) as client:
        infos = [client.describe(queue) for queue in queues]
    return sum(info.ready + info.delayed + info.leased for info in infos)


def drained(crew: Crew[Daemon], *queues: str) -> None:
    """Wait until the workers that are left have emptied these queues."""

    def empty() -> bool:
        crew.alive()
        return waiting(crew.daemon.endpoint, *queues) == 0

    until(empty, f"the queues {queues} are empty")


def judge(crew: Crew[Daemon]) -> Figures:
    """The verdict over everything that happened; the queues are empty."""
    events = crew.history()
    violations = check(for_groups(events, LOG), jobs=[JOBS])
    assert not violations, f"PENSTOCK_SEED={crew.seed}: {len(violations)} violations:\n" + "\n".join(violations[:20])
    return figures(events)


def make_queues(endpoint: str | list[str]) -> None:
    with penstock.connect(endpoint) as client:
        for queue in (WORK, JOBS):
            client.create_queue(queue, max_failures=None)
        client.create_topic(LOG, max_failures=None)


def end(crew: Crew[Daemon], what: str) -> Figures:
    """Let everybody go on for a while, empty the queues, and judge what happened."""
    progress(crew, PROGRESS_MAX)
    crew.stop(*(name for role, name in crew.members() if role in ("produce", "publish", "submit")))
    drained(crew, WORK, JOBS, LOG)
    crew.stop(*(name for _, name in crew.members()))
    see_all_results(crew)
    found = judge(crew)
    print(f"{what}: {ROUNDS} rounds, {found}")  # noqa: T201 (pytest -s: the figures of a soak)
    return found


def progress(crew: Crew[Daemon], size: int) -> None:
    """Wait until as much more has happened."""
    wanted = crew.size() + size

    def happened() -> bool:
        crew.alive()
        return crew.size() >= wanted

    until(happened, f"{size} bytes more of history")


def see_all_results(crew: Crew[Daemon]) -> None:
    """A last witness: every outcome that the daemon kept."""
    with penstock.connect(crew.daemon.endpoint) as client:
        outcomes = client.drain(JOBS, timeout=30)
        recorder = Recorder(crew.folder, "witness")
        assert {outcome.status for outcome in outcomes} <= {"done"}
        recorder.note_all(
            {"kind": "result", "queue": JOBS, "ids": [outcome.value[0]], "value": outcome.value} for outcome in outcomes
        )
