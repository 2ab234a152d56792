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
PIECE_RECORDS = 2000  # small ones cost time, not bytes, and a turn must be short
RECORD = struct.Struct(">BHI")  # table, length of the key, length of the value

_LOG, _STATE = TABLES.index(b"log"), TABLES.index(b"state")


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
        self._txn = env.begin()
        self._dbs = dbs
        try:
            self.index = msgpack.unpackb(self._state(b"meta"))["applied"]
            consensus = unpack_consensus(self._state(b"consensus"))
            self.index_term = consensus.term
            self._last = self.index.to_bytes(8, "big")
            if self.index > consensus.floor:
                raw = self._txn.get(self._last, db=dbs[_LOG])
                self.index_term = decode(self.index, raw or b"").term
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
        parts: list[bytes] = []
        size = count = 0
        table, start, records, digest = place
        while table < len(TABLES):
            cursor = self._txn.cursor(self._dbs[table])
            for key, value in cursor if cursor.set_range(start) else ():
                if table == _STATE and key in OWN:
                    continue
                if table == _LOG and key > self._last:
                    break  # what is behind that may never be committed
                size += RECORD.size + len(key) + len(value)
                if count and (size > PIECE_BYTES or count == PIECE_RECORDS):
                    payload = b"".join(parts)
                    return payload, _Place(table, key, records + count, chain(digest, payload))
                check(TABLES[table], key, value)
                parts += (RECORD.pack(table, len(key), len(value)), key, value)
                count += 1
            table, start = table + 1, b""
        payload = b"".join(parts)
        return payload, _Place(table, b"", records + count, chain(digest, payload))
