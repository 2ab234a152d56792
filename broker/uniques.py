"""Ids that producers gave to messages: none is taken twice while its job is known."""

from __future__ import annotations

from collections.abc import Iterable

import msgpack

from .extents import Reader

IDS, ENDS = b"i", b"e"  # how the keys of cells begin: an id, and when its time ends


class Uniques:
    """The ids of one queue: where each lies, and until when it is kept. The newest are not on disk yet."""

    __slots__ = ("_gone", "_queue", "_reader", "_recent", "count")

    def __init__(self, queue_id: int, reader: Reader) -> None:
        self._queue = queue_id.to_bytes(4, "big")
        self._reader = reader
        self._recent: dict[str, tuple[int, int]] = {}  # (offset, until_ms)
        self._gone: dict[str, tuple[int, int]] = {}  # which the disk still has
        self.count = 0

    def find(self, id: str) -> tuple[int, int] | None:
        """(offset, until_ms) of the message that has this id."""
        found = self._recent.get(id)
        if found is not None or not self.count or id in self._gone:
            return found
        raw = self._reader.cell(IDS + self._queue + id.encode())
        return None if raw is None else msgpack.unpackb(raw, use_list=False)

    def put(self, id: str, offset: int, until_ms: int) -> None:
        """The message at `offset` has this id, and what had it before is forgotten."""
        self.remove(id)
        self._recent[id] = (offset, until_ms)
        self.count += 1

    def remove(self, id: str) -> None:
        """The id is free."""
        found = self.find(id)
        if found is None:
            return
        self.count -= 1
        if self._recent.pop(id, None) is None:
            self._gone[id] = found
        elif (raw := self._reader.cell(IDS + self._queue + id.encode())) is not None and id not in self._gone:
            self._gone[id] = msgpack.unpackb(raw, use_list=False)

    def ended(self, now_ms: int, limit: int) -> list[str]:
        """Ids whose time is over, as far as the disk knows them: at most `limit`, the oldest first."""
        if not self.count:
            return []
        found: list[str] = []
        prefix = ENDS + self._queue
        for key, _ in self._reader.cells(prefix, b"", limit):
            if int.from_bytes(key[len(prefix) : len(prefix) + 8], "big") > now_ms:
                break
            found.append(key[len(prefix) + 8 :].decode())
        return found

    def all_keys(self) -> Iterable[bytes]:
        """The keys of every cell that the disk has, for a queue that is deleted."""
        for prefix in (IDS + self._queue, ENDS + self._queue):
            after = b""
            while some := self._reader.cells(prefix, after, 1000):
                yield from (key for key, _ in some)
                after = some[-1][0]

    def take_changes(self) -> dict[bytes, bytes | None]:
        """Cells to write, and (None) to delete."""
        cells: dict[bytes, bytes | None] = {}
        for id, (_, until_ms) in self._gone.items():
            cells[IDS + self._queue + id.encode()] = None
            cells[self._end_key(id, until_ms)] = None
        for id, found in self._recent.items():
            cells[IDS + self._queue + id.encode()] = msgpack.packb(found)
            cells[self._end_key(id, found[1])] = b""
        self._recent, self._gone = {}, {}
        return cells

    def _end_key(self, id: str, until_ms: int) -> bytes:
        return ENDS + self._queue + until_ms.to_bytes(8, "big") + id.encode()
