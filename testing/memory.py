"""A disk in memory: rows and entries as the store of a daemon keeps them, without LMDB and without a file."""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from typing import Any

import msgpack

from ..broker.checkpoint import Checkpoint, Writes
from ..broker.extents import Extent, Outcome
from ..broker.notes import Note, note_of
from ..peers.log import CorruptEntry, Entry, HardState, decode, encode


class MemoryDisk:
    """What a node reads from and writes to. A turn is kept whole or not at all. `room`: what `room_bytes` answers."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.room = room
        self.hard = HardState(0, 0)
        self.meta: bytes | None = None
        self.log: dict[int, bytes] = {}
        self.queues: dict[int, bytes] = {}
        self.sessions: dict[int, bytes] = {}
        self.extents: dict[tuple[int, int], bytes] = {}
        self.outcomes: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.steps: dict[tuple[int, int], bytes] = {}
        self.cell_rows: dict[bytes, bytes] = {}
        self.notes: dict[tuple[int, int], bytes] = {}
        self.consensus: bytes | None = None
        self.pins: set[int] = set()
        self.floor = 0
        self._sorted: dict[str, list[tuple[int, int]]] = {}  # the keys of a table, in order, until the next checkpoint

    def copy(self) -> MemoryDisk:
        return copy.deepcopy(self)

    # -- writing ------------------------------------------------------------------------------------------------------

    def commit(self, writes: Writes) -> None:
        if writes.truncate_from is not None:
            for index in [index for index in self.log if index >= writes.truncate_from]:
                del self.log[index]
        for entry in writes.entries:
            assert entry.index not in self.log, "an entry is written once"
            self.log[entry.index] = encode(entry)
        if writes.hard is not None:
            self.hard = writes.hard
        if writes.checkpoint is not None:
            self.save(writes.checkpoint)

    def save(self, made: Checkpoint) -> None:
        for queue_id, extent in made.extents:
            self.extents[queue_id, extent.first] = msgpack.packb(extent)
        for queue_id, home, step in made.steps:
            self.steps[queue_id, home] = msgpack.packb(step)
            for outcome in step:
                self.outcomes[queue_id, outcome.first] = (outcome.first, outcome.count, home)
        self.cell_rows |= {key: value for key, value in made.cells.items() if value is not None}
        for key in [key for key, value in made.cells.items() if value is None]:
            self.cell_rows.pop(key, None)
        for queue_id, notes, gone in made.notes:
            for first in gone:
                del self.notes[queue_id, first]
            for note in notes:
                self.notes[queue_id, note.first] = msgpack.packb(note)
        self.queues |= made.queues
        self.sessions |= made.sessions
        self.meta = made.meta
        for row in made.gone.extents:
            self.extents.pop(row, None)
        for queue_id, home, firsts in made.gone.steps:
            self.steps.pop((queue_id, home), None)
            for first in firsts:
                self.outcomes.pop((queue_id, first), None)
        for queue_id in made.gone.queues:
            self.queues.pop(queue_id, None)
        for session_id in made.gone.sessions:
            self.sessions.pop(session_id, None)
        self.consensus = made.consensus
        self.pins |= {index for index in made.kept if index > made.floor}
        for index in made.gone.homes:
            self.pins.discard(index)
            if index <= self.floor:
                self.log.pop(index, None)
        for index in range(self.floor + 1, made.floor + 1):
            if index not in made.kept and index not in self.pins:
                self.log.pop(index, None)
            self.pins.discard(index)
        self.floor = made.floor
        self._sorted = {}

    # -- what a start reads -------------------------------------------------------------------------------------------

    def rows(self) -> tuple[bytes | None, list[bytes], list[bytes]]:
        """(meta, queues, sessions), in the order of their keys, as a B-tree gives them."""
        return (
            self.meta,
            [row for _, row in sorted(self.queues.items())],
            [row for _, row in sorted(self.sessions.items())],
        )

    def replay(self) -> list[Entry]:
        return [decode(index, raw) for index, raw in sorted(self.log.items()) if index > self.floor]

    # -- Reader and Disk ----------------------------------------------------------------------------------------------

    def _below(self, table: str, queue_id: int, number: int) -> Any:
        """The row at this place, or the next one below it."""
        keys = self._keys(table)
        at = bisect_right(keys, (queue_id, number)) - 1
        return getattr(self, table)[keys[at]] if at >= 0 and keys[at][0] == queue_id else None

    def _from(self, table: str, queue_id: int, number: int) -> int | None:
        """Where the row at this place is, or the next one above it."""
        keys = self._keys(table)
        at = bisect_left(keys, (queue_id, number))
        return keys[at][1] if at < len(keys) and keys[at][0] == queue_id else None

    def _keys(self, table: str) -> list[tuple[int, int]]:
        keys = self._sorted.get(table)
        if keys is None:
            keys = self._sorted[table] = sorted(getattr(self, table))
        return keys

    def extent(self, queue_id: int, offset: int) -> Extent | None:
        raw = self._below("extents", queue_id, offset)
        return None if raw is None else Extent(*msgpack.unpackb(raw, use_list=False))

    def outcome(self, queue_id: int, offset: int) -> tuple[int, int, int] | None:
        found: tuple[int, int, int] | None = self._below("outcomes", queue_id, offset)
        return found

    def next_outcome(self, queue_id: int, offset: int) -> int | None:
        return self._from("outcomes", queue_id, offset)

    def step(self, queue_id: int, home: int) -> list[Outcome] | None:
        raw = self.steps.get((queue_id, home))
        return None if raw is None else [Outcome(*fields) for fields in msgpack.unpackb(raw, use_list=False)]

    def next_step(self, queue_id: int, after: int) -> int | None:
        return self._from("steps", queue_id, after + 1)

    def note(self, queue_id: int, offset: int) -> Note | None:
        raw = self._below("notes", queue_id, offset)
        return None if raw is None else note_of(msgpack.unpackb(raw, use_list=False))

    def next_note(self, queue_id: int, offset: int) -> int | None:
        return self._from("notes", queue_id, offset)

    def cell(self, key: bytes) -> bytes | None:
        return self.cell_rows.get(key)

    def cells(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = sorted(key for key in self.cell_rows if key.startswith(prefix) and key > after)
        return [(key, self.cell_rows[key]) for key in found[:limit]]

    def entries(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        return [decode(index, self.log[index]) for index in range(first, last + 1)]

    def payload(self, index: int) -> bytes:
        raw = self.log.get(index)
        if raw is None:
            raise CorruptEntry(index, "it is missing")
        return decode(index, raw).payload

    def room_bytes(self) -> int:
        return self.room

    def usage(self) -> dict[str, Any]:
        used_bytes = sum(map(len, self.log.values()))
        return {"used_bytes": used_bytes, "map_bytes": 1 << 40, "room_bytes": self.room, "full": self.room == 0}
