"""Nodes over real sockets: words arrive, and nobody can speak for another."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from penstock.peers.errors import InvalidArgument
from penstock.peers.frames import PeerWord, frames_of
from penstock.peers.links import PUBLISH_HWM, PeerAddress, PeerLinks
from penstock.peers.log import Entry, encode
from penstock.peers.messages import Append as AppendMessages
from penstock.peers.raft.words import Append, Appended, AskVote, Fetch, Stale, TimeoutNow, Vote
from penstock.peers.snapshot_words import ChunkAck, make_chunk

LIMIT_S = 20  # what takes longer is broken; nothing here waits for its end otherwise

Opener = Callable[..., PeerLinks]

# A node in a process of its own: it says where it listens, and answers every Stale with a Stale of the next term.
OTHER = """
import sys, zmq
from penstock.peers.links import PeerAddress, PeerLinks
from penstock.peers.raft.words import Stale
listen, publish, *mine = sys.argv[1:]
links = PeerLinks(zmq.Context(), "c", 2, 1, mine[0], mine[1], {1: PeerAddress(listen, publish)})
print(*links.address, flush=True)
poller = zmq.Poller()
links.register(poller)
while True:
    poller.poll()
    for word in links.receive():
        links.send([(1, Stale(word.term + 1, 2))])
"""


@pytest.fixture
def open_links() -> Iterator[Opener]:
    contexts: list[zmq.Context[zmq.Socket[bytes]]] = []
    opened: list[PeerLinks] = []

    def open_links(
        node: int, cluster: str = "c", incarnation: int = 1, listen: str = "tcp://127.0.0.1:*",
        publish: str = "tcp://127.0.0.1:*", peers: dict[int, PeerAddress] | None = None, frame_max: int = 1 << 20,
    ) -> PeerLinks:  # fmt: skip
        contexts.append(zmq.Context())
        links = PeerLinks(contexts[-1], cluster, node, incarnation, listen, publish, peers or {}, 1000, frame_max)
        opened.append(links)
        return links

    yield open_links
    for links in opened:
        links.close()
    for context in contexts:
        context.destroy(0)


@pytest.fixture
def pair(open_links: Opener) -> tuple[PeerLinks, PeerLinks]:
    one, two = open_links(1), open_links(2)
    join(one, two)
    return one, two


def join(*all_links: PeerLinks) -> None:
    """Connect all with all, and wait until what is published and what is sent arrives."""
    for links in all_links:
        for other in all_links:
            links.add_peer(other.node, other.address)
    others = len(all_links) - 1
    for links in all_links:
        until(lambda: len(pumped(links).connected()) == others)  # noqa: B023  # called here
        heard: set[int] = set()
        while len(heard) < others:
            links.publish([Stale(0, links.node)])
            for other in all_links:
                if any(word == Stale(0, links.node) for word in other.receive()):
                    heard.add(other.node)
    for links in all_links:
        wait_for_silence(links)


def wait_for_silence(links: PeerLinks) -> None:
    """Everything published while connecting came over connections that keep the order: a marker comes last."""
    time_is_up = time.monotonic() + LIMIT_S
    quiet = 0
    while quiet < 20:
        quiet = 0 if links.receive() else quiet + 1
        time.sleep(0.002)
        assert time.monotonic() < time_is_up
