"""The nodes of a broker under test: production nodes, each on a disk in memory, under one clock that is turned by hand.

What nodes say to each other is handed over at once. So nobody is ever silent, and no time has to pass for a heartbeat:
nodes have none, and are told when one of them has crashed. What a crashed node had not written is lost, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from random import Random

from ..broker import checkpoint
from ..broker.desk import Limits
from ..broker.model import Model
from ..broker.node import Node, Turn
from ..peers.messages import Address
from ..peers.raft.core import Raft, Timing
from ..peers.raft.tail import Tail
from ..peers.raft.words import Members, TimeoutNow, Word
from .memory import MemoryDisk

NEVER_MS = 100 * 365 * 86_400_000
TURNS_MAX = 10_000  # of one node at one moment
STRIDE_MS = 10_000  # where nothing falls due for longer than that, time is passed over
LANDING_MS = 4_000  # but for its last part: after a long step a node is lenient, as after a pause of its process

Frames = list[bytes]
Said = tuple[bytes, Frames]  # (the client's routing id, the frames)
Say = Callable[[int, Sequence[Said]], list[bytes]]  # (node, what it says) -> routes on which it could not be said


class Nodes:
    """One node, or a cluster. Used by one thread."""

    def __init__(self, endpoints: Mapping[int, str], limits: Limits, now_ms: int, seed: int, say: Say) -> None:
        self.now_ms = now_ms
        self.alive: dict[int, Node] = {}
        self._members = Members(tuple(endpoints))
        self._addresses = {node: Address(endpoint, endpoint, endpoint) for node, endpoint in endpoints.items()}
        self._limits = limits
        self._random = Random(seed)
        self._say = say
        self._disks = {node: MemoryDisk() for node in endpoints}
        self._heard: dict[int, list[Said]] = {}
        self._words: dict[int, list[Word]] = {}
        self._broken: dict[int, list[int]] = {}
        self._lost: dict[int, list[bytes]] = {}

    @property
    def primary(self) -> int | None:
        """Who serves. None: nobody."""
        return next((number for number, node in self.alive.items() if node.raft.is_primary), None)

    # -- lives of nodes -----------------------------------------------------------------------------------------------

    def start(self, number: int) -> None:
        """From what is on its disk, as a daemon does it."""
        disk = self._disks[number]
        model = self._model(disk)
        known = checkpoint.Consensus(0, 0, [(0, self._members)])
        if disk.consensus is not None:
            known = checkpoint.unpack_consensus(disk.consensus)
        tail = Tail(known.floor, known.term, disk.entries, self._limits.cache_bytes)
        tail.recall(disk.replay())
        tail.commit = tail.applied = model.state.applied
        raft = Raft(number, disk.hard, tail, self._members, Timing(NEVER_MS, NEVER_MS), self._random, self.now_ms)
        endpoint = self._addresses[number].client
        about = {
            "node": number, "cluster": "testing", "primary": endpoint, "version": version("penstock"), "pid": 0,
            "data": "memory", "durability": "fsync", "started_ms": self.now_ms, "recovery_ms": 0,
        }  # fmt: skip
        addresses = self._addresses if len(self._addresses) > 1 else None
        node = Node(model, raft, disk, self._random, self._limits, about, self.now_ms, addresses)
        if addresses is not None:
            node.floor_max = 0  # whoever comes back later finds the whole log: there is nobody to send snapshots
        self.alive[number] = node
        self._heard[number], self._words[number], self._broken[number], self._lost[number] = [], [], [], []
        self._meet()
        self._carry_out(number, node.begin(self.now_ms))
        self.settle()
        self._elect()

    def crash(self, number: int) -> None:
        """As kill -9: nothing is said, and nothing is saved."""
        del self.alive[number]
        for other, node in self.alive.items():
            self._broken[other].append(number)
            node.raft.check_ms = self.now_ms  # if that was one too many, it shows at once
        self._meet()
        for other in list(self.alive):
            self._turn(other)
        self.settle()
        self._elect()

    def _meet(self) -> None:
        for number, node in self.alive.items():
            node.clients.connected = {*self.alive} - {number}
            node.clients.disks = {each: each for each in self._addresses}
            if node.raft.is_primary and not node.raft.is_alone:
                node.raft.ask_round()  # whoever has come learns what it lacks

    def _elect(self) -> None:
        """Have somebody serve, if a majority is there: who has the longest log."""
        if len(self.alive) <= len(self._addresses) // 2:
            return
        logs = {number: node.raft.tail for number, node in self.alive.items()}
        for number in sorted(logs, key=lambda n: (-logs[n].last_term, -logs[n].last, n)):
            if self.primary is None:
                self._words[number].append(TimeoutNow(self.alive[number].raft.term, number))
                self.settle()

    def _model(self, disk: MemoryDisk) -> Model:
        model = Model(disk)
        checkpoint.restore(model, *disk.rows())
        return model

    # -- turns --------------------------------------------------------------------------------------------------------

    def hear(self, number: int, heard: Sequence[Said]) -> None:
        """What clients said to a node; `settle` does it. Nobody hears what is said to a dead one."""
        if number in self.alive:
            self._heard[number] += heard

    def settle(self) -> None:
        """Have turns until nothing more happens at this moment."""
        for _ in range(TURNS_MAX):
            busy = [number for number in self.alive if self._is_busy(number)] or self._lagging()
            if not busy:
                return
            for number in busy:
                if number in self.alive:
                    self._turn(number)

    def _lagging(self) -> list[int]:
        """The primary, if others do not know yet how far the log is committed: elsewhere a heartbeat tells them."""
        node = self.alive.get(self.primary or 0)
        commits = [each.raft.tail.commit for each in self.alive.values()]
        if node is None or min(commits) == node.raft.tail.commit:
            return []
        node.raft.broadcast = True
        return [node.raft.node]

    def _is_busy(self, number: int) -> bool:
        node = self.alive[number]
        if self._words[number] or self._lost[number] or self._broken[number]:
            return True
        return bool(self._heard[number] and not node.is_crowded) or node.wait_ms(self.now_ms) == 0

    def _turn(self, number: int) -> None:
        node = self.alive[number]
        heard: list[Said] = []
        if not node.is_crowded:
            heard, self._heard[number] = self._heard[number], []
        words, self._words[number] = self._words[number], []
        broken, self._broken[number] = self._broken[number], []
        lost, self._lost[number] = self._lost[number], []
        self._carry_out(number, node.turn(self.now_ms, heard, lost, words, broken))

    def _carry_out(self, number: int, turn: Turn) -> None:
        """In the order of the daemon: what is said was made durable before."""
        node, disk = self.alive[number], self._disks[number]
        for other in self.alive:
            if other != number:
                self._words[other] += turn.early
        disk.commit(turn.writes)
        self._lost[number] += self._say(number, turn.messages + node.durable())
        if turn.crash:
            self.crash(number)
            return
        if turn.deposed:
            node.reset(self._model(disk), self.now_ms)
        for other, word in turn.words:
            if other in self.alive:
                self._words[other].append(word)

    # -- time ---------------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """When something falls due: the end of a delay or a lease, a schedule. None: never, or nobody serves."""
        node = self.alive.get(self.primary or 0)
        if node is None:
            return None
        due_ms = min(node.upkeep.next_timer_ms(), node.planner.next_due_ms())
        return due_ms if due_ms < self.now_ms + NEVER_MS else None

    def advance_to(self, end_ms: int) -> None:
        """Time passes, and everything happens at its time."""
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, max(self.now_ms + 1, self._next_step_ms(end_ms)))
            for number in list(self.alive):
                if number in self.alive:
                    self._turn(number)
            self.settle()

    def _next_step_ms(self, end_ms: int) -> int:
        due_ms = self.next_due_ms()
        goal_ms = end_ms if due_ms is None else min(end_ms, due_ms)
        if goal_ms - self.now_ms > STRIDE_MS and self._limits.session_timeout_ms >= NEVER_MS:
            return goal_ms - LANDING_MS
        return self.now_ms + min((node.wait_ms(self.now_ms) for node in self.alive.values()), default=NEVER_MS)
