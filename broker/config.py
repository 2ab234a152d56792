"""What daemon.toml may say. Everything else is refused at start, with the key and what would be right."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ..peers.errors import InvalidArgument
from ..peers.messages import Address
from . import config_values as values

Section = TypeVar("Section")


def _key(default: Any, read: values.Reader, key: str = "", reloadable: bool = False) -> Any:
    """A field that daemon.toml sets by `key` (default: the field's name); `reloadable`: SIGHUP may change it."""
    return field(default=default, metadata={"read": read, "key": key, "reloadable": reloadable})


@dataclass(frozen=True, slots=True)
class Node:
    id: int = _key(1, values.integer(1, 2**31))
    data: str = _key("./penstock-data", values.text)
    listen: tuple[str, ...] = _key(("tcp://127.0.0.1:7470",), values.endpoints)
    log_level: str = _key("info", values.one_of("debug", "info", "warning", "error"), reloadable=True)


@dataclass(frozen=True, slots=True)
class Peer:
    """One node, as the others find it: `client` is where clients go, `listen` and `publish` where nodes do."""

    id: int = _key(0, values.integer(1, 2**31))
    client: str = _key("", values.endpoint)
    listen: str = _key("", values.endpoint)
    publish: str = _key("", values.endpoint)
    public_key: str = _key("", values.public_key)

    @property
    def address(self) -> Address:
        return Address(self.client, self.listen, self.publish, self.public_key)


@dataclass(frozen=True, slots=True)
class Cluster:
    name: str = _key("penstock", values.text)
    listen: str = _key("tcp://127.0.0.1:7471", values.endpoint)
    publish: str = _key("tcp://127.0.0.1:7472", values.endpoint)
    election_ms: int = _key(1_000, values.duration(100), "election_timeout")
    heartbeat_ms: int = _key(100, values.duration(10), "heartbeat")
    join: bool = _key(False, values.flag)  # a new node of a cluster that runs: it follows until it is promoted
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True, slots=True)
class Storage:
    map_size_bytes: int = _key(64 * 2**30, values.size(2**20), "map_size")
    max_message_bytes: int = _key(64 * 2**20, values.size(2**10), "max_message")
    durability: str = _key("fsync", values.one_of("fsync", "interval"))
    interval_ms: int = _key(20, values.duration(1), "interval")


@dataclass(frozen=True, slots=True)
class Security:
    curve: bool = _key(False, values.flag)  # between nodes
    key_file: str = _key("curve.key_secret", values.text)
    auth: bool = _key(False, values.flag)


