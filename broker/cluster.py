"""Who belongs to the cluster: what there is to say about it, and how it changes. Pure."""

from __future__ import annotations

import re
from typing import Any

from ..peers import messages as m
from ..peers.errors import InvalidArgument, NotFound
from ..peers.raft.core import Raft
from ..peers.raft.words import Members
from . import requests as ask
from .requests import Args, Proposal
from .state import State

PROMOTE_LAG = 200  # entries: a learner that is no further behind is made a voter
NODE_MAX = 2**31
ENDPOINT = re.compile(r"tcp://\S+:\d{1,5}|ipc://\S+")


def cluster_info(raft: Raft, state: State, connected: set[int], now_ms: int) -> dict[str, Any]:
    """What this node knows of the cluster, as docs/protocol.md section 8 lists it."""
    tail, members = raft.tail, raft.members
    rows = []
    for node in members.everyone:
        peer = raft.peers.get(node) if raft.is_primary else None
        match = tail.last if node == raft.node else peer.match if peer is not None else None
        heard_ms = 0 if node == raft.node else max(0, now_ms - peer.heard_ms) if peer is not None else None
        rows.append(
            {
                "node": node,
                "voter": node in members.voters,
                "endpoint": state.addresses.get(node, ("", "", ""))[0] or None,
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


def add(raft: Raft, state: State, args: Args) -> Proposal:
    """A new node joins as a learner."""
    node = ask.integer(args, "node", 1, NODE_MAX)
    address = (_endpoint(args, "client"), _endpoint(args, "listen"), _endpoint(args, "publish"))
    if node in raft.members.everyone:
        raise InvalidArgument(f"node {node} belongs to the cluster already", "give a new node an id of its own")
    if node in state.addresses:
        raise InvalidArgument(f"node {node} belonged to the cluster once", "an id is never used again: take a new one")
    members = Members(raft.members.voters, (*raft.members.learners, node))
    return _change(raft, members, {**state.addresses, node: address})


def remove(raft: Raft, state: State, args: Args) -> Proposal:
    """A node leaves. Its id is never used again."""
    node = ask.integer(args, "node", 1, NODE_MAX)
    if node not in raft.members.everyone:
        raise NotFound(f"node {node} does not belong to the cluster", "look at `cluster status` for its id")
    voters = tuple(voter for voter in raft.members.voters if voter != node)
    learners = tuple(learner for learner in raft.members.learners if learner != node)
    return _change(raft, Members(voters, learners), state.addresses)


def promotion(raft: Raft, state: State) -> m.SetMembers | None:
    """A learner that has caught up becomes a voter."""
    for learner in raft.members.learners:
        peer = raft.peers.get(learner)
        if peer is None or peer.match + PROMOTE_LAG < raft.tail.last or peer.match == 0:
            continue
        voters = tuple(sorted((*raft.members.voters, learner)))
        members = Members(voters, tuple(it for it in raft.members.learners if it != learner))
        if not raft.why_no_change(members):
            return _set(members, state.addresses)
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


def _change(raft: Raft, members: Members, addresses: dict[int, tuple[str, str, str]]) -> Proposal:
    why = raft.why_no_change(members)
    if why:
        raise InvalidArgument(f"the members cannot be changed now: {why}", "try again in a moment")
    return Proposal(_set(members, addresses), b"")


def _set(members: Members, addresses: dict[int, tuple[str, str, str]]) -> m.SetMembers:
    rows = tuple((node, *address) for node, address in sorted(addresses.items()))
    return m.SetMembers(members.voters, members.learners, rows)
