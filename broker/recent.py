"""Payloads of the newest log entries, so that what was just published is delivered without a look at the disk."""

from __future__ import annotations

from collections import OrderedDict


class Recent:
    """By log index, oldest out first. Bounded in bytes: a deep backlog costs disk, not memory."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.size = 0
        self._payloads: OrderedDict[int, bytes] = OrderedDict()

    def put(self, index: int, payload: bytes) -> None:
        self._payloads[index] = payload
        self.size += len(payload)

    def get(self, index: int) -> bytes | None:
        return self._payloads.get(index)

    def trim(self) -> None:
        """Between turns only: within a turn its own entries are not on disk yet."""
        while self.size > self.size_max:
            self.size -= len(self._payloads.popitem(last=False)[1])