@dataclass(frozen=True, slots=True)
class Limits:
    max_batch: int = _key(100_000, values.integer(1, 10**6), reloadable=True)  # messages of one append
    session_timeout_ms: int = _key(60_000, values.duration(1_000), "session_timeout", reloadable=True)
    parked: int = _key(64, values.integer(1, 10**4), reloadable=True)  # waiting requests per session
    in_flight_max: int = _key(200_000, values.integer(1, 10**7), reloadable=True)  # leased messages per group
    lease_max_ms: int = _key(12 * 3_600_000, values.duration(1_000), "lease_max", reloadable=True)
    heard_max: int = _key(1024, values.integer(1, 10**6), reloadable=True)  # requests of one turn
    heard_bytes: int = _key(8 * 2**20, values.size(2**16), reloadable=True)
    cache_bytes: int = _key(32 * 2**20, values.size(0), reloadable=True)
    checkpoint_entries: int = _key(8192, values.integer(1, 10**7), reloadable=True)
    checkpoint_bytes: int = _key(64 * 2**20, values.size(2**16), reloadable=True)


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool for the daemon to start. queue None: the queue that its tasks name."""

    queue: str | None = _key(None, values.text)
    tasks: tuple[str, ...] = _key((), values.texts)
    ranks: int = _key(2, values.integer(1, 10**5))
    launcher: str = _key("", values.text)
    mpi: str = _key("auto", values.one_of("auto", "mpich", "openmpi"))


@dataclass(frozen=True, slots=True)
class Compute:
    pools: tuple[Pool, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    node: Node = Node()
    cluster: Cluster = Cluster()
    storage: Storage = Storage()
    security: Security = Security()
    limits: Limits = Limits()
    compute: Compute = Compute()


def load(path: str | Path) -> Config:
    """The configuration in the file `path`. Raises InvalidArgument, which names file, key and what would be right."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InvalidArgument(
            f"cannot read the configuration {path}: {reason}", "give the path of a daemon.toml with --config"
        ) from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Config:
    """The configuration that `text` says; `source` names it in errors. Raises InvalidArgument."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(
            f"{source}: no TOML: {error}", "see the daemon.toml of the project for an example"
        ) from error
    try:
        return _config(tables)
    except InvalidArgument as error:
        raise InvalidArgument(f"{source}: {error.message}", error.hint) from error


def override(config: Config, data: str | None = None, listen: tuple[str, ...] = ()) -> Config:
    """`config` with what the command line or the environment says instead. Raises InvalidArgument."""
    node = config.node
    if data is not None:
        node = replace(node, data=values.text(data, "data"))
    if listen:
        node = replace(node, listen=values.endpoints(list(listen), "listen"))
    config = replace(config, node=node)
    _check(config)
    return config


def reloadable(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """What SIGHUP finds changed: (keys that can be applied at once, keys that need a restart)."""
    applied: list[str] = []
    restart: list[str] = []
    for section in dataclasses.fields(Config):
        before, after = getattr(old, section.name), getattr(new, section.name)
        for item in dataclasses.fields(before):
            if getattr(before, item.name) != getattr(after, item.name):
                keys = applied if item.metadata.get("reloadable") else restart
                keys.append(f"{section.name}.{item.metadata.get('key') or item.name}")
    return applied, restart


def _config(tables: Mapping[str, Any]) -> Config:
    sections = [section.name for section in dataclasses.fields(Config)]
    for name, table in tables.items():
        if name not in sections:
            raise _unknown(name, sections, "")
        if not isinstance(table, dict):
            raise values.refuse(name, table, f"write [{name}] and its keys below it")
    config = Config(
        node=_section(Node(), "node", tables.get("node", {})),
        cluster=_cluster(tables.get("cluster", {})),
        storage=_section(Storage(), "storage", tables.get("storage", {})),
        security=_section(Security(), "security", tables.get("security", {})),
        limits=_section(Limits(), "limits", tables.get("limits", {})),
        compute=_compute(tables.get("compute", {})),
    )
    config = _adopt(config, tables)
    _check(config)
    return config


def _adopt(config: Config, tables: Mapping[str, Any]) -> Config:
    """What a node does not say of itself, its own [[cluster.peer]] says: so all nodes can share one list."""
    mine = next((peer for peer in config.cluster.peers if peer.id == config.node.id), None)
    if mine is None:
        return config
    said = tables.get("cluster", {})
    own = {key: getattr(mine, key) for key in ("listen", "publish") if key not in said}
    node = config.node if "listen" in tables.get("node", {}) else replace(config.node, listen=(mine.client,))
    return replace(config, node=node, cluster=replace(config.cluster, **own))


def _cluster(table: Mapping[str, Any]) -> Cluster:
    """[cluster], with every [[cluster.peer]]: all nodes, this one among them."""
    rows = table.get("peer", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise values.refuse("cluster.peer", rows, "write [[cluster.peer]] and its keys below it")
    cluster = _section(Cluster(), "cluster", {key: value for key, value in table.items() if key != "peer"})
    peers: list[Peer] = []
    for number, row in enumerate(rows, 1):
        name = f"cluster.peer (number {number})"
        peer = _section(Peer(), name, row)
        missing = [key for key in ("id", "client", "listen", "publish") if not getattr(peer, key)]
        if missing:
            raise InvalidArgument(f"{name} has no {', '.join(missing)}", "give id, client, listen and publish")
        if any(other.id == peer.id for other in peers):
            raise InvalidArgument(f"{name}: id {peer.id} is given twice", "every node has an id of its own")
        if peer.public_key and any(other.public_key == peer.public_key for other in peers):
            raise InvalidArgument(f"{name}: its public_key is given twice", "every node has a key of its own")
        _check_places(peer, peers, name)
        peers.append(peer)
    return replace(cluster, peers=tuple(peers))


def _check_places(peer: Peer, others: list[Peer], name: str) -> None:
    taken = {endpoint for other in others for endpoint in (other.client, other.listen, other.publish)}
    for key in ("client", "listen", "publish"):
        endpoint = getattr(peer, key)
        if endpoint.endswith(":*"):
            raise values.refuse(f"{name}.{key}", endpoint, "give the port: the other nodes have to know it")
        if endpoint in taken:
            raise values.refuse(f"{name}.{key}", endpoint, "give an endpoint of its own: this one is taken in the list")
        taken.add(endpoint)


def _section(defaults: Section, name: str, table: Mapping[str, Any]) -> Section:
    named = [item for item in dataclasses.fields(defaults) if "read" in item.metadata]  # type: ignore[arg-type]
    fields = {item.metadata["key"] or item.name: item for item in named}
    given: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            raise _unknown(key, list(fields), name)
        given[fields[key].name] = fields[key].metadata["read"](value, f"{name}.{key}")
    return replace(defaults, **given)  # type: ignore[type-var]


def _unknown(key: str, known: list[str], section: str) -> InvalidArgument:
    path = f"{section}.{key}" if section else f"[{key}]"
    close = difflib.get_close_matches(key, known, 1)
    right = f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
    return InvalidArgument(f"{path}: unknown {'key' if section else 'section'}", right)


def _compute(table: Mapping[str, Any]) -> Compute:
    """[compute] is the first pool, if it has tasks, and gives the defaults of every [[compute.pool]]."""
    more = table.get("pool", [])
    if not isinstance(more, list) or not all(isinstance(item, dict) for item in more):
        raise values.refuse("compute.pool", more, "write [[compute.pool]] and its keys below it")
    first = _section(Pool(), "compute", {key: value for key, value in table.items() if key != "pool"})
    if first.queue is not None and not first.tasks:
        raise InvalidArgument("compute.queue needs compute.tasks", "say which modules have the tasks of this queue")
    pools = [first] if first.tasks else []
    defaults = replace(first, queue=None, tasks=())
    for number, item in enumerate(more, 1):
        pool = _section(defaults, f"compute.pool (number {number})", item)
        if not pool.tasks:
            raise InvalidArgument(f"compute.pool (number {number}) has no tasks", 'give tasks = ["module", ...]')
        pools.append(pool)
    return Compute(tuple(pools))


def _check(config: Config) -> None:
    """Refuse what is right key by key but impossible together."""
    if config.security.auth:
        raise InvalidArgument("security.auth is true, but this version has no users yet", "listen on loopback or ipc")
    for endpoint in config.node.listen:
        if values.reachable(endpoint):
            raise InvalidArgument(
                f"node.listen is {endpoint!r}: other machines can reach it, and in this version clients "
                "have neither users nor encryption (security.curve is for the channels between nodes)",
                'listen on loopback or ipc, such as "tcp://127.0.0.1:7470"',
            )
    _check_cluster(config)
    _check_keys(config)
    if config.storage.max_message_bytes > config.storage.map_size_bytes:
        raise InvalidArgument(
            f"storage.max_message ({config.storage.max_message_bytes} bytes) is larger than storage.map_size "
            f"({config.storage.map_size_bytes} bytes)",
            "make the map larger or the messages smaller",
        )


def _check_cluster(config: Config) -> None:
    cluster = config.cluster
    if not cluster.peers:
        return
    mine = [peer for peer in cluster.peers if peer.id == config.node.id]
    if not mine:
        raise InvalidArgument(
            f"node.id is {config.node.id}, and no [[cluster.peer]] has this id", "name all nodes, this one among them"
        )
    for key, here, there in (
        ("node.listen", config.node.listen, mine[0].client), ("cluster.listen", (cluster.listen,), mine[0].listen),
        ("cluster.publish", (cluster.publish,), mine[0].publish),
    ):  # fmt: skip
        if there not in here:
            raise InvalidArgument(
                f"{key} is {', '.join(here)}, but its [[cluster.peer]] says {there}", "make them agree"
            )
    if 3 * cluster.heartbeat_ms > cluster.election_ms:
        raise InvalidArgument(
            f"cluster.election_timeout is {cluster.election_ms} ms, less than three times the heartbeat",
            "a primary must be allowed to miss two heartbeats",
        )
    if config.storage.durability != "fsync":
        raise InvalidArgument(
            f'storage.durability is "{config.storage.durability}" in a cluster', 'a vote needs "fsync": give that'
        )


def _check_keys(config: Config) -> None:
    """With curve every node has a key; without, other machines must not reach what nodes say to each other."""
    peers, curve = config.cluster.peers, config.security.curve
    if curve and not peers:
        raise InvalidArgument(
            "security.curve is true, and there is no [[cluster.peer]]",
            "it encrypts the channels between nodes, and those of clients not yet: without other nodes leave it false",
        )
    for peer in peers:
        if curve and not peer.public_key:
            raise InvalidArgument(
                f"cluster.peer {peer.id} has no public_key, and security.curve is true",
                "give the one that `penstock init` shows on that node",
            )
        if peer.public_key and not curve:
            raise InvalidArgument(
                f"cluster.peer {peer.id} has a public_key, and security.curve is false",
                "set security.curve = true, or take the keys out: nothing is encrypted",
            )
        if values.reachable(peer.client):
            raise InvalidArgument(
                f"cluster.peer {peer.id} has its clients at {peer.client}: other machines can reach it in the clear",
                "use loopback or ipc: in this version security.curve is for the channels between nodes",
            )
        for endpoint in (peer.listen, peer.publish):
            if values.reachable(endpoint) and not curve:
                raise InvalidArgument(
                    f"cluster.peer {peer.id} is at {endpoint}: other machines can reach it, without encryption",
                    "set security.curve = true and give every node a key, or use loopback or ipc",
                )
