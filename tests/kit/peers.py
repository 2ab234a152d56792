"""Nodes over real sockets, without anything behind them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import zmq

from penstock.peers.curve import KeyPair
from penstock.peers.frames import PeerWord
from penstock.peers.links import PeerLinks
from penstock.peers.presence import Disks
from penstock.peers.raft.words import Stale

LIMIT_S = 20  # what takes longer is broken
ANY = "tcp://127.0.0.1:*"


class Node:
    """Links, and what was heard over them; words of term 0 are only there to find out if a channel stands.

    `known`: on which disks others are; `disk`: its own.
    """

    def __init__(self, node: int, cluster: str = "c", incarnation: int = 1, endpoints: tuple[str, str] = (ANY, ANY),
                 election_ms: int = 1000, frame_max: int = 1 << 20, disk: int = 7,
                 known: Mapping[int, int] | None = None, keys: KeyPair | None = None) -> None:  # fmt: skip
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.links = PeerLinks(
            self.context, cluster, node, incarnation, *endpoints, {}, Disks(node, disk, known or {}),
            election_ms, frame_max, keys=keys,
        )  # fmt: skip
        self.node = node
        self.heard: list[PeerWord] = []
        self.lost: list[int] = []
        self.greeted: set[int] = set()

    def hear(self) -> None:
        for word in self.links.receive():
            if word.term:
                self.heard.append(word)
            else:
                self.greeted.add(word.sender)
        self.lost += self.links.lost()
        self.links.greet()

    def close(self) -> None:
        self.links.close()
        self.context.destroy(0)


def until(condition: Callable[[], object], *nodes: Node) -> None:
    """Let the nodes hear until the condition holds."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, [(node.node, node.heard, node.links.counters) for node in nodes]
        for node in nodes:
            node.hear()
        time.sleep(0.001)


def has_published(node: Node, term: int = 9) -> bool:
    """For conditions that may need another try: what is published while a channel is being made is lost."""
    node.links.publish([Stale(term, node.node)])
    return True


def join(*nodes: Node) -> None:
    """Connect all with all, and wait until what one publishes or sends arrives at all others."""
    for node in nodes:
        for other in nodes:
            node.links.add_peer(other.node, other.links.address)

    def everyone_is_there() -> bool:
        for node in nodes:
            node.links.publish([Stale(0, node.node)])
        others = len(nodes) - 1
        return all(len(node.greeted) == others == len(node.links.connected()) for node in nodes)

    until(everyone_is_there, *nodes)


Make = Callable[..., Node]
