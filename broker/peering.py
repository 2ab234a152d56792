"""This node among the others: the sockets to them, and who is there. A cluster of one has nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..peers.frames import PeerWord
from ..peers.links import PeerAddress, PeerLinks
from ..peers.raft.words import Word
from ..peers.snapshot_words import Chunk, ChunkAck
from .links import Links

Addresses = Mapping[int, tuple[str, str, str]]


class Peering:
    """What the loop hears from other nodes and says to them."""

    def __init__(self, links: PeerLinks, clients: Links) -> None:
        self.links = links
        self.pieces: list[Chunk | ChunkAck] = []
        self._known: dict[int, PeerAddress] = {}
        clients.share(links.register)

    @property
    def drained(self) -> bool:
        """Nothing was left behind: who is not heard now is silent."""
        return self.links.drained

    def hear(self) -> tuple[list[Word], list[int]]:
        """(words of consensus, nodes to which the channel broke). Pieces of snapshots are kept in `pieces`."""
        words: list[Word] = []
        for word in self.links.receive():
            if isinstance(word, (Chunk, ChunkAck)):
                self.pieces.append(word)
            else:
                words.append(word)
        return words, self.links.lost()

    def follow(self, addresses: Addresses, members: Sequence[int]) -> None:
        """Have a channel to each member, at its address of now."""
        for node, (_, listen, publish) in addresses.items():
            address = PeerAddress(listen, publish)
            if node in members and self._known.get(node) != address:
                self._known[node] = address
                self.links.add_peer(node, address)
        for node in [node for node in self._known if node not in members]:
            del self._known[node]
            self.links.remove_peer(node)

    def publish(self, words: Sequence[Word]) -> None:
        """To everyone, before our own fsync: they write it while we do."""
        self.links.publish(words)

    def send(self, words: Sequence[tuple[int, PeerWord]]) -> None:
        """To one node each, after the fsync."""
        self.links.send(words)
