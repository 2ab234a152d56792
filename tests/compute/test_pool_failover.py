"""Pools on a cluster whose primary is killed: their jobs go on at the next one, with the same pool."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.daemons import until

from penstock import Client, connect
from penstock.cli.private_cluster import PrivateCluster
from penstock.cli.processes import spawn, stop
from penstock.compute.registry import PoolState, pool_status

pytestmark = pytest.mark.mpi
QUEUE, TASKS = "forecast", "penstock.compute.forecast"
ENDED_S = 60.0
JOBS = 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pools of a test note that they live: apart from those of other tests."""
    monkeypatch.setenv("PENSTOCK_STATE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def cluster(request: pytest.FixtureRequest, folder: Path) -> Iterator[PrivateCluster]:
    with PrivateCluster(3, getattr(request, "param", "")) as cluster:
        yield cluster


def ready(folder: Path, count: int) -> list[PoolState]:
    """So many pools that are ready for jobs."""
    found: list[PoolState] = []

    def there() -> bool:
        found[:] = [state for state in pool_status(folder) if state.phase == "ready"]
        return len(found) == count

    until(there, f"{count} pools are ready")
    return found


def submit(client: Client) -> list[Any]:
    return client.submit_many(QUEUE, [{"assets": [number % 3]} for number in range(JOBS)])


def test_a_pool_that_was_given_all_endpoints_works_on_when_the_primary_dies(
    cluster: PrivateCluster, folder: Path
) -> None:
    primary = cluster.settle()
    # The primary first: that was the only one it knew once.
    endpoints = sorted(cluster.endpoints, key=lambda endpoint: endpoint != cluster.nodes[primary].listen)
    words = [word for endpoint in endpoints for word in ("--endpoint", endpoint)]
    pool = spawn(["pool", "start", "--tasks", TASKS, "--ranks", "1", *words])
    try:
        (before,) = ready(folder, 1)
        assert before.endpoint.split() == endpoints
        with connect(cluster.endpoints, retry_for=ENDED_S) as client:
            jobs = submit(client)
            until(lambda: jobs[0].status() == "done", "it has begun")
            cluster.nodes[primary].kill()
            jobs += submit(client)
            assert all(len(job.result(timeout=ENDED_S)) == 1 for job in jobs)
        (after,) = ready(folder, 1)
        assert (after.pid, after.restarts) == (before.pid, 0)
    finally:
        assert stop(pool) == 0


@pytest.mark.parametrize("cluster", [f'[compute]\nranks = 1\ntasks = ["{TASKS}"]\n'], indirect=True)
def test_pools_that_serve_starts_know_all_nodes_and_work_on_when_the_primary_dies(
    cluster: PrivateCluster, folder: Path
) -> None:
    pools = ready(folder, 3)
    own = {state.endpoint.split()[0] for state in pools}
    assert own == set(cluster.endpoints)
    assert {frozenset(state.endpoint.split()) for state in pools} == {frozenset(cluster.endpoints)}
    with connect(cluster.endpoints, retry_for=ENDED_S) as client:
        jobs = submit(client)
        primary = cluster.settle()
        cluster.nodes[primary].kill()  # and its pool with it
        jobs += submit(client)
        assert all(len(job.result(timeout=ENDED_S)) == 1 for job in jobs)
    left = {state.pid for state in ready(folder, 2)}
    assert left == {state.pid for state in pools if state.endpoint.split()[0] != cluster.nodes[primary].listen}
