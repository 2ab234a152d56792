"""No room: in the map, on the disk, and for the commit itself. What was acknowledged stays, and room brings it back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock
from faults.crew import daemon_at, until
from faults.disk import fill_to_the_last_byte, small_disk
from penstock import Client, Producer, StorageFull
from penstock.cli.private import PrivateDaemon

SETTINGS = '[storage]\nmap_size = "4MiB"\nmax_message = "1MiB"\n'
BODY_BYTES = 50_000
DISK_BYTES = 64 << 20
SENT_MAX = 5_000
AGAIN = b"again" * (BODY_BYTES // 5)


def fill(producer: Producer, queue: str = "q") -> int:
    """Publish until StorageFull; how many messages were taken."""
    for number in range(SENT_MAX):
        try:
            producer.send(body(number)).wait()
        except StorageFull:
            return number
    raise AssertionError(f"{SENT_MAX} messages of {BODY_BYTES} bytes were all taken")


def body(number: int) -> bytes:
    return f"{number:08d} ".encode() + bytes([number % 251]) * BODY_BYTES


def publishes(producer: Producer) -> bool:
    """Is a message taken again? Producers that ask again and again must not keep room from being made."""
    try:
        producer.send(AGAIN).wait()
    except StorageFull:
        return False
    return True


def take(client: Client, count: int, first: int) -> None:
    """Receive and ack `count` messages, the right ones."""
    with client.consumer("q", prefetch=0) as consumer:
        for number in range(first, first + count):
            message = consumer.receive(timeout=30)
            assert message is not None
            assert message.body == body(number)
            message.ack().wait()


def test_a_full_map_refuses_messages_takes_acks_and_deletes_and_survives_kills(short: Path) -> None:
    with daemon_at(short, SETTINGS) as daemon, penstock.connect(daemon.endpoint, retry_for=60) as client:
        client.create_queue("q")
        client.create_queue("other")
        with client.producer("other") as other:
            other.send_many([body(number) for number in range(4)]).wait()
        with client.producer("q") as producer:
            taken = fill(producer)
            assert 20 < taken < 4 * 2**20 // BODY_BYTES
            storage = client.status()["storage"]
            assert storage["used_bytes"] > 0.8 * storage["map_bytes"]
            assert storage["room_bytes"] < 2 * BODY_BYTES
            said = [line for line in daemon.log.read_text(encoding="utf-8").splitlines() if "storage full" in line]
            assert len(said) == 1, "once a minute, however often it is asked"
            daemon.kill()
            daemon.start()
            assert not publishes(producer), "a restart makes no room"
            take(client, 5, first=0)
            daemon.kill()
            daemon.start()
            take(client, 5, first=5)
            client.delete("other")
            until(lambda: publishes(producer), "acks and deletes have made room")
            daemon.kill()
            daemon.start()
            take(client, taken - 10, first=10)
            with client.consumer("q") as consumer:
                message = consumer.receive(timeout=30)
                assert message is not None
                assert message.body == AGAIN


def test_a_purge_makes_room_in_a_full_map_while_producers_keep_asking(short: Path) -> None:
    with daemon_at(short, SETTINGS) as daemon, penstock.connect(daemon.endpoint) as client:
        client.create_queue("q")
        with client.producer("q") as producer:
            taken = fill(producer)
            assert client.purge("q") == taken
            until(lambda: publishes(producer), "the purge has made room")
            assert not client.status()["storage"]["full"]


# -- a disk of our own ------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(short: Path) -> Iterator[Path]:
    with small_disk(short / "disk", DISK_BYTES) as folder:
        yield folder


def test_a_full_disk_is_refused_before_it_is_an_error_and_goes_on_after_a_purge(short: Path, disk: Path) -> None:
    with daemon_at(short, data=disk / "data") as daemon, penstock.connect(daemon.endpoint) as client:
        client.create_queue("q")
        with client.producer("q") as producer:
            taken = fill(producer)
            left = os.statvfs(disk)
            assert left.f_bavail * left.f_frsize > 0, "StorageFull came before the disk was full"
            take(client, 5, first=0)
            assert client.purge("q") == taken - 5
            until(lambda: publishes(producer), "the purge has made room")


def test_a_commit_that_fails_ends_the_daemon_and_loses_nothing_that_was_acknowledged(short: Path, disk: Path) -> None:
    with daemon_at(short, data=disk / "data") as daemon:
        with penstock.connect(daemon.endpoint, retry_for=1) as client:
            client.create_queue("q")
            with client.producer("q") as producer:
                taken = [producer.send(body(number)).wait() for number in range(100)]
            fill_to_the_last_byte(disk / "another-file")
            # Refusals and new queues are entries of the log, too: sooner or later there is no page left for them.
            with pytest.raises(penstock.PenstockError):
                make_many_queues(client)
        assert daemon.wait() == 1
        said = daemon.log.read_text()
        assert re.search(r"^error: the daemon stopped: .*No space left on device", said, re.MULTILINE), said
        assert re.search(r"the disk of .* has \d+ bytes free", said), said
        assert "Traceback" not in said
        (disk / "another-file").unlink()
        restarted(daemon)
        with penstock.connect(daemon.endpoint) as client:
            take(client, len(taken), first=0)


def make_many_queues(client: Client) -> None:
    for number in range(SENT_MAX):
        client.create_queue(f"q{number}")


def restarted(daemon: PrivateDaemon) -> None:
    """Start it where it ended by itself."""
    daemon.stop()
    daemon.start()
