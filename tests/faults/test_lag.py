"""A replica that falls far behind, or has no room left, while the load goes on.

PENSTOCK_FULL=1: 200,000 messages are missed; else fewer.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import penstock
from faults.cluster import Cluster
from faults.crew import until
from faults.disk import fill_to_the_last_byte, small_disk
from faults.roads import RoadWorks
from faults.steady import steady

MISSED = 200_000 if os.environ.get("PENSTOCK_FULL") else 20_000
BATCH = 10
BODY = b"x" * 100
DISK_BYTES = 32 << 20
NO_ROOM = "No space left on device|Input/output error"  # the latter: half of a page could be written


class Load:
    """A context manager: somebody publishes all the time, and counts what was confirmed."""

    def __init__(self, cluster: Cluster) -> None:
        self.confirmed = 0
        self._cluster = cluster
        self._stopping = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        self._thread.join()

    def more(self, count: int) -> None:
        """Wait until as many more are confirmed."""
        wanted = self.confirmed + count
        until(lambda: self.confirmed >= wanted or not self._thread.is_alive(), f"{count} more are confirmed")
        assert self._thread.is_alive(), "a publish failed"

    def _run(self) -> None:
        with (
            penstock.connect(self._cluster.endpoint, retry_for=60) as client,
            client.producer("q", batch_max=BATCH) as producer,
        ):
            while not self._stopping:
                receipts = [producer.send(BODY) for _ in range(100 * BATCH)]
                producer.flush()
                assert all(receipt.done() for receipt in receipts)
                self.confirmed += len(receipts)


def count(cluster: Cluster) -> int:
    with penstock.connect(cluster.endpoint, retry_for=60) as client:
        return client.describe("q").next


def lag(cluster: Cluster, node: int) -> int:
    """How many entries a node is behind, in the eyes of the primary."""
    with penstock.connect(cluster.endpoint, retry_for=60) as client:
        found = next(member.lag for member in client.cluster().members if member.node == node)
    assert found is not None
    return found


def test_rule_14_a_replica_that_was_cut_off_for_long_catches_up_while_the_load_goes_on(short: Path) -> None:
    with RoadWorks(short) as works, works.cluster() as cluster:
        cluster.whole()
        victim = cluster.replicas()[0]
        with penstock.connect(cluster.endpoint) as client:
            client.create_queue("q")
        with steady(cluster.endpoints(victim)), Load(cluster) as load:
            works.cut(victim)
            load.more(MISSED)
            behind = lag(cluster, victim)
            assert behind >= MISSED // BATCH // 2
            works.open()
            until(lambda: lag(cluster, victim) < behind // 20, "it has caught up")
            load.more(BATCH)
            cluster.whole()
        cluster.alike()
        assert count(cluster) == load.confirmed


def test_rule_23_a_replica_whose_disk_is_full_ends_is_not_missed_and_catches_up_when_there_is_room(short: Path) -> None:
    cluster, victim = Cluster(short), 3
    with small_disk(short / str(victim) / "data", DISK_BYTES) as disk, cluster:
        with penstock.connect(cluster.endpoint, retry_for=60) as client:
            client.create_queue("q")
            cluster.whole()
            if cluster.primary() == victim:
                client.cluster_transfer(1)
        until(lambda: cluster.whole() != victim, "another one is the primary")
        fill_to_the_last_byte(disk / "another-file")
        with steady(cluster.endpoints(victim)), Load(cluster) as load:
            assert cluster.ended(victim) == 1
            load.more(1)
            said = cluster.log(victim).read_text()
            assert re.search(rf"^error: the daemon stopped: .*({NO_ROOM})", said, re.MULTILINE), said
            assert "Traceback" not in said
            (disk / "another-file").unlink()
            cluster.start(victim)
            cluster.whole()
        cluster.alike()
        assert count(cluster) == load.confirmed
