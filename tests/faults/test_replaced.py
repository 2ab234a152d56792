"""A node whose data was lost must not come back as if it had it; and nodes that know each other by their keys."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

import penstock
from faults.crew import until
from penstock.cli.private_cluster import PrivateCluster

LEARNS_S = 60.0


@pytest.fixture(params=[False, True], ids=["in the clear", "with keys"])
def cluster(request: pytest.FixtureRequest) -> Iterator[PrivateCluster]:
    with PrivateCluster(3, curve=request.param) as cluster:
        yield cluster


def publish(cluster: PrivateCluster, body: bytes) -> None:
    with penstock.connect(cluster.endpoints, retry_for=60) as client, client.producer("kept") as producer:
        producer.send(body).wait()


def bodies(cluster: PrivateCluster) -> list[bytes]:
    with penstock.connect(cluster.endpoints, retry_for=60) as client:
        return [message.body for message in client.peek("kept", limit=100)]


def voters(cluster: PrivateCluster) -> set[int]:
    with penstock.connect(cluster.endpoints, retry_for=60) as client:
        return {member.node for member in client.cluster().members if member.voter}


def test_rule_7_a_node_that_lost_its_disk_is_refused_and_joins_under_a_new_id(cluster: PrivateCluster) -> None:
    """What is acknowledged is on two disks; one of these is lost, and the node of the other is away for a while.

    The third one and the one with the empty disk are a majority, and would agree that there was nothing.
    """
    with penstock.connect(cluster.endpoints, retry_for=60) as client:
        client.create_queue("kept")
    keeper = cluster.settle(lag_max=0)
    lost, late = (node for node in cluster.nodes if node != keeper)
    cluster.nodes[late].kill()
    publish(cluster, b"acknowledged")
    cluster.nodes[lost].kill()
    cluster.nodes[keeper].kill()
    shutil.rmtree(cluster.nodes[lost].data)
    cluster.nodes[late].start()
    cluster.nodes[lost].launch()
    assert cluster.nodes[lost].wait() == 1
    said = cluster.nodes[lost].log.read_text()
    assert re.search(rf"error: node {late} knows node {lost} on another disk \([0-9a-f]{{16}}\) than this one", said)
    assert f"penstock cluster remove {lost}" in said
    assert "penstock cluster add" in said
    assert cluster.primary() is None
    cluster.nodes[keeper].start()
    publish(cluster, b"more")
    assert bodies(cluster) == [b"acknowledged", b"more"]
    # The way back.
    with penstock.connect(cluster.endpoints, retry_for=60) as client:
        client.cluster_remove(lost)
        client_at, listen, publish_at = cluster.add(4)
        until(lambda: lost not in voters(cluster), "the lost one has left")
        client.cluster_add(4, client=client_at, listen=listen, publish=publish_at, public_key=cluster.keys.get(4))
    until(lambda: voters(cluster) == {keeper, late, 4}, "the new one votes")
    cluster.nodes[keeper].kill()
    assert bodies(cluster) == [b"acknowledged", b"more"]


def test_rule_7_a_new_cluster_begins_when_all_its_nodes_have_met() -> None:
    """Two of three empty disks: nothing tells a new cluster from one whose third disk has everything."""
    with PrivateCluster(3) as whole:
        for daemon in whole.nodes.values():
            daemon.stop()
            shutil.rmtree(daemon.data)
        one, two, three = whole.nodes.values()
        one.start()
        two.start()
        with pytest.raises(penstock.NoQuorum):
            penstock.connect(whole.endpoints, retry_for=3)
        assert whole.primary() is None
        three.start()
        with penstock.connect(whole.endpoints, retry_for=60) as client:
            client.create_queue("begun")
        # From now on two are enough, also after all were stopped.
        for daemon in whole.nodes.values():
            daemon.kill()
        one.start()
        two.start()
        with penstock.connect(whole.endpoints, retry_for=60) as client:
            assert client.describe("begun").ready == 0


def test_rule_7_a_node_with_the_data_of_another_one_stops() -> None:
    with PrivateCluster(3) as cluster:
        other, mixed_up = (node for node in cluster.nodes if node != cluster.settle())
        cluster.nodes[mixed_up].stop()
        cluster.nodes[other].stop()
        shutil.rmtree(cluster.nodes[mixed_up].data)
        shutil.copytree(cluster.nodes[other].data, cluster.nodes[mixed_up].data)
        cluster.nodes[mixed_up].launch()
        assert cluster.nodes[mixed_up].wait() == 1
        assert f"knows node {mixed_up} on another disk" in cluster.nodes[mixed_up].log.read_text()


def test_rule_19_three_nodes_with_keys_elect_publish_and_go_on_without_their_primary() -> None:
    with PrivateCluster(3, curve=True) as cluster:
        with penstock.connect(cluster.endpoints, retry_for=60) as client:
            client.create_queue("kept")
        publish(cluster, b"one")
        first = cluster.settle()
        cluster.nodes[first].kill()
        publish(cluster, b"two")
        cluster.nodes[first].start()
        assert cluster.settle() != first
        assert bodies(cluster) == [b"one", b"two"]


def test_rule_19_a_node_whose_key_is_not_the_one_that_the_others_list_does_not_start() -> None:
    with PrivateCluster(3, curve=True) as cluster:
        victim = cluster.nodes[2]
        victim.stop()
        key_file = victim.folder / "curve.key_secret"
        key_file.write_text((cluster.nodes[3].folder / "curve.key_secret").read_text())
        victim.launch()
        assert victim.wait() == 1
        assert f"the cluster knows node 2 by {cluster.keys[2]}" in victim.log.read_text()
        key_file.chmod(0o644)
        victim.launch()
        assert victim.wait() == 2
        assert "can be read by others than its owner" in victim.log.read_text()
