"""daemon.toml: what is right is read, everything else is refused with the key and what would be right."""

from pathlib import Path

import pytest

from penstock.broker.config import Config, Peer, Pool, load, override, parse, reloadable
from penstock.broker.config_values import reachable
from penstock.peers.errors import InvalidArgument

ROOT = Path(__file__).parents[2]


def refusal(text: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        parse(text, "some.toml")
    return str(caught.value)


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse("", "some.toml") == Config()


def test_the_shipped_file_says_the_defaults_in_full() -> None:
    assert load(ROOT / "daemon.toml") == Config()


def test_the_shipped_file_names_every_key_with_its_default() -> None:
    import dataclasses
    import tomllib

    tables = tomllib.loads((ROOT / "daemon.toml").read_text())
    for section in dataclasses.fields(Config):
        if section.name != "compute":
            items = dataclasses.fields(getattr(Config(), section.name))
            keys = {item.metadata["key"] or item.name for item in items if "read" in item.metadata}
            assert set(tables[section.name]) == keys


def test_sizes_and_durations_are_read_as_people_write_them() -> None:
    config = parse(
        '[storage]\nmap_size = "1GiB"\nmax_message = "2MB"\ndurability = "interval"\ninterval = "50ms"\n'
        '[limits]\nsession_timeout = "2m"\nlease_max = 3600\n',
        "some.toml",
    )
    assert config.storage.map_size_bytes == 2**30
    assert config.storage.max_message_bytes == 2_000_000
    assert config.storage.interval_ms == 50
    assert config.limits.session_timeout_ms == 120_000
    assert config.limits.lease_max_ms == 3_600_000


def test_listen_takes_one_endpoint_or_a_list_of_them() -> None:
    assert parse('[node]\nlisten = "ipc:///tmp/s"', "x").node.listen == ("ipc:///tmp/s",)
    assert parse('[node]\nlisten = ["tcp://[::1]:*", "tcp://localhost:1"]', "x").node.listen == (
        "tcp://[::1]:*",
        "tcp://localhost:1",
    )


@pytest.mark.parametrize(
    ("text", "key", "right"),
    [
        ("[storage]\nmap_sise = 1", "storage.map_sise", "did you mean map_size?"),
        ("[storge]", "[storge]", "did you mean storage?"),
        ("[cluster]\nelection = 1", "cluster.election", "did you mean election_timeout?"),
        ("[node]\nid = 0", "node.id", "an integer from 1"),
        ("[node]\nid = true", "node.id", "an integer from 1"),
        ('[node]\nid = "1"', "node.id", "an integer from 1"),
        ("[node]\ndata = 5", "node.data", "a text"),
        ('[node]\ndata = " "', "node.data", "not empty"),
        ('[node]\nlog_level = "loud"', "node.log_level", '"debug", "info", "warning", "error"'),
        ("[node]\nlisten = []", "node.listen", "at least one endpoint"),
        ("[node]\nlisten = [1]", "node.listen", "a text or a list of texts"),
        ('[node]\nlisten = "127.0.0.1:7470"', "node.listen", "tcp://HOST:PORT"),
        ('[node]\nlisten = "tcp://127.0.0.1"', "node.listen", "tcp://HOST:PORT"),
        ('[node]\nlisten = "tcp://127.0.0.1:70000"', "node.listen", "tcp://HOST:PORT"),
        ('[node]\nlisten = "inproc://x"', "node.listen", "ipc://PATH"),
        (f'[node]\nlisten = "ipc:///{"x" * 120}"', "node.listen", "at most 107 bytes"),
        ("node = 3", "node", "write [node]"),
        ('[storage]\nmap_size = "64 quarts"', "storage.map_size", "64MiB"),
        ("[storage]\nmap_size = 5", "storage.map_size", "at least"),
        ('[storage]\ndurability = "never"', "storage.durability", '"fsync", "interval"'),
        ('[storage]\ninterval = "soon"', "storage.interval", "500ms"),
        ("[security]\nauth = 1", "security.auth", "true or false"),
        ("[limits]\nparked = 1.5", "limits.parked", "an integer"),
        ("[compute]\nranks = 0", "compute.ranks", "an integer from 1"),
        ("[compute]\ntasks = 1", "compute.tasks", "a list of texts"),
        ('[compute]\npool = "x"', "compute.pool", "[[compute.pool]]"),
    ],
)
def test_what_is_wrong_is_refused_with_its_key_and_what_would_be_right(text: str, key: str, right: str) -> None:
    said = refusal(text)
    assert said.startswith("some.toml: ")
    assert key in said
    assert right in said


def test_text_that_is_no_toml_is_refused_with_its_line() -> None:
    assert "line 2" in refusal("[node]\nid 1\n")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"nothing\.toml: No such file"):
        load(tmp_path / "nothing.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        load(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.5", "[::]", "example.org", "eth0"])
