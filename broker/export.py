"""A snapshot, piece by piece, as one LMDB read transaction sees it: the last checkpoint, and the entries up to it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgpack

from ..peers.log import decode
from .checkpoint import unpack_consensus
from .rows import FORMAT, OWN, TABLES, check, unseal
from .snapshots import chain

PIECE_BYTES = 1 << 20  # about; a larger record is a piece of its own
RECORD = struct.Struct(">BHI")  # table, length of the key, length of the value

_STATE = TABLES.index(b"state")


class _Place(NamedTuple):
    """Where a piece begins, and what came before it."""

    table: int
    key: bytes
    records: int
    digest: bytes


class Export:
    """Everything of a node that all nodes have alike. While this is open, the pages it sees are not used again.

    The first piece says what is to come, the last one proves that all of it did; those between are whole records.
    """

    def __init__(self, env: Any, dbs: tuple[Any, ...], used_bytes: int) -> None:
        """`dbs`: in the order of TABLES. Raises CorruptRow or CorruptEntry."""
        self._txn = env.begin(buffers=True)
        self._dbs = dbs
        try:
            self.index = msgpack.unpackb(self._state(b"meta"))["applied"]
            consensus = unpack_consensus(self._state(b"consensus"))
            self.index_term = consensus.term
            if self.index > consensus.floor:
                raw = self._txn.get(self.index.to_bytes(8, "big"), db=dbs[0])
                self.index_term = decode(self.index, bytes(raw or b"")).term
        except BaseException:
            self.close()
            raise
        self._head: bytes = msgpack.packb((FORMAT, used_bytes))
        self._places = [_Place(0, b"", 0, chain(b"", self._head))]

    def _state(self, key: bytes) -> bytes:
        raw = self._txn.get(key, db=self._dbs[_STATE])
        assert raw is not None, "there is no checkpoint yet, so nothing is gone that anybody could lack"
        return bytes(unseal(key, raw, "state"))

    @property
    def is_open(self) -> bool:
        return self._txn is not None

    def close(self) -> None:
        """The pages are free again."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None

    @property
    def known(self) -> int:
        """Pieces up to this number may be asked for; each new one makes the next one known."""
        return len(self._places)

    def piece(self, number: int) -> tuple[bytes, bool]:
        """(payload, whether it is the last one), the same each time. Raises CorruptRow or CorruptEntry."""
        if number == 0:
            return self._head, False
        place = self._places[number - 1]
        if place.table == len(TABLES):
            return msgpack.packb((place.records, place.digest)), True
        payload, following = self._cut(place)
        if number == len(self._places):
            self._places.append(following)
        return payload, False

    def _cut(self, place: _Place) -> tuple[bytes, _Place]:
        parts: list[Any] = []
        size = 0
        table, start, records, digest = place
        while table < len(TABLES):
            cursor = self._txn.cursor(self._dbs[table])
            for key, value in cursor if cursor.set_range(start) else ():
                if not self._is_wanted(table, key):
                    continue
                size += RECORD.size + len(key) + len(value)
                if parts and size > PIECE_BYTES:
                    payload = b"".join(parts)
                    return payload, _Place(table, bytes(key), records, chain(digest, payload))
                check(TABLES[table], key, value)
                parts += (RECORD.pack(table, len(key), len(value)), key, value)
                records += 1
            table, start = table + 1, b""
        payload = b"".join(parts)
        return payload, _Place(table, b"", records, chain(digest, payload))

    def _is_wanted(self, table: int, key: Any) -> bool:
        if table == 0:
            return bool(int.from_bytes(key, "big") <= self.index)  # what is behind may never be committed
        return table != _STATE or bytes(key) not in OWN
