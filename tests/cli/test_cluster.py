"""The verbs about clusters as typed, against three daemons; and the drill that kills their primary."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.daemons import until

import penstock
from penstock.cli.ports import HeldPorts
from penstock.cli.private import PrivateDaemon
from penstock.cli.private_cluster import PrivateCluster, configuration

from .conftest import Shell


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    """One whose nodes all stay."""
    with PrivateCluster(3) as cluster:
        yield cluster


@pytest.fixture
def own_cluster() -> Iterator[PrivateCluster]:
    """One that a test may harm."""
    with PrivateCluster(3) as cluster:
        yield cluster


def shell_of(cluster: PrivateCluster) -> Shell:
    return Shell(" ".join(cluster.endpoints))


@pytest.fixture
def shell(cluster: PrivateCluster) -> Shell:
    return shell_of(cluster)


def status(shell: Shell) -> dict[str, Any]:
    (told,) = shell.json("cluster", "status")
    return told  # type: ignore[no-any-return]


def role_of(told: dict[str, Any], node: int) -> str | None:
    return next((member["role"] for member in told["members"] if member["node"] == node), None)


def test_status_is_that_of_the_primary_whichever_node_is_asked(cluster: PrivateCluster) -> None:
    primaries = {status(Shell(endpoint))["node"] for endpoint in cluster.endpoints}
    assert primaries == {cluster.primary()}


def test_status_shows_every_member_with_its_role(shell: Shell) -> None:
    told = status(shell)
    assert sorted(member["node"] for member in told["members"]) == [1, 2, 3]
    assert sorted(member["role"] for member in told["members"]) == ["primary", "replica", "replica"]


def test_status_in_a_pipe_is_one_line_for_each_node(shell: Shell) -> None:
    lines = [line.split("\t") for line in shell.ok("cluster", "status").splitlines()]
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert {len(line) for line in lines} == {8}


def test_a_daemon_alone_is_a_cluster_of_one(daemon: Any) -> None:
    told = status(Shell(daemon.endpoint))
    assert [(member["node"], member["role"]) for member in told["members"]] == [(1, "primary")]


def test_status_is_that_of_the_daemon_that_is_asked(cluster: PrivateCluster) -> None:
    primary = cluster.nodes[cluster.settle()].listen
    for node, daemon in cluster.nodes.items():
        (told,) = Shell(daemon.listen).json("status")
        assert (told["node"], told["pid"], told["primary"]) == (node, daemon.pid, primary)
        assert (told["role"] == "primary") == (daemon.listen == primary)


def test_a_node_does_not_start_without_the_others_in_its_configuration(own_cluster: PrivateCluster) -> None:
    folder = own_cluster.nodes[2].data
    own_cluster.nodes[2].stop()
    alone = shell_of(own_cluster)("serve", "--data", str(folder), "--listen", "tcp://127.0.0.1:*")
    assert alone.returncode == 1
    assert "is that of a cluster of the nodes 1, 2, 3" in alone.stderr
    assert "[[cluster.peer]]" in alone.stderr


def test_a_backup_is_refused_by_the_cluster_and_good_for_going_on_alone(
    own_cluster: PrivateCluster, tmp_path: Path
) -> None:
    shell, node = shell_of(own_cluster), own_cluster.nodes[2]
    shell.ok("queue", "create", "work")
    shell.ok("push", "work", "kept")
    own_cluster.settle(lag_max=0)
    (made,) = shell.json("backup", str(tmp_path / "copy"), "--data", str(node.data))
    assert (made["folder"], made["damaged"]) == (str(tmp_path / "copy"), 0)
    assert shell("backup", str(tmp_path / "copy"), "--data", str(node.data)).returncode == 1, "it is there already"
    node.stop()
    shutil.rmtree(node.data)
    shutil.copytree(tmp_path / "copy", node.data)
    process = node.launch()
    assert process.wait(60) == 1
    assert "knows node 2 on another disk" in node.log.read_text(encoding="utf-8")
    for other in (1, 3):
        own_cluster.nodes[other].kill()
    shell.ok("cluster", "force-new", "--yes", "--config", str(node.folder / "daemon.toml"), "--data", str(node.data))
    node.start()
    assert [it["body"] for it in Shell(node.listen).json("pull", "work", "--ack")] == ["kept"]


def test_node_list_asks_every_node_itself(cluster: PrivateCluster, shell: Shell) -> None:
    rows = shell.json("node", "list")
    assert [(row["node"], row["pid"]) for row in rows] == [(node, it.pid) for node, it in sorted(cluster.nodes.items())]
    assert sorted(row["role"] for row in rows) == ["primary", "replica", "replica"]
    assert {row["term"] for row in rows} == {status(shell)["term"]}
    for row in rows:
        assert all(type(row[column]) is int for column in ("applied", "lag", "lag_bytes", "heard_ms")), row


def test_a_snapshot_is_made_on_every_node_or_on_one(cluster: PrivateCluster, shell: Shell) -> None:
    shell.ok("queue", "create", "snapshots")
    rows = shell.json("cluster", "snapshot")
    assert [row["node"] for row in rows] == sorted(cluster.nodes)
    for row in rows:
        assert row["applied"] > row["floor"] >= 0
        assert row["entries"] >= 0
        assert row["freed_bytes"] >= 0
    lines = shell.ok("cluster", "snapshot", "--node", "2").splitlines()
    assert [line.split("\t")[0] for line in lines] == ["2"]


def test_a_snapshot_of_nodes_of_which_one_is_down_says_so_and_is_made_on_the_others(
    own_cluster: PrivateCluster,
) -> None:
    own_cluster.nodes[3].kill()
    done = shell_of(own_cluster)("cluster", "snapshot", "--json")
    assert done.returncode == 5
    assert [json.loads(line)["node"] for line in done.stdout.splitlines()] == [1, 2]
    assert "node 3 made none" in done.stderr


def test_transfer_makes_another_node_the_primary(cluster: PrivateCluster, shell: Shell) -> None:
    other = next(node for node in cluster.nodes if node != cluster.settle())
    shell.ok("cluster", "transfer", str(other))
    until(lambda: cluster.primary() == other, "the other node is the primary")


@pytest.mark.parametrize("words", [("transfer", "9"), ("remove", "9", "--yes")])
def test_a_node_that_is_no_member_is_not_found(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell("cluster", *words)
    assert done.returncode == 3
    assert "node 9" in done.stderr


def test_removing_a_node_asks_first(shell: Shell) -> None:
    assert shell("cluster", "remove", "1").returncode == 2
    assert len(status(shell)["members"]) == 3


def test_crashing_a_node_asks_first(cluster: PrivateCluster, shell: Shell) -> None:
    assert shell("node", "crash").returncode == 2
    assert all(daemon.running for daemon in cluster.nodes.values())


def test_after_a_crash_of_the_primary_everything_goes_on(own_cluster: PrivateCluster) -> None:
    shell = shell_of(own_cluster)
    shell.ok("queue", "create", "work")
    shell.ok("push", "work", "before")
    (crashed,) = shell.json("node", "crash", "--yes")
    assert crashed["role"] == "primary"
    assert own_cluster.nodes[crashed["node"]].wait() == -9
    shell.ok("push", "work", "after")
    assert [it["body"] for it in shell.json("pull", "work", "-n", "2", "--ack")] == ["before", "after"]
    assert [row["node"] for row in shell.json("node", "list") if row["role"] == "down"] == [crashed["node"]]


def test_a_replica_that_is_named_is_crashed(own_cluster: PrivateCluster) -> None:
    replica = next(node for node in own_cluster.nodes if node != own_cluster.settle())
    shell_of(own_cluster).ok("node", "crash", "--node", str(replica), "--yes")
    assert own_cluster.nodes[replica].wait() == -9


def test_below_a_quorum_nothing_is_acknowledged_and_local_reads_are_answered(own_cluster: PrivateCluster) -> None:
    shell = shell_of(own_cluster)
    shell.ok("queue", "create", "work")
    shell.ok("push", "work", "one")
    left = next(node for node in own_cluster.nodes if node != own_cluster.settle(lag_max=0))
    endpoint = own_cluster.nodes[left].listen
    with penstock.connect(endpoint, read_only=True) as client:
        until(lambda: [it.next for it in client.list_queues()] == [1], "the replica has applied it")
        for node in own_cluster.nodes:
            if node != left:
                own_cluster.nodes[node].kill()
        until(lambda: client.cluster().primary is None, "the node that is left knows no primary")
        assert client.describe("work").ready == 1
        assert client.staleness is not None
    assert shell("cluster", "status").returncode == 5
    refused = shell("push", "work", "two", "--timeout", "1s")
    assert refused.returncode == 5
    assert "penstock node list" in refused.stderr
    (told,) = shell.json("status")
    assert (told["node"], told["primary"]) == (left, None)
    assert told["role"] != "primary"
    assert shell("queue", "list", "--timeout", "1s").returncode == 5
    read = shell("queue", "list", "--local")
    assert read.stdout.startswith("work\t1\t")
    assert re.match(r"local: as of log entry \d+; the primary was heard \d+ ms before\n", read.stderr)


def test_a_new_node_learns_first_and_then_votes(own_cluster: PrivateCluster) -> None:
    shell = shell_of(own_cluster)
    client, listen, publish = own_cluster.add(4)
    shell.ok("cluster", "add", "4", "--client", client, "--listen", listen, "--publish", publish)
    until(lambda: role_of(status(shell), 4) == "replica", "the new node votes")
    shell.ok("cluster", "remove", "4", "--yes")
    until(lambda: role_of(status(shell), 4) is None, "the node has left")


@pytest.fixture
def ports() -> Iterator[HeldPorts]:
    held = HeldPorts()
    yield held
    held.close()


def test_a_daemon_that_was_alone_becomes_a_cluster_with_all_it_has(tmp_path: Path, ports: HeldPorts) -> None:
    first, second = ((ports.endpoint(), ports.endpoint(), ports.endpoint()) for _ in range(2))
    with PrivateDaemon(folder=tmp_path / "one", listen=first[0]) as daemon:
        alone = Shell(daemon.endpoint)
        alone.ok("queue", "create", "work")
        alone.ok("push", "work", "kept")
        words = ("cluster", "add", "2", "--client", second[0], "--listen", second[1], "--publish", second[2])
        refused = alone(*words)
        assert refused.returncode == 2
        assert "[[cluster.peer]]" in refused.stderr
    settings = configuration(2, {1: first, 2: second}, join=True)
    with (
        PrivateDaemon(configuration(1, {1: first}), tmp_path / "one", first[0]) as daemon,
        PrivateDaemon(settings, tmp_path / "two", second[0]) as other,
    ):
        shell = Shell(daemon.endpoint)
        shell.ok(*words)
        until(lambda: role_of(status(shell), 2) == "replica", "the new node votes")
        shell.ok("cluster", "transfer", "2")
        until(lambda: status(shell)["primary"] == 2, "the new node is the primary")
        assert [it["body"] for it in Shell(other.endpoint).json("pull", "work", "--ack")] == ["kept"]


def test_a_node_keeps_its_address_with_its_id_and_moves_only_alone(
    own_cluster: PrivateCluster, ports: HeldPorts, tmp_path: Path
) -> None:
    shell, node = shell_of(own_cluster), own_cluster.nodes[2]
    shell.ok("queue", "create", "work")
    own_cluster.settle(lag_max=0)
    shell.ok("cluster", "snapshot")
    node.stop()
    moved, elsewhere = tmp_path / "moved.toml", ports.endpoint()
    moved.write_text((node.folder / "daemon.toml").read_text().replace(node.listen, elsewhere))
    words = ("--config", str(moved), "--data", str(node.data))
    refused = shell("serve", *words)
    assert refused.returncode == 1
    assert f"the cluster knows node 2 at {node.listen}" in refused.stderr
    assert elsewhere in refused.stderr
    shell.ok("cluster", "force-new", "--yes", *words)
    with PrivateDaemon(moved.read_text(), node.folder, elsewhere) as alone:
        (told,) = Shell(alone.endpoint).json("cluster", "status")
        assert [(it["node"], it["endpoint"]) for it in told["members"]] == [(2, elsewhere)]
        Shell(alone.endpoint).ok("push", "work", "one")


def test_a_live_node_is_not_removed_while_another_one_is_dead(own_cluster: PrivateCluster) -> None:
    shell = shell_of(own_cluster)
    primary = own_cluster.settle(lag_max=0)
    dead, alive = (node for node in own_cluster.nodes if node != primary)
    own_cluster.nodes[dead].kill()
    until(lambda: not any(it["connected"] for it in status(shell)["members"] if it["node"] == dead), "it is missed")
    for node in (alive, primary):
        refused = shell("cluster", "remove", str(node), "--yes")
        assert refused.returncode == 2
        assert f"nothing was heard of node {dead} lately" in refused.stderr
        assert f"bring node {dead} back, or remove the dead first" in refused.stderr
    shell.ok("cluster", "remove", str(dead), "--yes")
    until(lambda: role_of(status(shell), dead) is None, "the dead one has left")
    shell.ok("queue", "create", "work")


def test_a_drill_loses_nothing_and_repeats_nothing(shell: Shell) -> None:
    (told,) = shell.json("demo", "failover", "--kills", "2")
    assert (len(told["gaps_s"]), told["lost"], told["duplicates"]) == (2, 0, 0)
    assert told["acknowledged"] == told["completed"] > 0


def test_a_cluster_is_measured_as_one(cluster: PrivateCluster) -> None:
    done = Shell("")("bench", "--nodes", "3", "--cases", "latency", "--seconds", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["case"], row["nodes"]) == ("latency", 3)
    assert row["rate"] > 0


def test_either_a_cluster_of_its_own_or_one_that_is_named_is_measured(shell: Shell) -> None:
    assert shell("bench", "--nodes", "3", "--cases", "latency").returncode == 2


def force_new(cluster: PrivateCluster, node: int, *words: str) -> tuple[str, ...]:
    folder = cluster.nodes[node].folder
    config, data = str(folder / "daemon.toml"), str(cluster.nodes[node].data)
    return ("cluster", "force-new", "--config", config, "--data", data, *words)


def test_a_node_whose_majority_is_gone_for_good_can_be_made_to_go_on_alone(own_cluster: PrivateCluster) -> None:
    shell = shell_of(own_cluster)
    shell.ok("queue", "create", "work")
    shell.ok("push", "work", "one")
    left = own_cluster.settle(lag_max=0)
    for daemon in own_cluster.nodes.values():
        daemon.kill()
    (done,) = shell.json(*force_new(own_cluster, left, "--yes"))
    assert (done["node"], done["voters_before"]) == (left, [1, 2, 3])
    own_cluster.nodes[left].start()
    alone = Shell(own_cluster.nodes[left].listen)
    alone.ok("push", "work", "two")
    assert [it["body"] for it in alone.json("pull", "work", "-n", "2", "--ack")] == ["one", "two"]
    assert [member["node"] for member in status(alone)["members"]] == [left]


def test_a_node_that_runs_is_not_made_to_go_on_alone(cluster: PrivateCluster, shell: Shell) -> None:
    done = shell(*force_new(cluster, 1, "--yes"))
    assert done.returncode == 1
    assert "is in use by another daemon" in done.stderr


def test_going_on_alone_asks_first(cluster: PrivateCluster, shell: Shell) -> None:
    assert shell(*force_new(cluster, 1)).returncode == 2