def test_an_address_that_others_can_reach_is_refused_without_curve_and_auth(host: str) -> None:
    assert reachable(f"tcp://{host}:7470")
    assert "listen on loopback or ipc" in refusal(f'[node]\nlisten = "tcp://{host}:7470"')


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "tcp://127.8.8.8:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc://s"]
)
def test_loopback_and_ipc_are_not_reachable(endpoint: str) -> None:
    assert not reachable(endpoint)


def test_security_that_this_version_lacks_is_refused_rather_than_ignored() -> None:
    assert "security.auth is true" in refusal("[security]\nauth = true")


def test_with_keys_nodes_may_be_where_other_machines_reach_them_and_clients_may_not() -> None:
    text = CURVE + peer(1, public_key=KEYS[0]) + peer(2, public_key=KEYS[1], listen="tcp://10.0.0.2:7")
    assert [one.public_key for one in parse(text, "x").cluster.peers] == KEYS
    assert "in this version clients have neither users nor encryption" in refusal(
        '[node]\nlisten = ["tcp://127.0.0.1:710", "tcp://10.0.0.1:7"]\n' + text
    )


def peer(node: int, **changed: str | int) -> str:
    """The lines of one node, at endpoints of its own."""
    keys: dict[str, str | int] = {"id": node} | {
        key: f"tcp://127.0.0.1:7{node}{at}" for at, key in enumerate(("client", "listen", "publish"))
    }
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in (keys | changed).items()]
    return "\n".join(["[[cluster.peer]]", *lines, ""])


THREE = peer(1) + peer(2) + peer(3)
KEYS = [letter * 40 for letter in "ab"]
CURVE = "[security]\ncurve = true\n"


def test_without_peers_a_node_is_a_cluster_of_one() -> None:
    assert parse('[cluster]\nname = "c"', "x").cluster.peers == ()


def test_one_list_of_peers_serves_all_nodes() -> None:
    for node in (1, 2, 3):
        config = parse(f"[node]\nid = {node}\n{THREE}", "x")
        assert [one.id for one in config.cluster.peers] == [1, 2, 3]
        mine = config.cluster.peers[node - 1]
        assert mine == Peer(node, *(f"tcp://127.0.0.1:7{node}{at}" for at in range(3)))
        assert config.node.listen == (mine.client,)
        assert (config.cluster.listen, config.cluster.publish) == (mine.listen, mine.publish)


def test_a_node_may_listen_to_clients_in_more_places_than_its_peers_name() -> None:
    config = parse('[node]\nlisten = ["ipc://here", "tcp://127.0.0.1:710"]\n' + THREE, "x")
    assert config.node.listen == ("ipc://here", "tcp://127.0.0.1:710")


def test_times_of_the_cluster_are_read_as_people_write_them() -> None:
    cluster = parse('[cluster]\nelection_timeout = "3s"\nheartbeat = "1s"\n' + THREE, "x").cluster
    assert (cluster.election_ms, cluster.heartbeat_ms) == (3_000, 1_000)


