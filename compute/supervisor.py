"""The loop of a pool: keeps one world alive, hears everybody, writes down how it goes, ends in order."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zmq

from ..peers.errors import InvalidArgument, PenstockError
from .batch import Traits
from .feeder import Feeder
from .frames import Kind
from .registry import FOLDER_PREFIX, PoolState
from .runner import Runner
from .settings import WorldSettings
from .source import Source
from .task import Task
from .world import World, folder_of

log = logging.getLogger("penstock")

QUICK_S = 5.0  # a world that dies sooner, and not of a job, is a quick death
QUICK_DEATHS_MAX = 3
START_S = 120.0  # a world of many hosts takes seconds; one that hangs takes for ever
BACK_OFF_S = (0.0, 0.2, 1.0)  # before the next world, after that many quick deaths
WRITE_S = 0.5  # between two writings of the state
LOOK_S = 0.5  # between two looks at the processes of the world
OPEN_S = 0.02  # between two looks at open completions
LAST_CONFIRM_S = 5.0
FOLDER_BYTES_MAX = 80  # a socket's path has at most 107 bytes


@dataclass(frozen=True)
class WorldPlan:
    """What is the same for each world of a pool."""

    command: list[str]
    queue: str
    module: str
    tasks: Mapping[str, Task[..., Any]]
    ranks: int
    env: Mapping[str, str]
    endpoints: tuple[str, ...]
    cancel_grace_s: float

    def settings(self, folder: Path, result_max: int) -> WorldSettings:
        traits = {name: _traits(task, self.ranks) for name, task in self.tasks.items()}
        endpoint = f"ipc://{folder / 'runner'}"
        return WorldSettings(
            endpoint, str(folder), self.ranks, self.queue, self.module, traits, sys.path[:], self.endpoints, result_max
        )


class Supervisor:
    """Runs a pool until it is told to stop, or until its world cannot live."""

    def __init__(
        self, plan: WorldPlan, source: Source, state: PoolState, write: Callable[[PoolState], None], grace_s: float
    ) -> None:
        self._plan = plan
        self._source = source
        self._state = state
        self._write = write
        self._grace_s = grace_s
        self._feeder = Feeder(source)
        self._runner = Runner(source, self._feeder, plan.tasks, plan.ranks, plan.cancel_grace_s)
        self._context: zmq.Context[Any] = zmq.Context()
        self._poller = zmq.Poller()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        source.on_cancelled(self._wake)
        self._poller.register(self._feeder.ear.fileno(), zmq.POLLIN)
        self._poller.register(self._ear.fileno(), zmq.POLLIN)
        self._world: World | None = None
        self._generation = 0
        self._quick_deaths = 0
        self._restart_s = 0.0
        self._look_s = 0.0
        self._write_s = 0.0
        self._told = 0
        self._stops = 0
        self._error = ""

    @property
    def wakeup_fd(self) -> int:
        return self._bell.fileno()

    @property
    def world(self) -> dict[str, Any]:
        """The pids of the launcher, the ranks and the helpers, and files of theirs; {} while there are none."""
        return {} if self._world is None else self._world.to_dict()

    def stop(self) -> None:
        """Finish what runs, within the grace; asked again: at once. For signal handlers and other threads too."""
        self._stops += 1
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # full: it wakes up anyway; closed: it has ended
            self._bell.send(b"!")

    def run(self) -> str:
        """Until stopped: "" then, else why it had to end."""
        with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as name:
            folder = short_enough(Path(name))
            self._state = replace(self._state, folder=name)
            try:
                while not self._stops and not self._error:
                    self._turn(folder)
                self._finish()
            finally:
                self._end()
        return self._error

    def _turn(self, folder: Path) -> None:
        if self._world is None and time.monotonic() >= self._restart_s:
            self._begin(folder)
        self._hear(self._wait_ms())
        if self._feeder.error is not None:
            self._error = f"{self._feeder.error.code}: {self._feeder.error}"
        if self._world is not None:
            self._watch(self._world)
        self._runner.pump()
        self._write_down()

    def _hear(self, wait_ms: int) -> None:
        ready = dict(self._poller.poll(wait_ms))
        if self._ear.fileno() in ready:
            with suppress(BlockingIOError):
                self._ear.recv(4096)
        world = self._world
        if world is not None:
            if world.output in ready:
                world.copy_output()
            if world.exited in ready:
                self._look_s = 0.0
            self._hear_world(world)
        self._runner.hear_feeder()
        self._runner.cancel()
        self._runner.confirm()

    def _hear_world(self, world: World, wait_ms: int = 0) -> None:
        for frame in world.receive(wait_ms):
            if frame.kind is Kind.READY and not self._stops:
                self._runner.attach(world)
                self._say("ready")
                log.info("%d ranks are ready for queue %r", self._plan.ranks, self._plan.queue)
            self._runner.hear(frame)

    def _begin(self, folder: Path) -> None:
        self._generation += 1
        settings = self._plan.settings(folder_of(folder, self._generation), self._source.result_max)
        try:
            world = self._world = World(self._plan.command, settings, self._context, self._plan.env)
        except OSError as fault:
            self._error = f"{self._plan.command[0]} cannot be started: {fault}"
            return
        for fd in (world.output, world.exited):
            self._poller.register(fd, zmq.POLLIN)
        self._poller.register(world.socket, zmq.POLLIN)

    def _watch(self, world: World) -> None:
        late = world.ready_s is None and time.monotonic() - world.started_s > START_S
        if late:
            log.warning("the MPI world is not ready after %g s", START_S)
        if late or self._runner.overdue():
            world.kill()
            self._bury(world)
        elif time.monotonic() >= self._look_s:
            self._look_s = time.monotonic() + LOOK_S
            if world.dead():
                self._bury(world)

    def _bury(self, world: World) -> None:
        """A world has died: leave nothing of it, save its jobs, and decide whether to try another."""
        end, running = world.end, self._runner.now_running(world)
        world.kill()
        self._hear_world(world, wait_ms=20)  # results that had left it count
        blamed = self._runner.recover(world)
        quick = not blamed and (world.ready_s is None or time.monotonic() - world.ready_s < QUICK_S)
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        self._forget(world)
        if self._quick_deaths >= QUICK_DEATHS_MAX:
            said = world.tail or "nothing"
            self._error = f"the MPI world died {QUICK_DEATHS_MAX} times at its start: {end}; it said:\n{said}"
        self._restart_s = time.monotonic() + BACK_OFF_S[min(self._quick_deaths, len(BACK_OFF_S) - 1)]
        self._state = replace(self._state, restarts=self._state.restarts + 1)
        self._note_death(end, running)
        self._say("starting")

    def _note_death(self, end: str, running: list[dict[str, Any]]) -> None:
        """Who reads the log in the morning wants to know which jobs to look at."""
        calls = [f"{self._plan.queue}/{call['offset']} ({call['task']}, {call['jobs']} jobs)" for call in running]
        what = f"in it ran {', '.join(calls)}" if calls else "no job ran in it"
        log.warning("the MPI world has died, %s; %s%s", end, what, "" if self._error else ": starting another one")

    def _forget(self, world: World) -> None:
        for each in (world.output, world.exited, world.socket):
            self._poller.unregister(each)
        world.close()
        self._world = None

    def _finish(self) -> None:
        """Let what runs end within the grace, give back the rest."""
        self._say("stopping")
        self._feeder.stop()
        self._feeder.join()
        self._runner.drain()
        deadline = time.monotonic() + self._grace_s
        while self._world is not None and self._runner.running and time.monotonic() < deadline and self._stops < 2:
            self._hear(max(1, min(100, int((deadline - time.monotonic()) * 1000))))
            self._look_for_death()
            self._write_down()

    def _look_for_death(self) -> None:
        world = self._world
        if world is not None and (self._runner.overdue() or world.dead()):
            world.kill()
            self._hear_world(world, wait_ms=20)
            self._runner.recover(world)
            self._forget(world)

    def _end(self) -> None:
        world = self._world
        if world is not None:
            if self._runner.running or self._error:
                world.kill()
            else:
                world.stop()
            self._hear_world(world)
            self._forget(world)
        self._feeder.stop()
        self._feeder.join()
        try:
            self._runner.give_up()
            self._runner.confirm(LAST_CONFIRM_S)
            self._source.close()
        except PenstockError as fault:
            self._error = self._error or f"{fault.code}: {fault}"
        self._feeder.close()
        self._ear.close()
        self._bell.close()
        self._context.term()
        self._write_down(now=True)

    def _wait_ms(self) -> int:
        waits_s = [1.0, self._runner.wait_s()]
        if self._world is None:
            waits_s.append(self._restart_s - time.monotonic())
        if self._source.open():
            waits_s.append(OPEN_S)
        if self._write_s:
            waits_s.append(self._write_s - time.monotonic())
        return max(0, int(min(each for each in waits_s if each is not None) * 1000) + 1)

    def _say(self, phase: str) -> None:
        self._state = replace(self._state, phase=phase)
        self._write_down(now=True)

    def _write_down(self, now: bool = False) -> None:
        """The state, if it changed and the last writing is long enough ago."""
        counters = self._runner.counters
        state = replace(
            self._state,
            taken=counters.taken,
            done=counters.done,
            failed=counters.failed,
            returned=counters.returned,
            cancelled=counters.cancelled,
            in_hand=self._runner.in_hand,
            first_lease_ms=self._feeder.first_ms,
            last_result_ms=counters.last_result_ms,
            world=self.world,
            error=self._error,
        )
        if state == self._state and self._told == self._runner.told and not now:
            self._write_s = 0.0
            return
        if not now and not self._write_s:
            self._write_s = time.monotonic() + WRITE_S
        if now or time.monotonic() >= self._write_s:
            self._told = self._runner.told
            state = replace(state, running=[] if self._world is None else self._runner.now_running(self._world))
            self._write(state)
            self._state, self._write_s = state, 0.0


def listen_to_signals(supervisor: Supervisor) -> None:
    """SIGTERM and SIGINT end the pool in order. In the main thread only."""
    signal.set_wakeup_fd(supervisor.wakeup_fd)  # the loop wakes up also if another thread was interrupted
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: supervisor.stop())


def short_enough(folder: Path) -> Path:
    """Raises InvalidArgument if the sockets in this folder would have longer names than the system allows."""
    if len(os.fsencode(folder)) > FOLDER_BYTES_MAX:
        raise InvalidArgument(f"the temporary folder {folder} has too long a name", "set TMPDIR to a shorter one")
    return folder


def _traits(task: Task[..., Any], ranks: int) -> Traits:
    width = ranks if task.ranks == "all" else task.ranks or 0
    return Traits(width, task.batch)
