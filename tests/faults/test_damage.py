"""A single byte on disk that is not what was written: the daemon finds it, names it, and serves nothing of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import penstock
from faults.crew import daemon_at
from penstock.cli.exits import Refused
from penstock.cli.private import PrivateDaemon
from penstock.peers.errors import PenstockError

Stopped = Callable[[str], tuple[PrivateDaemon, int]]  # and the index of the marked entry in the log
MARK = b"penstock-mark-of-the-damaged-message"


@pytest.fixture
def stopped(short: Path) -> Stopped:
    """A daemon that ended, by `how`, with three entries of messages on its disk, the second one marked."""

    def make(how: str) -> tuple[PrivateDaemon, int]:
        daemon = daemon_at(short)
        with daemon:
            with penstock.connect(daemon.endpoint) as client, client.producer(client.create_queue("q").name) as to:
                receipts = [to.send_many([body]) for body in (b"first", MARK, b"third")]
                to.flush()
            if how == "kill":
                daemon.kill()
        return daemon, receipts[1].log_index

    return make


def flip(data: Path) -> int:
    """Change one bit of the marked message; how many copies of it there were."""
    path = data / "data.mdb"
    raw = bytearray(path.read_bytes())
    places = [match.start() for match in re.finditer(re.escape(MARK), raw)]
    for place in places:
        raw[place + 5] ^= 1
    path.write_bytes(raw)
    return len(places)


def test_a_damaged_entry_of_the_backlog_is_named_and_never_served(stopped: Stopped) -> None:
    daemon, index = stopped("stop")
    assert flip(daemon.data) >= 1
    received: list[bytes] = []
    with daemon:
        with penstock.connect(daemon.endpoint, retry_for=1) as client, pytest.raises(PenstockError):
            receive_all(client, received)
        assert daemon.wait() == 1
    assert received == [b"first"]
    said_which(daemon, index)


def receive_all(client: penstock.Client, received: list[bytes]) -> None:
    with client.consumer("q", prefetch=0) as consumer:
        while (message := consumer.receive(timeout=30)) is not None:
            received.append(message.body)
            message.ack().wait()


def test_a_damaged_entry_behind_the_checkpoint_is_named_at_the_start(stopped: Stopped) -> None:
    daemon, index = stopped("kill")
    before = daemon.log.read_text()
    assert flip(daemon.data) >= 1
    with pytest.raises(Refused, match=r"log entry \d+ is corrupt"):
        daemon.start()
    assert daemon.wait() == 1
    daemon.close()
    assert "started" not in daemon.log.read_text().removeprefix(before), "it says that it listens, and does not"
    said_which(daemon, index)


def said_which(daemon: PrivateDaemon, index: int) -> None:
    said = daemon.log.read_text()
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if "corrupt" in line]
    assert re.fullmatch(rf"error: .*log entry {index} is corrupt: the checksum does not match", line), line
