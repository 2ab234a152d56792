"""A map that lies in memory as a whole, and of which a checkpoint writes what changed alone: each value in its cell."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgpack

Value = TypeVar("Value")
Key = tuple[int, ...]


class CellMap(Generic[Value]):
    """Values by keys of so many `numbers`. `make` makes a value of what msgpack made of it."""

    __slots__ = ("_changed", "_make", "_packing", "values")

    def __init__(self, numbers: int, make: Callable[[Any], Value]) -> None:
        self.values: dict[Key, Value] = {}  # to look at; `put` and `pop` change it
        self._make = make
        self._packing = struct.Struct(f">{numbers}Q")
        self._changed: set[Key] = set()

    def put(self, key: Key, value: Value) -> None:
        """This is the value from now on."""
        self.values[key] = value
        self._changed.add(key)

    def pop(self, key: Key) -> Value | None:
        """Take the value out; None if there is none."""
        value = self.values.pop(key, None)
        if value is not None:
            self._changed.add(key)
        return value

    def clear(self) -> None:
        """Nothing is left."""
        self._changed.update(self.values)
        self.values.clear()

    def take_changes(self, prefix: bytes) -> dict[bytes, bytes | None]:
        """The cells to write, by key, and (None) those to delete."""
        changed, self._changed = self._changed, set()
        return {
            prefix + self._packing.pack(*key): msgpack.packb(self.values[key]) if key in self.values else None
            for key in sorted(changed)
        }

    def restore(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Fill an empty map with what the disk has."""
        for key, raw in cells:
            self.values[self._packing.unpack(key)] = self._make(msgpack.unpackb(raw, use_list=False))

    def pack(self) -> list[tuple[Key, Value]]:
        """Everything, for a fingerprint."""
        return sorted(self.values.items())
