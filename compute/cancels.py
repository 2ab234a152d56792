"""A small shared file in which the supervisor writes which jobs were cancelled, for those who run them to look at.

A process in the middle of a job hears no messages. It reads memory: that costs a job nothing while none is cancelled.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_COUNT = struct.Struct("<Q")
_ENTRY = struct.Struct("<QQ")  # batch, place
ENTRIES_MAX = 16_384  # a pool holds no more jobs than that


class Cancels:
    """Cancelled jobs of one world, by batch and place. One process writes, any number read."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _COUNT.size + ENTRIES_MAX * _ENTRY.size)
        self._written = 0

    @classmethod
    def create(cls, path: Path) -> Cancels:
        path.write_bytes(bytes(_COUNT.size + ENTRIES_MAX * _ENTRY.size))
        return cls(path)

    def add(self, batch: int, place: int) -> None:
        """This job was cancelled."""
        at = self._written % ENTRIES_MAX  # the oldest makes room: who has not looked by now is killed at its grace
        _ENTRY.pack_into(self._map, _COUNT.size + at * _ENTRY.size, batch, place)
        self._written += 1
        _COUNT.pack_into(self._map, 0, min(self._written, ENTRIES_MAX))  # last: who reads it finds the entry

    def clear(self) -> None:
        """None of these jobs is in hand any more."""
        if self._written:
            self._written = 0
            _COUNT.pack_into(self._map, 0, 0)

    @property
    def empty(self) -> bool:
        return not _COUNT.unpack_from(self._map)[0]

    def holds(self, batch: int, place: int) -> bool:
        """Was this job cancelled?"""
        (count,) = _COUNT.unpack_from(self._map)
        if not count:
            return False
        entry, end = _ENTRY.pack(batch, place), _COUNT.size + count * _ENTRY.size
        at = self._map.find(entry, _COUNT.size, end)
        while at >= 0 and (at - _COUNT.size) % _ENTRY.size:  # parts of two entries that look like it
            at = self._map.find(entry, at + 1, end)
        return at >= 0

    def close(self) -> None:
        self._map.close()
