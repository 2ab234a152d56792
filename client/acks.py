"""When acknowledgements leave, and what travels together. Pure: no sockets, no clock.

They leave when none of this consumer is under way, when many have gathered, or when somebody waits. What is said about
messages of one lease in the same words becomes one request with ranges of offsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..peers.errors import PenstockError

GATHER_MAX = 1_000  # messages
GATHER_BYTES = 4 * 2**20  # of results

Range = tuple[int, int]  # first offset, count


class Settlement:
    """One thing said about messages of one lease. Once `done`, `error` tells if it was refused."""

    __slots__ = ("args", "bodies", "count", "done", "error", "lease", "op", "parent", "parts", "ranges", "size", "told")

    def __init__(self, op: str, lease: int, args: Mapping[str, Any], bodies: list[bytes] | None = None) -> None:
        self.op = op
        self.lease = lease
        self.args = args
        self.bodies = bodies
        self.ranges: list[Range] = []
        self.count = 0
        self.size = 0
        self.done = False
        self.error: PenstockError | None = None
        self.told = False  # somebody has seen the error
        self.parent: Settlement | None = None
        self.parts = 0  # how many halves have no answer yet

    def add(self, ranges: Sequence[Range], bodies: Sequence[bytes] | None) -> None:
        """Say it about these messages too."""
        self.ranges += ranges
        self.count += sum(count for _, count in ranges)
        if bodies is not None and self.bodies is not None:
            self.bodies += bodies
            self.size += sum(map(len, bodies))

    def request_args(self) -> dict[str, Any]:
        """The arguments of its request."""
        # Results are listed in the order of the ranges, so those must stay as they are.
        ranges = self.ranges if self.bodies is not None else sorted(self.ranges)
        return {"lease": self.lease, "ranges": joined(ranges), **self.args}

    def halves(self) -> tuple[Settlement, Settlement]:
        """Two that say the same about half of the messages each."""
        middle = self.count // 2
        first, second = (Settlement(self.op, self.lease, self.args, None) for _ in range(2))
        if self.bodies is not None:
            first.bodies, second.bodies = self.bodies[:middle], self.bodies[middle:]
        for start, count in self.ranges:
            mine = min(count, middle - first.count)
            if mine > 0:
                first.add([(start, mine)], None)
            if count > mine:
                second.add([(start + max(mine, 0), count - max(mine, 0))], None)
        first.parent = second.parent = self
        self.parts = 2
        self.bodies = None
        return first, second

    @property
    def root(self) -> Settlement:
        """The one that this is a half of, or itself."""
        return self if self.parent is None else self.parent.root

    def end(self, error: PenstockError | None) -> None:
        """It has its answer."""
        self.error = self.error or error
        self.done = True
        self.bodies, self.ranges = None, []
        parent = self.parent
        if parent is not None:
            parent.error = parent.error or self.error
            parent.parts -= 1
            if parent.parts == 0:
                parent.end(None)


def joined(ranges: Sequence[Range]) -> list[Range]:
    """The same messages in the same order, with neighbouring ranges made one."""
    found: list[Range] = []
    for first, count in ranges:
        if found and found[-1][0] + found[-1][1] == first:
            found[-1] = (found[-1][0], found[-1][1] + count)
        else:
            found.append((first, count))
    return found


class AckBatcher:
    """What a consumer has to say, and how much of it is under way."""

    def __init__(self) -> None:
        self.gathered: list[Settlement] = []
        self.flying = 0  # requests
        self._messages = 0
        self._latest: dict[tuple[str, int], Settlement] = {}

    def add(
        self,
        op: str,
        lease: int,
        args: Mapping[str, Any],
        ranges: Sequence[Range],
        bodies: Sequence[bytes] | None = None,
    ) -> Settlement:
        """Say `op` about these messages of a lease; `bodies`: one for each of them, in the order of the ranges."""
        key = (op, lease)
        settlement = self._latest.get(key)
        if settlement is None or settlement.args != args or settlement.size >= GATHER_BYTES:
            settlement = Settlement(op, lease, args, None if bodies is None else [])
            self._latest[key] = settlement
            self.gathered.append(settlement)
        before = settlement.count
        settlement.add(ranges, bodies)
        self._messages += settlement.count - before
        return settlement

    def due(self) -> bool:
        """Shall what was gathered leave now?"""
        return bool(self.gathered) and (not self.flying or self._messages >= GATHER_MAX)

    def take(self) -> list[Settlement]:
        """All that was gathered: each is under way from now on."""
        gathered, self.gathered = self.gathered, []
        self._latest.clear()
        self._messages = 0
        self.flying += len(gathered)
        return gathered