@pytest.mark.parametrize(
    ("text", "key", "right"),
    [
        ("[cluster]\npeer = 3", "cluster.peer", "write [[cluster.peer]]"),
        ("[[cluster.peer]]\nid = 1", "number 1) has no client, listen, publish", "give id, client, listen and publish"),
        (THREE + peer(2), "number 4): id 2 is given twice", "an id of its own"),
        (THREE + 'public_key = "x"', "number 3).public_key", "the 40 characters that `penstock init` shows"),
        (THREE + 'nonsense = "x"', "number 3).nonsense: unknown key", "known are id, client, listen, publish, public"),
        (peer(2) + peer(3), "node.id is 1", "name all nodes, this one among them"),
        (peer(1) + peer(2, listen="tcp://127.0.0.1:711"), "number 2).listen", "taken in the list"),
        (peer(1, publish="tcp://127.0.0.1:710"), "number 1).publish", "taken in the list"),
        (peer(1, client="tcp://127.0.0.1:*"), "number 1).client", "give the port"),
        (peer(1) + peer(2, listen="tcp://10.0.0.2:7"), "cluster.peer 2 is at tcp://10.0.0.2:7", "curve = true"),
        (CURVE, "security.curve is true, and there is no [[cluster.peer]]", "leave it false"),
        (CURVE + peer(1, public_key=KEYS[0]) + peer(2), "cluster.peer 2 has no public_key", "`penstock init`"),
        (CURVE + peer(1, public_key=KEYS[0]) + peer(2, public_key=KEYS[0]), "public_key is given twice", "of its own"),
        (peer(1, public_key=KEYS[0]), "cluster.peer 1 has a public_key, and security.curve is false", "take the keys"),
        (
            CURVE + peer(1, public_key=KEYS[0]) + peer(2, public_key=KEYS[1], client="tcp://10.0.0.2:7"),
            "cluster.peer 2 has its clients at tcp://10.0.0.2:7",
            "for the channels between nodes",
        ),
        (peer(1, id=0), "number 1).id", "an integer from 1"),
        ('[node]\nlisten = "ipc://other"\n' + THREE, "node.listen is ipc://other", "make them agree"),
        ('[cluster]\nlisten = "ipc://other"\n' + THREE, "cluster.listen is ipc://other", "make them agree"),
        ('[cluster]\npublish = "ipc://other"\n' + THREE, "cluster.publish is ipc://other", "make them agree"),
        ("[cluster]\nlisten = 5", "cluster.listen", "give an endpoint"),
        ('[cluster]\nheartbeat = "400ms"\n' + THREE, "cluster.election_timeout is 1000 ms", "miss two heartbeats"),
        ('[storage]\ndurability = "interval"\n' + THREE, "storage.durability", 'needs "fsync"'),
    ],
)
def test_a_cluster_that_cannot_work_is_refused(text: str, key: str, right: str) -> None:
    said = refusal(text)
    assert key in said
    assert right in said


def test_the_command_line_cannot_move_a_node_away_from_where_its_peers_look_for_it() -> None:
    with pytest.raises(InvalidArgument, match=r"node\.listen"):
        override(parse(THREE, "x"), listen=("ipc://other",))


def test_a_message_larger_than_the_map_is_impossible() -> None:
    assert "storage.max_message" in refusal('[storage]\nmap_size = "16MiB"')


def test_compute_with_tasks_is_a_pool_and_gives_the_defaults_of_more_pools() -> None:
    config = parse(
        '[compute]\nranks = 3\nqueue = "a"\ntasks = ["one", "two"]\n[[compute.pool]]\ntasks = "three"\n'
        '[[compute.pool]]\nranks = 5\nqueue = "b"\ntasks = ["four"]\n',
        "x",
    )
    assert config.compute.pools == (
        Pool(queue="a", tasks=("one", "two"), ranks=3),
        Pool(queue=None, tasks=("three",), ranks=3),
        Pool(queue="b", tasks=("four",), ranks=5),
    )


def test_compute_without_tasks_starts_nothing() -> None:
    assert parse("[compute]\nranks = 3", "x").compute.pools == ()


def test_a_pool_without_tasks_is_refused() -> None:
    assert "number 1" in refusal("[[compute.pool]]\nranks = 3")
    assert "compute.queue needs compute.tasks" in refusal('[compute]\nqueue = "a"')


def test_the_command_line_wins_and_is_checked_as_the_file_is() -> None:
    config = override(Config(), data="/elsewhere", listen=("ipc:///tmp/a",))
    assert (config.node.data, config.node.listen) == ("/elsewhere", ("ipc:///tmp/a",))
    assert override(config) == config
    with pytest.raises(InvalidArgument, match="loopback"):
        override(Config(), listen=("tcp://0.0.0.0:1",))


def test_reloading_tells_what_applies_at_once_from_what_needs_a_restart() -> None:
    old = parse("", "x")
    new = parse('[node]\nlog_level = "debug"\nid = 2\n[limits]\nheard_max = 7\n[storage]\ninterval = "9ms"', "x")
    assert reloadable(old, old) == ([], [])
    applied, restart = reloadable(old, new)
    assert set(applied) == {"node.log_level", "limits.heard_max"}
    assert set(restart) == {"node.id", "storage.interval"}
