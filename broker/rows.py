"""Rows as they lie on disk, each with a checksum, since LMDB has none."""

from __future__ import annotations

import secrets
import zlib
from pathlib import Path
from typing import Any

import msgpack

from ..peers.log import verify
from .folder import StartError

FORMAT = 5  # of the rows on disk; another number is refused. A test knows what has which number
TABLES = (b"log", b"extents", b"outcomes", b"steps", b"state", b"pins", b"notes", b"cells")
Raw = Any  # bytes, or a view of them
# Rows of `state` that are a node's own: how it writes, what it voted, on which disk it is, and on which others are.
OWN = (b"format", b"hard", b"disk", b"disks")


class CorruptRow(Exception):
    """A row on disk is not what was written: the node stops and says which one."""


def begin(txn: Any, state: Any, folder: Path) -> None:
    """In a fresh environment: say how we write, and which disk this is. Raises StartError."""
    found = txn.get(b"format", db=state)
    if found is None:
        txn.put(b"format", str(FORMAT).encode(), db=state)
    elif found != str(FORMAT).encode():
        raise StartError(
            f"{folder} is in disk format {found.decode(errors='replace')}, not in {FORMAT}",
            "start the version that wrote it, or give another data folder",
        )
    if txn.get(b"disk", db=state) is None:
        put(txn, state, b"disk", msgpack.packb(1 + secrets.randbelow(2**63 - 1)))


def key(queue_id: int, number: int) -> bytes:
    """Of a row that belongs to a queue: rows of one queue lie together, in order."""
    return queue_id.to_bytes(4, "big") + number.to_bytes(8, "big")


def put(txn: Any, db: Any, key: bytes, packed: bytes) -> None:
    """Write a row with its checksum."""
    txn.put(key, zlib.crc32(packed, zlib.crc32(key)).to_bytes(4, "big") + packed, db=db)


def unseal(key: Raw, raw: Raw, what: str) -> Raw:
    """The row without its checksum. Raises CorruptRow."""
    packed = raw[4:]
    if zlib.crc32(packed, zlib.crc32(key)) != int.from_bytes(raw[:4], "big"):
        raise CorruptRow(f"the {what} row {bytes(key).hex()} is corrupt: the checksum does not match")
    return packed


def check(table: bytes, key: Raw, raw: Raw) -> None:
    """Is this record what was written? Raises CorruptEntry or CorruptRow if a single bit is not."""
    if table == b"log":
        verify(int.from_bytes(key, "big"), raw)
    elif table != b"pins":
        unseal(key, raw, table.decode())
    elif len(raw):
        raise CorruptRow(f"the pin {bytes(key).hex()} is corrupt: it is not empty")
