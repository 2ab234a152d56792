"""Disks that are slow for a while: a replica with one is not waited for, a primary with one makes way or goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import penstock
from faults.cluster import NODES, STEP, begin, end_alike, told
from faults.conftest import a_folder
from faults.crew import LIMIT_S, Crew, progress, until
from faults.slow import SlowCluster
from faults.steady import steady

ELECTION_MS = 1000  # the default


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew[SlowCluster]]:
    with a_folder() as folder, SlowCluster(folder) as cluster, Crew(cluster) as crew:
        begin(crew)
        yield crew
        end_alike(crew, "slow disks")


@pytest.fixture
def cluster(crew: Crew[SlowCluster]) -> Iterator[SlowCluster]:
    crew.daemon.whole()
    yield crew.daemon
    for node in NODES:
        crew.daemon.slow(node, 0)
    crew.daemon.whole()


@pytest.mark.parametrize("ms", [ELECTION_MS // 3, 2 * ELECTION_MS])
def test_a_replica_with_a_slow_disk_is_not_waited_for_and_catches_up(
    cluster: SlowCluster, crew: Crew[SlowCluster], ms: int
) -> None:
    slow = cluster.replicas()[0]
    with steady(cluster.endpoints(slow)):
        cluster.slow(slow, ms)
        progress(crew, 3 * STEP)
        cluster.slow(slow, 0)
        cluster.whole()
    told(crew, f"a replica slow by {ms} ms")


def test_a_primary_with_a_slow_disk_goes_on_as_long_as_its_heartbeats_come_in_time(
    cluster: SlowCluster, crew: Crew[SlowCluster]
) -> None:
    primary = cluster.primary()
    with steady(cluster.endpoints()):
        cluster.slow(primary, ELECTION_MS // 10)
        progress(crew, STEP)
        cluster.slow(primary, 0)
    told(crew, "a primary slow by 100 ms")


def test_a_primary_whose_commits_take_longer_than_an_election_is_replaced(
    cluster: SlowCluster, crew: Crew[SlowCluster]
) -> None:
    old = cluster.primary()
    cluster.slow(old, 4 * ELECTION_MS)
    new = cluster.primary(other_than=old)
    progress(crew, STEP)
    cluster.slow(old, 0)
    until(lambda: cluster.sees(old, lambda info: info.primary == new), "the old primary follows")
    with penstock.connect(cluster.client(old), read_only=True, retry_for=LIMIT_S) as client:
        assert client.status()["counters"]["commit_max_ms"] >= 4 * ELECTION_MS
    assert "slow disk: a commit took" in cluster.log(old).read_text()
    told(crew, "a primary slow by 4 s")


def test_three_slow_disks_slow_everybody_down_and_nothing_is_lost(
    cluster: SlowCluster, crew: Crew[SlowCluster]
) -> None:
    for node in NODES:
        cluster.slow(node, ELECTION_MS // 10)
    progress(crew, STEP)
    told(crew, "three slow disks")
