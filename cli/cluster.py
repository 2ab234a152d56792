"""penstock cluster: status, add, remove, transfer, snapshot, force-new. penstock node: list, crash."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from ..peers.errors import Closed, NoQuorum, NotFound, PenstockError, Timeout
from . import output
from .daemon import config_option, configured, data_option
from .exits import NO_PRIMARY, OK
from .options import Noun, Options, confirm

if TYPE_CHECKING:
    from ..client.cluster import ClusterInfo, MemberInfo

MEMBER_COLUMNS: Final = ("node", "role", "endpoint", "match", "lag", "lag_bytes", "heard_ms", "connected")
NODE_COLUMNS: Final = ("node", "role", "term", "applied", "lag", "lag_bytes", "heard_ms", "pid", "endpoint")
SNAPSHOT_COLUMNS: Final = ("node", "applied", "floor", "entries", "freed_bytes", "ms")
LOOK_S: Final = 1.0  # for one node of several, which may be down
SNAPSHOT_S: Final = 60.0  # what frees much takes its time

node_argument = click.argument("node", type=click.IntRange(min=1))


@click.group(cls=Noun)
def cluster() -> None:
    """The nodes that are one broker."""


@cluster.command()
@click.pass_obj
def status(options: Options) -> int:
    """Who is the primary, and how far the others are.

    In a pipe: node, role, endpoint, match, lag, lag_bytes, heard_ms, connected. Asked of any node, and then of the
    primary, which alone knows match, lag (entries), lag_bytes and heard_ms. Exit code 5 if no primary is known.
    """
    info = look(options)
    members = [_member_row(info, member) for member in info.members]
    if options.json:
        output.say_json({**output.jsonable(info), "members": members})
    else:
        output.rows(members, MEMBER_COLUMNS, as_json=False, title=f"term {info.term}, commit {info.commit}")
    if info.primary is None:
        output.note(f"no primary is known to node {info.node}: nothing can be acknowledged now")
        return NO_PRIMARY
    return OK


@cluster.command()
@node_argument
@click.option("--client", required=True, metavar="ENDPOINT", help="Where it listens for clients.")
@click.option("--listen", required=True, metavar="ENDPOINT", help="Where it listens for other nodes.")
@click.option("--publish", required=True, metavar="ENDPOINT", help="Where it publishes to other nodes.")
@click.option("--public-key", metavar="KEY", help="Where nodes have keys: its own, as `penstock init` shows it.")
@click.pass_obj
def add(options: Options, node: int, client: str, listen: str, publish: str, public_key: str | None) -> None:
    """Have NODE join; its daemon runs with `join = true` in [cluster].

    It is sent what it lacks, and gets a vote by itself once it has caught up: see `penstock cluster status`.
    """
    with options.connect() as connection:
        connection.cluster_add(node, client=client, listen=listen, publish=publish, public_key=public_key)
    output.one({"node": node, "added": True}, options.json)


@cluster.command()
@node_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(options: Options, node: int, yes: bool) -> None:
    """Have NODE leave for good: its number is never used again."""
    with options.connect() as client:
        info = client.cluster()
        _member(info, node)
        voters = [member.node for member in info.members if member.voter and member.node != node]
        confirm(f"Remove node {node}? {len(voters)} with a vote are left, and its number is never used again.", yes)
        client.cluster_remove(node)
    output.one({"node": node, "removed": True}, options.json)


@cluster.command()
@node_argument
@click.pass_obj
def transfer(options: Options, node: int) -> None:
    """Make NODE the primary. Clients follow it by themselves."""
    with options.connect() as client:
        client.cluster_transfer(node)
    output.one({"node": node, "asked_to_stand": True}, options.json)


@cluster.command()
@click.option("--node", "number", type=click.IntRange(min=1), help="Which.  [default: all]")
@click.pass_obj
def snapshot(options: Options, number: int | None) -> int:
    """Make a checkpoint now, and cut the log behind it: on all nodes, one after the other, or on one.

    Nodes do this by themselves; it is for room at once, and for a quick start after a planned stop. The room is free
    for new messages, the file keeps its size. It is no backup: nothing is copied to anywhere else. In a pipe: node,
    applied, floor (the log begins after it), entries (cut off), freed_bytes, ms. Exit code 5 if a node does not answer.
    """
    info = look(options)
    members = [_member(info, number)] if number is not None else sorted(info.members, key=lambda it: it.node)
    code = OK
    made: list[Any] = []
    for member in members:
        try:
            with _at(options, member, SNAPSHOT_S).connect(read_only=True) as client:
                made.append(output.jsonable(client.snapshot_node()))
        except (Closed, NoQuorum, Timeout) as fault:
            output.note(f"node {member.node} made none: {fault}")
            code = NO_PRIMARY
    output.rows(made, SNAPSHOT_COLUMNS, options.json)
    return code


@cluster.command(name="force-new")
@config_option
@data_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def force_new(options: Options, config: str | None, data: str | None, yes: bool) -> None:
    """For disasters: make the stopped node of a data folder a cluster of its own. LOSSY.

    Only when the majority is gone for good. What it had acknowledged and this node never received is lost; what this
    node received and nobody acknowledged becomes true. None of the others may ever start on its old data again: clear
    it, give it a new node id, and add it. The log keeps an entry that says when this was done and who voted before.
    """
    from ..broker.force import force_new as force  # lmdb: not for --help

    _, found = configured(config, data, ())
    confirm(f"Go on alone with {found.node.data}, and lose what only the other nodes have?", yes)
    done = force(found)
    output.one({"node": done.node, "term": done.term, "entry": done.entry, "voters_before": done.members}, options.json)


@click.group(cls=Noun)
def node() -> None:
    """Single nodes of the cluster."""


@node.command(name="list")
@click.pass_obj
def list_(options: Options) -> None:
    """All nodes, by number, each asked itself: `down` is who does not answer.

    In a pipe: node, role, term, applied, lag (entries), lag_bytes, heard_ms, pid, endpoint.
    """
    info = look(options)
    members = sorted(info.members, key=lambda member: member.node)
    output.rows((_node_row(options, info, member) for member in members), NODE_COLUMNS, options.json)


@node.command()
@click.option("--node", "number", type=click.IntRange(min=1), help="Which.  [default: the primary]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def crash(options: Options, number: int | None, yes: bool) -> None:
    """A drill: end a node's process at once, as kill -9 would. Nothing restarts it but you."""
    info = look(options)
    if number is None and info.primary is None:
        raise Closed("no primary is known", "name a node with --node")
    member = _member(info, info.primary if number is None else number)
    role = _role(info, member)
    confirm(f"Crash node {member.node}, the {role} at {member.endpoint}?", yes)
    with _at(options, member).connect(read_only=True) as client:
        client.crash_node()
    output.one({"node": member.node, "role": role, "endpoint": member.endpoint, "crashed": True}, options.json)


