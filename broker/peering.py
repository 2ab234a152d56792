"""This node among the others: what it hears from them and says to them. A cluster of one has nothing of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from ..peers.frames import PeerWord
from ..peers.links import PeerAddress, PeerLinks
from ..peers.messages import Address
from ..peers.raft.words import Word
from ..peers.repair_words import AskEntry, GivenEntry
from ..peers.snapshot_words import Chunk, ChunkAck
from .damage import Damage
from .folder import StartError, join_anew
from .links import Links
from .model import Model
from .node import Node, Turn
from .repair import Repair
from .snapshot_desk import SnapshotDesk
from .store import Store

logger = logging.getLogger("penstock.peering")


class Peering:
    """The other nodes, as the loop meets them. For `heartbeat_ms` after a pause of our own nobody counts as silent.

    `founders`: nodes that have to know us, and which disk we are on, before we take part in anything.
    """

    def __init__(
        self, node: Node, store: Store, links: PeerLinks, clients: Links, heartbeat_ms: int, founders: Iterable[int]
    ) -> None:
        self.node = node
        self.links = links
        self.disks = links.disks
        self._store = store
        self.awaited = {*founders}  # a new cluster does not begin without them
        self._greet_ms = 0
        self._seen: object = None  # of the members
        node.clients.disks = self.disks.known
        self.snapshots = SnapshotDesk(node.raft, store)
        self.repair = Repair(node.raft, Damage(store.folder, store))
        self._heartbeat_ms = heartbeat_ms
        self._pieces: list[Chunk | ChunkAck] = []
        self._copies: list[AskEntry | GivenEntry] = []
        self._known: dict[int, PeerAddress] = dict(links.addresses)
        self._configured = frozenset(links.addresses)
        self._heard_ms = 0
        self._grace_ms = 0
        clients.share(links.register)

    def hear(self, now_ms: int) -> tuple[list[Word], list[int], bool]:
        """(words of consensus, nodes to which the channel broke, whether who was not heard is silent)."""
        if now_ms - self._heard_ms > 2 * self._heartbeat_ms:
            # We stood still (a long fsync, SIGSTOP): what was said meanwhile may still be in the kernel.
            self._grace_ms = now_ms + self._heartbeat_ms
        self._heard_ms = now_ms
        words: list[Word] = []
        for word in self.links.receive():
            if isinstance(word, (Chunk, ChunkAck)):
                self._pieces.append(word)
            elif isinstance(word, (AskEntry, GivenEntry)):
                self._copies.append(word)
            else:
                words.append(word)
        self.node.clients.connected = self.links.connected()
        self._look_at_disks(now_ms)
        lost = self.links.lost()
        if self.awaited:
            self.node.raft.hold(now_ms)
            self._pieces.clear()
            self._copies.clear()
            return [], [], False
        return words, lost, self.links.drained and now_ms >= self._grace_ms

    def _look_at_disks(self, now_ms: int) -> None:
        """Who is on which disk has to be durable before a word is taken in that relies on it. Raises StartError."""
        disks = self.disks
        if (refusal := disks.refusal) is not None:
            me = disks.node
            raise StartError(
                f"node {refusal.by} knows node {me} on another disk ({refusal.known:016x}) than this one "
                f"({disks.disk:016x}): its data was lost, replaced, or is that of another node",
                f"{join_anew(me)}. In a new cluster that has never worked: clear the data folders of all its nodes",
            )
        if self.awaited:
            self.awaited -= disks.witnesses
            if not self.awaited:
                disks.admit()
                logger.info("all nodes of the new cluster have met")
        if disks.is_fresh:
            self._store.keep_disks(disks.known)
            disks.is_fresh = False
        again = self.awaited and now_ms >= self._greet_ms
        if again:
            self._greet_ms = now_ms + self._heartbeat_ms
        self.links.greet(self.awaited if again else ())

    def publish(self, turn: Turn) -> None:
        """To everyone, before our own fsync: they write it while we do, and we count ourselves only after it."""
        self.links.publish(turn.early)

    def send(self, turn: Turn, now_ms: int) -> Model | None:
        """To one node each, after the fsync. Returns the model of a snapshot that has just taken the place of ours."""
        self.links.send(turn.words)
        # Who votes by our log has to be found, although nobody can tell us yet that its joining was committed.
        self._follow(self.node.desk.state.addresses | self.node.raft.addresses, self.node.raft.members.everyone)
        self._learn_disks()
        pieces, self._pieces = self._pieces, []
        self.snapshots.hear(pieces, now_ms)
        self.snapshots.take(turn.snapshots, now_ms)
        model = self.snapshots.install(now_ms)
        self.node.floor_max = self.snapshots.floor_max(now_ms)
        copies, self._copies = self._copies, []
        self.repair.hear(copies)
        said: list[tuple[int, PeerWord]] = [*self.snapshots.next_words(now_ms), *self.repair.next_words(now_ms)]
        self.links.send(said)
        return model

    def wait_ms(self, now_ms: int) -> int:
        """How long there is nothing to do, if nothing is heard."""
        wait_ms = min(self.snapshots.wait_ms(now_ms), self.repair.wait_ms(now_ms))
        if self.awaited:
            return self._heartbeat_ms
        return min(wait_ms, self._grace_ms - now_ms) if now_ms < self._grace_ms else wait_ms

    def _learn_disks(self) -> None:
        """A change of members tells on which disk each of them is, as soon as it is in the log."""
        raft, told = self.node.raft, self.node.desk.state.disks
        changed = raft.history[-1][0]
        seen = changed, changed <= raft.tail.commit, told
        if seen != self._seen:
            self._seen = seen
            self.disks.declare(told | raft.disks)
            if seen[1]:
                self.disks.retain(raft.members.everyone)

    def _follow(self, addresses: Mapping[int, Address], members: Sequence[int]) -> None:
        """Have a channel to each member, at its address of now."""
        for node, (_, listen, publish, key) in addresses.items():
            address = PeerAddress(listen, publish, key)
            if node in members and self._known.get(node) != address:
                self._known[node] = address
                self.links.add_peer(node, address)
        # Those of the configuration stay: who was away while the members changed has an old log, and only them to hear.
        for node in [node for node in self._known if node not in members and node not in self._configured]:
            del self._known[node]
            self.links.remove_peer(node)
