"""Who belongs to the cluster: what there is to say about it, and how it changes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..peers import messages as m
from ..peers.errors import InvalidArgument, NotFound
from ..peers.raft.core import Raft
from ..peers.raft.words import Members
from . import requests as ask
from .config_values import PUBLIC_KEY
from .requests import Args, Proposal
from .state import State

PROMOTE_LAG = 200  # entries: a learner that is no further behind is made a voter
NODE_MAX = 2**31
ENDPOINT = re.compile(r"tcp://\S+:\d{1,5}|ipc://\S+")
Disks = Mapping[int, int]  # on which each node was met


def cluster_info(raft: Raft, state: State, connected: set[int], now_ms: int) -> dict[str, Any]:
    """What this node knows of the cluster, as docs/protocol.md section 8 lists it."""
    tail, members = raft.tail, raft.members
    rows = []
    for node in members.everyone:
        peer = raft.peers.get(node) if raft.is_primary else None
        match = heard_ms = None
        if raft.is_primary and node == raft.node:
            match, heard_ms = tail.last, 0
        elif peer is not None:
            # Who has not yet answered in this term is not behind by everything: nobody knows how far it is.
            match, heard_ms = peer.match if peer.round else None, _since_ms(peer.heard_ms, now_ms)
        rows.append(
            {
                "node": node,
                "voter": node in members.voters,
                "endpoint": state.addresses[node].client if node in state.addresses else None,
                "match": match,
                "lag": None if match is None else tail.last - match,
                "lag_bytes": None if match is None else tail.bytes_after(match),
                "heard_ms": heard_ms,
                "connected": node == raft.node or node in connected,
            }
        )
    return {
        "node": raft.node, "role": raft.role.value, "term": raft.term, "primary": raft.primary or None,
        "commit": tail.commit, "applied": state.applied, "floor": tail.floor, "members": rows,
    }  # fmt: skip


def _since_ms(heard_ms: int, now_ms: int) -> int | None:
    """None: its channel broke, and it was not heard since."""
    return None if heard_ms < 0 else max(0, now_ms - heard_ms)


def add(raft: Raft, state: State, disks: Disks, args: Args, now_ms: int) -> Proposal:
    """A new node joins as a learner."""
    node = ask.integer(args, "node", 1, NODE_MAX)
    key = _key(args, any(address.key for address in state.addresses.values()))
    address = m.Address(_endpoint(args, "client"), _endpoint(args, "listen"), _endpoint(args, "publish"), key)
    if node in raft.members.everyone:
        raise InvalidArgument(f"node {node} belongs to the cluster already", "give a new node an id of its own")
    others = [other.key for member, other in state.addresses.items() if member in raft.members.everyone]
    if address.key and address.key in others:
        raise InvalidArgument(f"public_key of node {node} is that of another node", "every node has a key of its own")
    if node in state.addresses:
        raise InvalidArgument(f"node {node} belonged to the cluster once", "an id is never used again: take a new one")
    if raft.node not in state.addresses:
        raise InvalidArgument(
            f"node {raft.node} was started alone: it listens to no other nodes, and none could join it",
            "list it as [[cluster.peer]] in its own daemon.toml, with listen and publish, and start it again",
        )
    members = Members(raft.members.voters, (*raft.members.learners, node))
    return _change(raft, state, disks, members, {node: address}, now_ms)


def remove(raft: Raft, state: State, disks: Disks, args: Args, now_ms: int) -> Proposal:
    """A node leaves. Its id is never used again. Refused if a majority of those that stay is not alive."""
    node = ask.integer(args, "node", 1, NODE_MAX)
    if node not in raft.members.everyone:
        raise NotFound(f"node {node} does not belong to the cluster", "look at `cluster status` for its id")
    voters = tuple(voter for voter in raft.members.voters if voter != node)
    learners = tuple(learner for learner in raft.members.learners if learner != node)
    if not voters:
        raise InvalidArgument(f"node {node} is the only one with a vote", "to give it up, stop its daemon")
    return _change(raft, state, disks, Members(voters, learners), {}, now_ms)


def promotion(raft: Raft, state: State, disks: Disks, now_ms: int) -> m.SetMembers | None:
    """A learner that has caught up becomes a voter, unless a majority of the voters would not be alive then."""
    for learner in raft.members.learners:
        peer = raft.peers.get(learner)
        if learner not in disks and learner not in state.disks:
            continue  # nobody could tell it from one whose disk was lost
        if peer is None or peer.match + PROMOTE_LAG < raft.tail.last or peer.match == 0:
            continue
        voters = tuple(sorted((*raft.members.voters, learner)))
        members = Members(voters, tuple(it for it in raft.members.learners if it != learner))
        if not raft.why_no_change(members) and not raft.missed_with(members, now_ms):
            return _set(state, disks, members, {})
    return None


def check_transfer(raft: Raft, args: Args) -> int:
    """The node that is to become primary."""
    to = ask.integer(args, "to", 1, NODE_MAX)
    if to not in raft.members.voters:
        raise NotFound(f"node {to} is no voter of the cluster", "look at `cluster status` for the voters")
    if to == raft.node:
        raise InvalidArgument(f"node {to} is the primary already", "name another voter")
    return to


def _endpoint(args: Args, name: str) -> str:
    value = ask.text(args, name)
    if not ENDPOINT.fullmatch(value):
        raise InvalidArgument(
            f"{name} is {value!r:.80}, which is no endpoint", 'give "tcp://HOST:PORT" or "ipc://PATH"'
        )
    return value


def _key(args: Args, encrypted: bool) -> str:
    """The public key of a new node; encrypted: the others have keys."""
    if encrypted != ("public_key" in args):
        raise InvalidArgument(
            "the nodes of this cluster have keys, and public_key is missing"
            if encrypted
            else "public_key is given, but the nodes of this cluster speak in the clear",
            "give the key that `penstock init` shows" if encrypted else "leave it out",
        )
    if not encrypted:
        return ""
    key = ask.text(args, "public_key")
    if not PUBLIC_KEY.fullmatch(key):
        raise InvalidArgument(f"public_key is {key!r:.80}, which is no key", "give the one that `penstock init` shows")
    return key


def _change(
    raft: Raft, state: State, disks: Disks, members: Members, new: dict[int, m.Address], now_ms: int
) -> Proposal:
    why = raft.why_no_change(members)
    if why:
        raise InvalidArgument(f"the members cannot be changed now: {why}", "try again in a moment")
    if missed := raft.missed_with(members, now_ms):
        nodes = ("node " if len(missed) == 1 else "nodes ") + ", ".join(map(str, missed))
        voters = ", ".join(map(str, members.voters))
        raise InvalidArgument(
            f"nothing was heard of {nodes} lately: of the voters {voters} fewer than a majority would be alive",
            f"bring {nodes} back, or remove the dead first; if a majority is gone for good, `cluster force-new`",
        )
    return Proposal(_set(state, disks, members, new), b"")


def _set(state: State, disks: Disks, members: Members, new: dict[int, m.Address]) -> m.SetMembers:
    # With the disks: who counts a node as a voter has this entry, and so knows on which disk it is one.
    met = {**disks, **state.disks}
    addresses = tuple((node, *address) for node, address in sorted({**state.addresses, **new}.items()))
    known = tuple((node, met[node]) for node in members.everyone if node in met)
    return m.SetMembers(members.voters, members.learners, addresses, known)
