"""A daemon of its own for the tests of this room, one whose clock the test turns, and one that says what a test tells
it to say."""

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import zmq

import penstock
from penstock.peers import wire
from penstock.testing import Broker
from penstock.testing.fixtures import broker as broker

from .loops import FACTORIES, Play, Run, Scene, run_in

START_S = 20.0
LIMITS = {
    "max_message": 2**20, "max_batch": 10_000, "window": 64, "session_timeout_ms": 60_000, "parked": 16,
}  # fmt: skip

_numbers = count()


class Daemon:
    """A real daemon in a folder of its own, at an address that it keeps when it is started again."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-"))
        self.endpoint = f"ipc://{self.folder}/socket"
        (self.folder / "daemon.toml").touch()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        folder = self.folder
        words = ["serve", "--config", str(folder / "daemon.toml"), "--data", str(folder / "data")]
        words += ["--listen", self.endpoint]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "penstock.cli", *words], stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="package")
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    """One that a test may kill."""
    daemon = Daemon()
    daemon.start()
    yield daemon
    daemon.close()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[penstock.Client]:
    with penstock.connect(daemon.endpoint, retry_for=START_S) as client:
        yield client


@pytest.fixture
def timed(broker: Broker) -> penstock.Client:
    """A client of `broker`, whose clock the test turns."""
    client = broker.connect()
    client.create_queue("q")
    return client


@pytest.fixture
def queue(client: penstock.Client) -> str:
    name = f"queue-{next(_numbers)}"
    client.create_queue(name)
    return name


Answer = tuple[str, dict[str, Any], bytes | None]


class FakeDaemon:
    """A ROUTER that greets, remembers what it is asked, and answers with what `handle` returns (None: not at all)."""

    def __init__(self) -> None:
        self.heard: list[wire.Request] = []
        self.handle: Callable[[wire.Request], Answer | None] = lambda request: ("ok", {}, None)
        self.greetings = 0
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-"))
        self.endpoint = f"ipc://{self._folder}/socket"
        self._context = zmq.Context()
        self._ends = threading.Event()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.bind(self.endpoint)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.is_set():
            if not self._router.poll(20):
                continue
            route, *frames = self._router.recv_multipart()
            request = wire.parse_request(frames)
            if request.op == "hello":
                self.greetings += 1
                body = {"session": request.args.get("session", "s1"), "last": 0, "limits": LIMITS}
                answer: Answer | None = ("ok", body, None)
            else:
                self.heard.append(request)
                answer = self.handle(request)
            if answer is not None:
                self._router.send_multipart([route, *wire.reply(request.sequence, *answer)])

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._router.close()
        self._context.term()
        shutil.rmtree(self._folder)


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    fake = FakeDaemon()
    yield fake
    fake.close()


@pytest.fixture(params=FACTORIES)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in a loop of its own."""
    return lambda main: run_in(request.param, main)


@pytest.fixture
def with_client(run: Run, daemon: Daemon) -> Play:
    """Runs a function with a client, and the name of a queue of its own."""

    def with_client(play: Scene) -> None:
        async def main() -> None:
            async with penstock.connect_async(daemon.endpoint, retry_for=START_S) as client:
                name = f"async-{next(_numbers)}"
                await client.create_queue(name)
                await play(client, name)

        run(main())

    return with_client
