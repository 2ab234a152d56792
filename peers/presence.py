"""Who is on which disk. A node whose disk was lost forgot what it promised: it must not come back as if it had not.

Each data folder has a random number of its own. Nodes tell it in every word, and each keeps the first one that it hears
of a node for good; another one under the same node id is refused. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Presence(NamedTuple):
    """I am here, and I know you on the disk `known` (0: on none yet). `answer`: tell me the same of me."""

    sender: int
    known: int
    answer: bool


class Refusal(NamedTuple):
    """Node `by` knows us on the disk `known`, which is not ours."""

    by: int
    known: int


class Disks:
    """What one node knows: its own disk, and that of each other one."""

    def __init__(self, node: int, disk: int, known: Mapping[int, int]) -> None:
        """`known`: what it knew before it was started."""
        self.node = node
        self.disk = disk
        self.known: dict[int, int] = dict(known)
        self.is_fresh = False  # `known` has changed, and has to be made durable before anything that relies on it
        self.witnesses: set[int] = set()  # they know us on our disk, durably
        self.refusal: Refusal | None = None

    def meet(self, node: int, disk: int) -> bool:
        """Is this the disk that the node is known on? The first one that is heard of is."""
        known = self.known.get(node)
        if known is None:
            self._learn(node, disk)
        return known in (None, disk)

    def hear(self, presence: Presence) -> None:
        """What another node, which is on the right disk, knows of us."""
        if presence.known == self.disk:
            self.witnesses.add(presence.sender)
        elif presence.known:
            self.refusal = Refusal(presence.sender, presence.known)

    def declare(self, disks: Mapping[int, int]) -> None:
        """The log says so: that is true for everyone, whomever we may have met first."""
        for node, disk in disks.items():
            if self.known.get(node) != disk:
                self._learn(node, disk)

    def retain(self, nodes: Collection[int]) -> None:
        """All others have left for good."""
        for node in [node for node in self.known if node not in nodes and node != self.node]:
            del self.known[node]
            self.is_fresh = True

    def admit(self) -> None:
        """All others know us: from now on we may take part."""
        self._learn(self.node, self.disk)

    @property
    def is_admitted(self) -> bool:
        return self.known.get(self.node) == self.disk

    def _learn(self, node: int, disk: int) -> None:
        self.known[node] = disk
        self.is_fresh = True
