"""A broker in the process of a test, with a clock that the test turns."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

import zmq

from ..broker.desk import Limits
from ..broker.requests import WAIT_MAX_MS
from ..client import Client, connect
from ..client.bell import Bell
from ..compute.task import Task
from ..peers.errors import Closed, InvalidArgument, PenstockError, Timeout
from ..peers.units import Duration, duration_ms
from .door import Door, Said
from .nodes import NEVER_MS, Nodes
from .tasks import Ran, run_ready

NODES = (1, 3, 5)
STEP_MS = WAIT_MAX_MS // 2  # of the clock; then who waits is asked anew
ROUNDS_MAX = 50  # of waiting until clients have said everything
UNTIL_EMPTY_MS = 366 * 86_400_000

T = TypeVar("T")
log = logging.getLogger("penstock.testing")


class Broker:
    """A whole broker in this process, for tests. Thread-safe; use it in a `with`, or close it.

    Nodes, model and protocol are those of the daemon, and clients are real ones. Only the disk is memory, and the clock
    of the broker stands still until it is turned: delays, back-offs, leases, ttl, schedules and retention wait for
    `advance`. Time-outs of clients are real.

    `nodes`: 1, 3 or 5. `start`: what the clock shows first (a datetime, local if it has no time zone); None: now.
    `session_timeout`: after how long (a duration) a client that says nothing has lost its session; None: never, since
    to a clock that jumps everybody is silent. `seed`: of everything that is random.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        start: datetime | None = None,
        session_timeout: Duration | None = None,
        seed: int = 0,
    ) -> None:
        if nodes not in NODES:
            raise InvalidArgument(f"nodes is {nodes!r}", "give 1, 3 or 5")
        timeout_ms = NEVER_MS if session_timeout is None else duration_ms(session_timeout, "session_timeout")
        start_ms = time.time_ns() // 1_000_000 if start is None else round(start.timestamp() * 1000)
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-testing-"))
        self._endpoints = {number: f"ipc://{self._folder}/{number}" for number in range(1, nodes + 1)}
        self._doors: dict[int, Door] = {}
        self._clients: list[Client] = []
        self._worker: Client | None = None  # runs tasks
        self._calls: deque[Callable[[], None]] = deque()
        self._bell = Bell()
        self._closed = False
        self._fault: BaseException | None = None
        self._nodes = Nodes(self._endpoints, Limits(session_timeout_ms=timeout_ms), start_ms, seed, self._say)
        self._thread = threading.Thread(target=self._run, name="penstock-testing", daemon=True)
        self._thread.start()
        self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Broker of {len(self._endpoints)} nodes at {self.now:%Y-%m-%d %H:%M:%S}>"

    def close(self) -> None:
        """Close the clients that were made with `connect`, then end. What they could not finish is logged. Twice does
        nothing."""
        if self._closed:
            return
        if self._fault is None:
            self.restart()  # or clients would wait for it
        clients = [*self._clients] if self._worker is None else [*self._clients, self._worker]
        for client in clients:
            try:
                client.close()
            except PenstockError as fault:
                log.warning("a client ended with %s: %s", fault.code, fault)
        self._closed = True
        self._bell.ring()
        self._thread.join()
        shutil.rmtree(self._folder)
        if self._fault is not None:
            raise self._fault

    # -- clients ------------------------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> list[str]:
        """Where it can be reached, also by other processes: for `penstock.connect`, or as PENSTOCK_ENDPOINT."""
        return list(self._endpoints.values())

    def connect(self, *, retry_for: Duration = "25s", read_only: bool = False, name: str = "test") -> Client:
        """A client, as `penstock.connect` makes it. It is closed with the broker, if it was not before.

        What it has said before `advance` is heard before time passes.
        """
        client = connect(self.endpoints, retry_for=retry_for, read_only=read_only, name=name)
        self._clients.append(client)
        return client

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """What the broker's clock shows, in UTC."""
        return datetime.fromtimestamp(self._nodes.now_ms / 1000, UTC)

    def advance(self, duration: Duration) -> None:
        """Have time pass: everything that falls due on the way happens at its time, in its order.

        `duration` in seconds, as text ("10s", "1d") or a timedelta. Clients see a broker after a time in which they
        said nothing: leases that were not extended have ended.
        """
        self._advance(lambda: self._nodes.now_ms + duration_ms(duration, "duration"))

    def advance_to(self, moment: datetime) -> None:
        """Have time pass until then (local time, if it has no time zone). Raises InvalidArgument for what is past."""
        end_ms = round(moment.timestamp() * 1000)
        if end_ms < self._nodes.now_ms:
            raise InvalidArgument(f"{moment} is past: the broker's clock shows {self.now}", "time never runs backwards")
        self._advance(lambda: end_ms)

    def advance_to_next(self) -> bool:
        """Have time pass until something falls due: the end of a delay, a back-off, a lease or a ttl, a schedule.

        False: nothing ever will, and no time has passed.
        """
        return self._advance(self._nodes.next_due_ms)

    def _advance(self, end: Callable[[], int | None]) -> bool:
        self._hear_all()

        def pass_time() -> bool:
            end_ms = end()
            if end_ms is not None:
                self._pass_time(end_ms)
            return end_ms is not None

        return self._do(pass_time)

    def _pass_time(self, end_ms: int) -> None:
        nodes = self._nodes
        while nodes.now_ms < end_ms:
            anyone_waits = any(door.waits for door in self._doors.values())
            nodes.advance_to(min(end_ms, nodes.now_ms + STEP_MS) if anyone_waits else end_ms)
            for number, door in self._doors.items():
                nodes.hear(number, door.waits.anew())
            nodes.settle()

    def _hear_all(self) -> None:
        """Have everything heard that clients of `connect` have said: also what they gather until an answer comes."""
        for client in list(self._clients):
            # What is wrong with a client is its own affair: it shows when that client is used.
            with contextlib.suppress(PenstockError):
                quiet = 0  # rounds: in the first one a client may hear what sets free what it says in the second one
                for _ in range(ROUNDS_MAX):
                    if quiet == 2 or self.primary is None:
                        break
                    before = self._heard()
                    client.status()
                    quiet = quiet + 1 if self._heard() <= before + 1 else 0

    def _heard(self) -> int:
        return sum(door.heard for door in list(self._doors.values()))

    # -- drills -------------------------------------------------------------------------------------------------------

    @property
    def primary(self) -> int | None:
        """The number of the node that serves, from 1 on. None: nobody does."""
        return self._do(lambda: self._nodes.primary)

    def crash(self, node: int | None = None) -> None:
        """End a node as kill -9 does; by default the primary. What it acknowledged is on its disk, and nothing else.

        Of three nodes, another one is primary at once. Raises InvalidArgument if that node does not run.
        """
        self._do(lambda: self._crash(node))

    def restart(self) -> None:
        """Start the nodes that do not run, each from its disk."""
        self._do(self._start_all)

    def crash_primary(self) -> None:
        """Crash the node that serves and start it again: what a fail-over is to clients.

        Of three nodes, another one is primary then; a lone one comes back with what is on its disk.
        """
        self.crash()
        self.restart()

    def _crash(self, node: int | None) -> None:
        number = self._nodes.primary if node is None else node
        if number not in self._nodes.alive:
            alive = ", ".join(map(str, self._nodes.alive)) or "none"
            raise InvalidArgument(
                "no node serves" if node is None else f"node {node} does not run", f"running: {alive}"
            )
        self._nodes.crash(number)
        self._close_dead()

    def _start_all(self) -> None:
        for number in self._endpoints:
            if number not in self._nodes.alive:
                self._doors[number] = Door(self._endpoints[number])
                self._nodes.start(number)

    def _close_dead(self) -> None:
        for number in [number for number in self._doors if number not in self._nodes.alive]:
            self._doors.pop(number).close()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def run_tasks(
        self,
        queue: str,
        tasks: ModuleType | str | Task[..., Any] | Iterable[Task[..., Any]],
        *,
        limit: int | None = None,
        until_empty: bool = False,
        lease: Duration = "30s",
        comm: Any = None,
    ) -> Ran:
        """Run jobs of a queue in this thread, one after the other, as one rank of a pool does; how many it were.

        `tasks`: a module or its name, a task, or several. Runs what is ready, at most `limit` jobs. `until_empty`: then
        turns the clock on to the next delay or back-off, until nothing of the queue is left that may still run. Tasks
        for several ranks get `comm`; by default one of a lone rank, for which MPI is not needed. Time limits are those
        of a pool's helper processes: here nothing is killed. Raises NotFound, InvalidArgument; Timeout if a queue does
        not become empty within a year.
        """
        if self._worker is None:
            self._worker = connect(self.endpoints, name="penstock-testing")
        end_ms = self._nodes.now_ms + UNTIL_EMPTY_MS
        ran = Ran()
        while True:
            self._hear_all()
            left = None if limit is None else limit - ran.jobs
            ran = ran.plus(run_ready(self._worker, self.endpoints, queue, tasks, left, lease, comm))
            if not until_empty or ran.jobs == limit or not self._await_more(queue):
                return ran
            if self._nodes.now_ms > end_ms:
                raise Timeout(f"{queue!r} is not empty after a year of the broker's clock", "does a schedule fill it?")

    def _await_more(self, queue: str) -> bool:
        assert self._worker is not None
        info = self._worker.describe(queue)
        return bool(info.unfinished) and self.advance_to_next()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _do(self, call: Callable[[], T]) -> T:
        """Have the broker's thread do it."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except PenstockError as fault:  # anything else is a fault of ours, and ends the broker
                future.set_exception(fault)
            except BaseException as fault:
                future.set_exception(fault)
                raise

        if self._closed:
            raise Closed("the broker is closed", "make a new one")
        if self._fault is not None:
            raise self._fault
        self._calls.append(run)
        self._bell.ring()
        while not wait([future], 1.0).done:
            if not self._thread.is_alive() and not future.done():
                raise self._fault or Closed("the broker is closed", "make a new one")
        return future.result()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._wait()
                while self._calls:
                    self._calls.popleft()()
                self._serve()
        except BaseException as fault:
            log.exception("the broker failed")
            self._fault = fault
        finally:
            for door in self._doors.values():
                door.close()

    def _wait(self) -> None:
        poller = zmq.Poller()
        poller.register(self._bell.fd, zmq.POLLIN)
        for door in self._doors.values():
            poller.register(door.socket, zmq.POLLIN)
        due_s = min((at for door in self._doors.values() if (at := door.waits.next_s()) is not None), default=None)
        poller.poll(None if due_s is None else max(0, round((due_s - time.monotonic()) * 1000)))
        self._bell.hush()

    def _serve(self) -> None:
        now_s = time.monotonic()
        for number, door in self._doors.items():
            self._nodes.hear(number, door.receive() + door.waits.due(now_s))
        self._nodes.settle()
        self._close_dead()  # a client may have asked a node to crash

    def _say(self, number: int, said: Sequence[Said]) -> list[bytes]:
        door = self._doors.get(number)
        return [] if door is None else door.send(said)