def look(options: Options) -> ClusterInfo:
    """The cluster as the primary sees it; or, if none is known or it does not answer, as the first node that does."""
    with options.connect(read_only=True) as client:
        info = client.cluster()
    if info.primary is None or info.role == "primary":
        return info
    try:
        with _at(options, _member(info, info.primary)).connect(read_only=True) as client:
            theirs = client.cluster()
    except PenstockError:
        return info  # it is down, and the others have not noticed yet
    return theirs if theirs.term >= info.term else info


def _member(info: ClusterInfo, node: int | None) -> MemberInfo:
    for member in info.members:
        if member.node == node:
            return member
    known = ", ".join(str(member.node) for member in info.members)
    raise NotFound(f"node {node} does not belong to the cluster", f"its nodes are {known}")


def _at(options: Options, member: MemberInfo, patience_s: float = LOOK_S) -> Options:
    if member.endpoint is None:
        # A cluster of one need not know how it is called.
        return options
    return replace(options, endpoint=(member.endpoint,), timeout=min(patience_s, options.patience))


def _role(info: ClusterInfo, member: MemberInfo) -> str:
    if member.node == info.primary:
        return "primary"
    return "replica" if member.voter else "learner"


def _member_row(info: ClusterInfo, member: MemberInfo) -> dict[str, Any]:
    return {"role": _role(info, member), **output.jsonable(member)}


def _node_row(options: Options, info: ClusterInfo, member: MemberInfo) -> dict[str, Any]:
    row = {"node": member.node, "role": "down", "term": None, "applied": None, "lag": member.lag}
    row |= {"lag_bytes": member.lag_bytes, "heard_ms": member.heard_ms, "pid": None, "endpoint": member.endpoint}
    try:
        with _at(options, member).connect(read_only=True) as client:
            told = client.status()
    except PenstockError:
        return row
    role = told["role"] if member.voter else "learner"
    return row | {"role": role, "term": told["term"], "applied": told["applied"], "pid": told["pid"]}
