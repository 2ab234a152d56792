"""Payloads of log entries, from memory or from disk, and where in them each message lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..peers.raft.core import Raft
from ..peers.splice import Bounds, bounds_of

WEIGHT_MAX: Final = 1 << 20  # numbers that are remembered: 8 MiB of them


class Payloads:
    """Called with the index of a log entry: its payload. Raises CorruptEntry."""

    def __init__(self, raft: Raft, stored: Callable[[int], bytes]) -> None:
        self._raft, self._stored = raft, stored
        self._bounds: dict[int, Bounds] = {}
        self._weight = 0

    def __call__(self, index: int) -> bytes:
        entry = self._raft.tail.recent(index)
        return entry.payload if entry is not None else self._stored(index)

    def bounds(self, index: int, payload: bytes) -> Bounds:
        """Where the messages of this entry's payload lie. A batch of which many are taken one by one, by their due
        times, say, is looked through once."""
        found = self._bounds.get(index)
        if found is None:
            if self._weight > WEIGHT_MAX:
                self._bounds, self._weight = {}, 0
            self._bounds[index] = found = bounds_of(payload)
            self._weight += found.weight
        return found
