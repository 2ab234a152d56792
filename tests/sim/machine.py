"""The machine under test, one life of it: the production node, with everything of the daemon that decides something.

In place of sockets it has two lists, in place of LMDB a disk of the world's, and time is told to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from penstock.broker.desk import Limits
from penstock.broker.node import Node, Turn
from penstock.broker.outbox import Message
from penstock.broker.peering import Peering
from penstock.broker.recovery import first_members, model_of, recover
from penstock.peers.links import PeerAddress
from penstock.peers.messages import Address
from penstock.peers.presence import Disks
from penstock.peers.raft.core import Timing
from penstock.peers.raft.words import Members

from .disk import Disk


@dataclass
class Config:
    """What daemon.toml says."""

    node: int
    peers: dict[int, Address]
    joins: bool
    limits: Limits = field(default_factory=Limits)

    @property
    def members(self) -> Members:
        return first_members(self.peers, self.node, self.joins)


def address_of(node: int) -> Address:
    return Address(f"tcp://client:{node}", f"tcp://listen:{node}", f"tcp://publish:{node}")


class Wires:
    """The channels to other nodes, as `PeerLinks` offers them. Every node has one disk, and keeps it."""

    def __init__(self, config: Config, disks: dict[int, int]) -> None:
        self.disks = Disks(config.node, config.node, disks)
        self.addresses = {n: PeerAddress(a.listen, a.publish) for n, a in config.peers.items() if n != config.node}
        self.known = set(self.addresses)
        self.callers: set[int] = set()  # who reached us can be answered, whether we know its address or not
        self.heard: list[Any] = []
        self.broken: list[int] = []
        self.early: list[Any] = []
        self.words: list[tuple[int, Any]] = []
        self.drained = True

    def receive(self) -> list[Any]:
        heard, self.heard = self.heard, []
        self.callers |= {word.sender for word in heard}
        for sender in {word.sender for word in heard} & self.known:
            assert self.disks.meet(sender, sender)
        return heard

    def greet(self, nodes: object) -> None:
        """Everyone knows everyone's disk by its words."""

    def lost(self) -> list[int]:
        lost, self.broken = self.broken, []
        return lost

    def connected(self) -> set[int]:
        return set(self.known)

    def publish(self, words: list[Any]) -> None:
        self.early += words

    def send(self, words: list[tuple[int, Any]]) -> None:
        self.words += [(to, word) for to, word in words if to in self.known | self.callers]

    def add_peer(self, node: int, address: PeerAddress) -> None:
        self.known.add(node)

    def remove_peer(self, node: int) -> None:
        self.known.discard(node)

    def register(self, poller: object) -> None:
        """There is nothing to poll."""

    def share(self, register: object) -> None:
        """The clients' channel has nothing to poll either."""


class Machine:
    """One life of a node, from start to crash. The world carries out its turns in the order of `Daemon._carry_out`."""

    def __init__(self, config: Config, disk: Disk, timing: Timing, random: Random, now_ms: int) -> None:
        """Raises CorruptEntry."""
        self.disk = disk
        folder: Any = disk.folder
        start = recover(disk, disk.recover(), config.members, config.limits.cache_bytes, folder)
        self.clock_ms = max(now_ms, start.stamp_ms)
        raft = start.raft(config.node, timing, random, self.clock_ms)
        about = {"node": config.node, "cluster": "sim", "primary": address_of(config.node)[0], "started_ms": now_ms}
        self.raft = raft
        self.node = Node(start.model, raft, disk, random, config.limits, about, self.clock_ms, config.peers)
        self.wires = Wires(config, disk.disks)
        wires: Any = self.wires
        store: Any = disk
        self.peering = Peering(self.node, store, wires, wires, timing.heartbeat_ms, ())
        self.clients: list[Message] = []  # what they said and was not heard yet
        self.unsent: list[bytes] = []  # routes on which something could not be said
        self._begun = False

    @property
    def has_more(self) -> bool:
        """Something was heard that waits for a turn."""
        return bool(self.wires.heard or self.wires.broken or self.unsent or (self.clients and not self.node.is_crowded))

    def turn(self, now_ms: int) -> Turn:
        """Take everything in, see what falls due, say what came of it."""
        if not self._begun:
            self._begun = True
            return self.node.begin(now_ms)
        heard: list[Message] = []
        if not self.node.is_crowded:
            heard, self.clients = self.clients, []
        lost, self.unsent = self.unsent, []
        words, broken, drained = self.peering.hear(now_ms)
        return self.node.turn(now_ms, heard, lost, words, broken, drained)

    def publish(self, turn: Turn) -> list[Any]:
        """What leaves before the writes are durable."""
        self.peering.publish(turn)
        early, self.wires.early = self.wires.early, []
        return early

    def written(self, turn: Turn) -> list[Message]:
        """The writes are durable: what leaves to clients."""
        return turn.messages + self.node.durable()

    def settle(self, turn: Turn, now_ms: int) -> list[tuple[int, Any]]:
        """The end of the turn: what leaves to single nodes."""
        if turn.deposed:
            self.node.reset(model_of(self.disk, self.disk.recover()), now_ms)
        model = self.peering.send(turn, now_ms)
        if model is not None:
            self.node.reset(model, now_ms)
        words, self.wires.words = self.wires.words, []
        return words

    def wait_ms(self, now_ms: int) -> int:
        return min(self.node.wait_ms(now_ms), self.peering.wait_ms(now_ms))
