"""A single byte on disk that is not what was written: the daemon finds it, names it, and serves nothing of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import penstock
from faults.cluster import NODES, Cluster
from faults.crew import daemon_at, until
from penstock.broker.check import check_folder
from penstock.broker.trim import KEPT_ENTRIES
from penstock.cli.exits import Refused
from penstock.cli.private import PrivateDaemon
from penstock.peers.errors import PenstockError

Stopped = Callable[[str], tuple[PrivateDaemon, int]]  # and the index of the marked entry in the log
MARK = b"penstock-mark-of-the-damaged-message"
BODIES = [b"first", MARK, b"third"]
VICTIM = 2


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


def check_of(daemon: PrivateDaemon) -> subprocess.CompletedProcess[str]:
    """`penstock check` on its data."""
    words = ["check", "--data", str(daemon.data), "--json"]
    return subprocess.run([sys.executable, "-m", "penstock.cli", *words], capture_output=True, text=True)


def test_check_finds_all_of_it_and_the_rest_goes_on_when_it_is_given_up(stopped: Stopped) -> None:
    daemon, index = stopped("stop")
    before = check_of(daemon)
    assert (before.returncode, before.stdout) == (0, ""), before
    assert "all are sound" in before.stderr
    assert flip(daemon.data) >= 1
    after = check_of(daemon)
    assert after.returncode == 1, after
    [found] = [json.loads(line) for line in after.stdout.splitlines()]
    wanted = {"table": "log", "entry": index, "holds": "messages", "queue": "q", "first": 1, "count": 1}
    assert wanted.items() <= found.items()
    received: list[bytes] = []
    with daemon, penstock.connect(daemon.endpoint) as client:
        refused = check_of(daemon)
        assert refused.returncode != 0
        assert "in use by another daemon" in refused.stderr
        client.job("q/1").cancel()
        receive_all(client, received, 2)
    assert received == [b"first", b"third"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_daemon_alone_goes_on_without_what_is_damaged_when_it_is_told_to(stopped: Stopped, how: str) -> None:
    """Killed, it had made no checkpoint: then what lies behind the damaged entry goes, too."""
    daemon, index = stopped(how)
    assert flip(daemon.data) >= 1
    words = [sys.executable, "-m", "penstock.cli", "check", "--data", str(daemon.data), "--set-aside", "--json"]
    asked = subprocess.run(words, capture_output=True, text=True)
    assert (asked.returncode, asked.stdout) == (2, ""), asked
    done = subprocess.run([*words, "--yes"], capture_output=True, text=True)
    assert done.returncode == 0, done
    gone = [json.loads(line) for line in done.stdout.splitlines()]
    assert gone[0]["entry"] == index
    assert "1 messages and 0 results were given up" in done.stderr, "of one behind it, if it ends the log"
    assert ("the log ends before entry" in done.stderr) == (how == "kill")
    [copy] = daemon.data.glob("set-aside-*.msgpack")
    assert str(copy) in done.stderr
    assert check_of(daemon).returncode == 0
    received: list[bytes] = []
    left = [b"first", b"third"] if how == "stop" else [b"first"]
    with daemon, penstock.connect(daemon.endpoint) as client:
        receive_all(client, received, len(left))
        assert client.describe("q").ready == 0
    assert received == left


def test_check_of_a_node_of_a_cluster_notes_what_its_next_start_is_to_fetch(stopped: Stopped) -> None:
    daemon, index = stopped("stop")
    flip(daemon.data)
    assert [found.entry for found in check_folder(daemon.data, in_cluster=True).damaged] == [index]
    assert (daemon.data / "damaged").read_text() == f"{index}\n"


def receive_all(client: penstock.Client, received: list[bytes], count: int = 3) -> None:
    with client.consumer("q", prefetch=0) as consumer:
        while len(received) < count and (message := consumer.receive(timeout=30)) is not None:
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


def test_rule_24_an_entry_that_one_of_three_finds_damaged_at_its_start_is_fetched_from_the_others(short: Path) -> None:
    with Cluster(short) as cluster:
        index = publish(cluster)
        cluster.alike()
        damage(cluster, VICTIM)
        until_mended(cluster, index)
        lead(cluster, VICTIM)
        assert drain(cluster) == BODIES
        assert cluster.primary() == VICTIM


def test_rule_24_an_entry_that_one_of_three_finds_damaged_later_is_never_served_and_fetched_from_the_others(
    short: Path,
) -> None:
    with Cluster(short) as cluster:
        index = publish(cluster)
        trim(cluster)
        damage(cluster, VICTIM)
        lead(cluster, VICTIM)
        assert drain(cluster) == BODIES, "the others have it"
        assert cluster.ended(VICTIM) == 1
        assert f"log entry {index} is corrupt" in cluster.log(VICTIM).read_text()
        cluster.start(VICTIM)
        until_mended(cluster, index)
        lead(cluster, VICTIM)
        assert replay(cluster, VICTIM) == BODIES


def publish(cluster: Cluster) -> int:
    """Three entries of messages into a topic, the second one marked: its index."""
    with penstock.connect(cluster.endpoint) as client:
        client.create_topic("t")
        client.create_group("t", "g")
        with client.producer("t") as producer:
            receipts = [producer.send_many([body]) for body in BODIES]
            producer.flush()
    return receipts[1].log_index


def trim(cluster: Cluster) -> None:
    """Cut the logs of all nodes behind what was published so far."""
    with penstock.connect(cluster.endpoint) as client:
        client.create_queue("filler")
        with client.producer("filler", batch_max=1) as producer:
            for _ in range(KEPT_ENTRIES + 10):
                producer.send(b"x")
    cluster.alike()
    for node in NODES:
        with penstock.connect(cluster.client(node), read_only=True) as reader:
            assert reader.snapshot_node().entries > 0


def damage(cluster: Cluster, node: int) -> None:
    """While nobody runs, one bit on the disk of a node becomes another one."""
    cluster.stop(*NODES)
    assert flip(cluster.folder / str(node) / "data") >= 1
    cluster.start(*NODES)


def until_mended(cluster: Cluster, index: int) -> None:
    told = f"entry {index} was damaged, and is now that of node"
    until(lambda: told in cluster.log(VICTIM).read_text(), "it has a sound copy")


def drain(cluster: Cluster) -> list[bytes]:
    """All that the group gets, in the order of the log; it may come more than once."""
    received: dict[int, bytes] = {}
    with (
        penstock.connect(cluster.endpoint, retry_for=60) as client,
        client.consumer("t", group="g", prefetch=0) as consumer,
    ):
        while len(received) < len(BODIES) and (message := consumer.receive(timeout=30)) is not None:
            received[message.offset] = message.body
            message.ack().wait()
    return [body for _, body in sorted(received.items())]


def replay(cluster: Cluster, node: int) -> list[bytes]:
    """What the group saw, read from the disk of this very node."""
    with penstock.connect(cluster.endpoint, retry_for=60) as client:
        client.create_group("t", f"again-{node}", start="earliest")
    until(lambda: node in cluster.alive, "it runs")
    with penstock.connect(cluster.client(node), read_only=True) as reader:
        return [message.body for message in reader.peek("t", group=f"again-{node}", limit=10)]


def lead(cluster: Cluster, node: int) -> None:
    """Make this node the primary."""

    def leads() -> bool:
        if cluster.whole() == node:
            return True
        with penstock.connect(cluster.endpoint, retry_for=60) as client:
            client.cluster_transfer(node)
        return False

    until(leads, f"node {node} is the primary")
