"""Ids that producers gave to messages: none is taken twice while its job is known."""

from __future__ import annotations

from typing import NamedTuple

import msgpack

from .extents import Reader

SWEPT_MAX = 500  # ids of a deleted queue that one command forgets
IDS, LOOKS = b"i", b"l"  # how the keys of cells begin: an id, and when to look at it


class Known(NamedTuple):
    """The message at `offset` has the id. It is not given again until `until_ms`; at `look_ms` it may be forgotten."""

    offset: int
    until_ms: int
    look_ms: int


class Uniques:
    """The ids of one queue, and what is known of each. The newest are not on disk yet."""

    __slots__ = ("_gone", "_queue", "_reader", "_recent", "_swept", "count")

    def __init__(self, queue_id: int, reader: Reader) -> None:
        self._queue = queue_id.to_bytes(4, "big")
        self._reader = reader
        self._recent: dict[str, Known] = {}
        self._gone: dict[str, Known] = {}  # which the disk still has
        self._swept = b""  # of a queue that is deleted: ids up to this key on disk are gone
        self.count = 0

    def find(self, id: str) -> Known | None:
        """What is known of an id."""
        found = self._recent.get(id)
        if found is not None or not self.count or id in self._gone:
            return found
        return self._on_disk(id)

    def _on_disk(self, id: str) -> Known | None:
        raw = self._reader.cell(IDS + self._queue + id.encode())
        return None if raw is None else Known(*msgpack.unpackb(raw))

    def put(self, id: str, known: Known) -> None:
        """A message has this id, and what had it before is forgotten."""
        self.remove(id)
        self._recent[id] = known
        self.count += 1

    def remove(self, id: str) -> None:
        """The id is free."""
        found = self.find(id)
        if found is None:
            return
        self.count -= 1
        if self._recent.pop(id, None) is None:
            self._gone[id] = found
        elif id not in self._gone and (older := self._on_disk(id)) is not None:
            self._gone[id] = older

    def overdue(self, now_ms: int, limit: int) -> list[str]:
        """Ids to look at, as far as the disk knows them: at most `limit`, the oldest first."""
        if not self.count:
            return []
        found: list[str] = []
        prefix = LOOKS + self._queue
        for key, _ in self._reader.cells(prefix, b"", limit):
            if int.from_bytes(key[len(prefix) : len(prefix) + 8], "big") > now_ms:
                break
            found.append(key[len(prefix) + 8 :].decode())
        return found

    def sweep(self) -> int:
        """Forget SWEPT_MAX ids, or those that are left, of a queue that is deleted. Returns how many that were.

        Which ones go first depends on what the disk of a node has already: nobody asks for any of them any more.
        """
        count = min(SWEPT_MAX, self.count)
        self.count -= count
        left = count
        while left and self._recent:
            self._recent.popitem()  # if the disk knows it from before, it is among the gone already
            left -= 1
        prefix = IDS + self._queue
        while left and (some := self._reader.cells(prefix, self._swept, left)):
            for key, raw in some:
                id = key[len(prefix) :].decode()
                if id not in self._gone:
                    self._gone[id] = Known(*msgpack.unpackb(raw))
                    left -= 1
            self._swept = some[-1][0]
        return count

    def take_changes(self) -> dict[bytes, bytes | None]:
        """Cells to write, and (None) to delete."""
        cells: dict[bytes, bytes | None] = {}
        for id, known in self._gone.items():
            cells[IDS + self._queue + id.encode()] = None
            cells[self._look_key(id, known.look_ms)] = None
        for id, known in self._recent.items():
            cells[IDS + self._queue + id.encode()] = msgpack.packb(known)
            cells[self._look_key(id, known.look_ms)] = b""
        self._recent, self._gone = {}, {}
        return cells

    def _look_key(self, id: str, look_ms: int) -> bytes:
        return LOOKS + self._queue + look_ms.to_bytes(8, "big") + id.encode()
