"""Nodes that cannot hear each other, in one direction or in both, while everybody works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from kit.daemons import Raw

from faults.cluster import STEP, Cluster, told
from faults.conftest import Works
from faults.crew import Crew, progress, until
from faults.steady import steady

CALM_S = 2.5  # a few election time-outs


@pytest.fixture
def cluster(far_crew: Crew[Cluster], works: Works) -> Iterator[Cluster]:
    progress(far_crew, STEP)
    far_crew.daemon.whole()
    yield far_crew.daemon
    works.open()


def test_a_primary_alone_is_replaced_acknowledges_nothing_and_follows_when_it_is_back(
    cluster: Cluster, far_crew: Crew[Cluster], works: Works
) -> None:
    old = cluster.primary()
    with Raw(cluster.client(old)) as before, Raw(cluster.client(old)) as after:
        before.hello()
        cluster.note(f"cut off {old}")
        works.cut(old)
        before.say_later("create", before.sequence + 1, {"name": "never", "kind": "queue"})
        new = cluster.primary(other_than=old)
        assert new != old
        until(lambda: cluster.sees(old, lambda info: info.role != "primary"), "it knows that it is alone")
        assert before.receive().status == "NoQuorum"
        assert after.say("hello", 0, {"version": 1, "client": "raw"}).status == "NoQuorum"
    progress(far_crew, STEP)
    works.open()
    cluster.whole()
    told(far_crew, "primary cut off")


def calm(crew: Crew[Cluster], check: Callable[[], None]) -> None:
    """For some election time-outs work goes on, and `check` holds."""
    until_s = time.monotonic() + CALM_S
    while time.monotonic() < until_s:
        progress(crew, STEP)
        check()


@pytest.mark.parametrize("middle", ["the primary", "a replica"])
def test_rule_5_a_bridge_partition_does_not_churn_terms(
    cluster: Cluster, far_crew: Crew[Cluster], works: Works, middle: str
) -> None:
    primary = cluster.primary()
    one, other = cluster.replicas(primary)
    with steady(cluster.endpoints(one)) as check:
        works.cut(one, other if middle == "the primary" else primary)
        calm(far_crew, check)
        works.open()
        cluster.whole()  # in one term: it is nobody's that has risen
    told(far_crew, f"{middle} is the bridge")


def test_rule_5_a_replica_that_hears_nobody_but_is_heard_disturbs_nobody(
    cluster: Cluster, far_crew: Crew[Cluster], works: Works
) -> None:
    primary = cluster.primary()
    deaf, other = cluster.replicas(primary)
    with steady(cluster.endpoints(deaf)) as check:
        for speaker in (primary, other):
            works.block(speaker, deaf)
        calm(far_crew, check)
        works.open()
        cluster.whole()  # in one term: it is nobody's that has risen
    told(far_crew, "a deaf replica")


@pytest.mark.parametrize("way", ["is not heard", "does not hear"])
def test_a_primary_with_one_way_roads_is_replaced(
    cluster: Cluster, far_crew: Crew[Cluster], works: Works, way: str
) -> None:
    primary = cluster.primary()
    cluster.note(way)
    for other in cluster.replicas(primary):
        works.block(*((primary, other) if way == "is not heard" else (other, primary)))
    cluster.primary(other_than=primary)
    progress(far_crew, STEP)
    works.open()
    cluster.whole()
    told(far_crew, f"a primary that {way}")
