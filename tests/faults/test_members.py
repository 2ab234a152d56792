"""Nodes that are replaced and removed while everybody works."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock
from faults.cluster import MIXED, STEP
from faults.crew import Crew, end, make_queues, progress, until
from faults.steady import steady
from penstock.cli.private_cluster import PrivateCluster
from penstock.client.cluster import MemberInfo

CALM_S = 2.5  # a few election time-outs


class Members(PrivateCluster):
    """Three nodes, as the crew finds them."""

    @property
    def endpoint(self) -> list[str]:
        return self.endpoints

    def member(self, node: int) -> MemberInfo | None:
        """The node in the eyes of the primary, if it belongs to the cluster."""
        primary = self.primary()
        info = None if primary is None else self.info(primary)
        return next((it for it in info.members if it.node == node), None) if info is not None else None

    def votes(self, node: int) -> bool:
        found = self.member(node)
        return found is not None and found.voter

    def join(self, node: int) -> None:
        """A new node, until it has its vote."""
        client_at, listen, publish = self.add(node)
        with penstock.connect(self.endpoints, retry_for=60) as client:
            client.cluster_add(node, client=client_at, listen=listen, publish=publish)
        until(lambda: self.votes(node), f"node {node} has a vote")

    def leave(self, node: int) -> None:
        with penstock.connect(self.endpoints, retry_for=60) as client:
            client.cluster_remove(node)
        until(lambda: self.primary() not in (None, node) and self.member(node) is None, f"node {node} has left")


@pytest.fixture
def cluster(short: Path) -> Iterator[Members]:
    with Members(3, folder=short) as cluster:
        yield cluster


@pytest.fixture
def crew(cluster: Members) -> Iterator[Crew[Members]]:
    """Everybody at work; at the end what happened is judged."""
    with Crew(cluster) as crew:
        make_queues(cluster.endpoint)
        for role, name in MIXED:
            crew.start(role, name)
        progress(crew, STEP)
        yield crew
        end(crew, "members")


def test_a_node_whose_disk_was_lost_is_replaced_by_one_with_a_new_id(cluster: Members, crew: Crew[Members]) -> None:
    primary = cluster.settle()
    victim, other = (node for node in cluster.nodes if node != primary)
    cluster.nodes[victim].kill()
    shutil.rmtree(cluster.nodes[victim].data)
    progress(crew, STEP)
    cluster.leave(victim)
    cluster.join(4)
    progress(crew, STEP)
    # It counts: with the other one gone, there is no majority without it.
    cluster.nodes[other].kill()
    progress(crew, STEP)
    cluster.nodes[primary].kill()
    cluster.nodes[other].start()
    progress(crew, STEP)
    assert cluster.settle() in (4, other)
    cluster.nodes[primary].start()
    cluster.settle()


def test_a_replica_that_was_removed_and_runs_on_disturbs_nobody(cluster: Members, crew: Crew[Members]) -> None:
    primary = cluster.settle()
    removed = next(node for node in cluster.nodes if node != primary)
    with steady({node: it.endpoint for node, it in cluster.nodes.items() if node != removed}):
        cluster.leave(removed)
        until_s = time.monotonic() + CALM_S
        while time.monotonic() < until_s:
            progress(crew, STEP)
        cluster.nodes[removed].kill()
        cluster.nodes[removed].start()  # it may not know yet that it was removed
        until_s = time.monotonic() + CALM_S
        while time.monotonic() < until_s:
            progress(crew, STEP)


def test_a_primary_that_is_removed_hands_over(cluster: Members, crew: Crew[Members]) -> None:
    removed = cluster.settle()
    cluster.leave(removed)
    progress(crew, STEP)
    assert cluster.primary() != removed
    cluster.join(4)
    progress(crew, STEP)


def test_who_was_away_while_a_node_joined_gives_it_the_vote_that_it_needs(cluster: Members) -> None:
    """It does not know the new node, which alone has the newest entries: without its vote there is no primary."""
    primary = cluster.settle()
    away, third = (node for node in cluster.nodes if node != primary)
    cluster.nodes[away].kill()
    cluster.join(4)
    with penstock.connect(cluster.endpoints, retry_for=60) as client:
        client.cluster_transfer(4)
        until(lambda: cluster.primary() == 4, "the new node is the primary")
        cluster.nodes[third].kill()
    with pytest.raises(penstock.NoQuorum), penstock.connect(cluster.nodes[4].endpoint, retry_for=2) as client:
        client.create_queue("two-of-four-have-it")
    cluster.nodes[primary].kill()
    cluster.nodes[third].start()
    cluster.nodes[away].start()
    until(lambda: cluster.primary() == 4, "the only one that may be it is the primary")
    cluster.nodes[primary].start()
    cluster.settle()
