"""A small shared file in which each rank writes what it runs: who finds it dead knows which job to suspect."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import NamedTuple

_SLOT = struct.Struct("<QQQQ")  # batch (0: idle), first, size, start in monotonic ns (one clock for all)
_SLOT_BYTES = 64  # a cache line each: ranks do not slow each other down


class Running(NamedTuple):
    """What a rank is at: jobs `first` to `first + size` of a batch, since `started_ns`."""

    batch: int
    first: int
    size: int
    started_ns: int


def helper_slot(rank: int) -> int:
    """Where the helper of a rank writes. Each slot has one writer: another one's marks are never wiped out."""
    return 2 * rank


def member_slot(rank: int) -> int:
    """Where the rank itself writes, of its part in a collective job."""
    return 2 * rank + 1


class Slots:
    """Two slots for each rank of a world."""

    def __init__(self, path: Path, ranks: int) -> None:
        self._size = 2 * ranks
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._size * _SLOT_BYTES)

    @classmethod
    def create(cls, path: Path, ranks: int) -> Slots:
        path.write_bytes(bytes(2 * ranks * _SLOT_BYTES))
        return cls(path, ranks)

    def mark(self, slot: int, batch: int, first: int, size: int) -> None:
        _SLOT.pack_into(self._map, slot * _SLOT_BYTES, batch, first, size, time.monotonic_ns())

    def clear(self, slot: int) -> None:
        _SLOT.pack_into(self._map, slot * _SLOT_BYTES, 0, 0, 0, 0)

    def read(self, slot: int) -> Running | None:
        running = Running(*_SLOT.unpack_from(self._map, slot * _SLOT_BYTES))
        return running if running.batch else None

    def read_all(self) -> list[Running]:
        return [running for slot in range(self._size) if (running := self.read(slot)) is not None]

    def close(self) -> None:
        self._map.close()
